"""Loading Stable Diffusion: tiny models of its layout, saved and loaded through the real path."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from depthlight.core.errors import CheckpointError, DepthlightWarning, InputError, UnknownNameError  # noqa: E402
from depthlight.nets.prior import stable_diffusion as sd  # noqa: E402
from depthlight.nets.prior.stable_diffusion import letterbox, load_stable_diffusion  # noqa: E402
from depthlight.nets.snapshots import find_snapshot  # noqa: E402


@pytest.mark.parametrize("size", [(8, 16), (16, 8), (16, 16), (32, 64), (5, 16)])
def test_letterbox_is_centred_on_black(size):
    """A white picture becomes a white box of its shape in the middle of a black square."""
    square = letterbox(torch.ones(1, 3, *size), 16)
    assert square.shape == (1, 3, 16, 16)
    height, width = (round(side * 16 / max(size)) for side in size)
    expected = torch.zeros(16, 16)
    top, left = (16 - height) // 2, (16 - width) // 2
    expected[top : top + height, left : left + width] = 1
    torch.testing.assert_close(square[0, 1], expected)


def test_letterbox_leaves_a_square_of_the_right_size_alone():
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(letterbox(image, 16), image)


def test_letterbox_gradient():
    image = torch.rand(1, 3, 5, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: letterbox(x, 6), image)


def test_v_prediction_gives_the_noise(copied, alpha_bar):
    """v of the true latent and noise leads back to that noise, for a UNet that knows the truth."""
    path = copied / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    model = load_stable_diffusion(copied)
    assert model.prediction == "v_prediction"
    latent, noise = torch.randn(2, 2, 4, 8, 8).unbind()
    steps = torch.tensor([30, 500])
    a = torch.tensor([alpha_bar(30), alpha_bar(500)]).float().view(-1, 1, 1, 1)
    model.unet.forward = lambda *args, **kwargs: (a.sqrt() * noise - (1 - a).sqrt() * latent,)
    text = model.embed("a").repeat(2, 1, 1)
    torch.testing.assert_close(model.predict_noise(latent, noise, steps, text), noise, rtol=1e-4, atol=1e-5)


def test_half_size_files_are_found(copied):
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (copied / part / f"{stem}.safetensors").rename(copied / part / f"{stem}.fp16.safetensors")
    model = load_stable_diffusion(copied)
    assert [name for name in model.snapshot.chosen if "fp16" in name] == [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
    ]


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(prior):
    with pytest.warns(DepthlightWarning, match="only the first 12 count"):
        long = prior.embed("a b c d e f g h i j k l m n")
    assert torch.equal(long, prior.embed("a b c d e f g h i j"))


def test_fp16_on_a_cpu_is_refused(folder):
    with pytest.raises(InputError, match=r"fp16 does not run on a CPU.*bf16"):
        load_stable_diffusion(folder, precision="fp16")
    with pytest.raises(UnknownNameError, match="precision"):
        load_stable_diffusion(folder, precision="int8")


def test_the_gone_id_of_the_official_example_names_its_heir(tmp_path, monkeypatch):
    import huggingface_hub as hub

    def unreachable(*args, **kwargs):
        raise OSError

    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.HfApi, "model_info", unreachable)
    with pytest.raises(CheckpointError, match="Use stable-diffusion-v1-5/stable-diffusion-v1-5") as caught:
        load_stable_diffusion("runwayml/stable-diffusion-v1-5")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include"):
        load_stable_diffusion("sd-1.5")


def test_the_short_name_asks_for_the_living_id(folder, monkeypatch):
    asked = []

    def find(source, files):
        asked.append(source)
        return find_snapshot(folder, files)

    monkeypatch.setattr(sd, "find_snapshot", find)
    assert load_stable_diffusion("sd-1.5").size == 16
    assert asked == ["stable-diffusion-v1-5/stable-diffusion-v1-5"]


def test_the_key_names_of_the_published_files_are_read(folder, copied):
    """SD 1.5's files are older than the libraries: attention of the VAE and the text encoder were named otherwise."""
    from safetensors.torch import load_file, save_file

    path = copied / "vae" / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, value in load_file(path).items():
        for new, old in older.items():
            key = key.replace(new, old) if ".attentions." in key else key
        state[key] = value
    save_file(state, path, metadata={"format": "pt"})

    path = copied / "text_encoder" / "model.safetensors"
    state = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(path).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    save_file(state, path, metadata={"format": "pt"})

    old, new = load_stable_diffusion(copied), load_stable_diffusion(folder)
    image, noise = torch.rand(1, 3, 16, 16), torch.randn(1, 4, 8, 8)
    assert torch.equal(old.encode(image, noise), new.encode(image, noise))
    assert torch.equal(old.embed("a cat"), new.embed("a cat"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root, unet: (root / "unet" / "config.json").unlink(), "has no unet/config.json"),
        (
            lambda root, unet: (root / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"no"),
            "vae cannot be loaded",
        ),
        (lambda root, unet: (root / "scheduler" / "scheduler_config.json").write_text("{"), "is damaged"),
        (
            lambda root, unet: (root / "scheduler" / "scheduler_config.json").write_text(
                '{"prediction_type": "sample"}'
            ),
            "predicts sample",
        ),
        (
            lambda root, unet: (root / "scheduler" / "scheduler_config.json").write_text(
                '{"_class_name": "FlowMatchEulerDiscreteScheduler"}'
            ),
            "FlowMatch",
        ),
        (lambda root, unet: unet(in_channels=9).save_pretrained(root / "unet"), "takes 9 channels"),
        (
            lambda root, unet: unet(cross_attention_dim=8).save_pretrained(root / "unet"),
            "reads 8 text channels, not 16",
        ),
        (
            lambda root, unet: unet(class_embed_type="timestep").save_pretrained(root / "unet"),
            "wants further inputs",
        ),
        (
            lambda root, unet: (root / "unet" / "diffusion_pytorch_model.safetensors").rename(
                root / "unet" / "diffusion_pytorch_model.bin"
            ),
            "which can carry code",
        ),
    ],
)
def test_foreign_and_damaged_folders_end_in_one_line(copied, make_unet, damage, said):
    damage(copied, make_unet)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_stable_diffusion(copied)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_not_filled_with_random_ones(copied):
    from safetensors.torch import load_file, save_file

    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state.pop("conv_in.weight")
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"unet.*conv_in\.weight"):
        load_stable_diffusion(copied)
