"""Depth networks of transformers: tiny ones of each kind, saved and loaded through the real path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from depthlight.core.errors import CheckpointError, InputError, UnknownNameError  # noqa: E402
from depthlight.core.registry import MONO_HUB  # noqa: E402
from depthlight.infer.mono import load_mono  # noqa: E402
from depthlight.nets.mono import hub  # noqa: E402
from depthlight.nets.mono.depth_anything import DepthAnythingNet  # noqa: E402
from depthlight.nets.mono.hub import load_hub_mono  # noqa: E402
from depthlight.nets.mono.transformers_depth import TransformersDepthNet, quantity_of  # noqa: E402
from depthlight.nets.snapshots import find_snapshot  # noqa: E402

VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}


def depth_anything(folder: Path, **changes) -> Path:
    backbone = transformers.Dinov2Config(
        **VIT, image_size=70, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 12, 16, 20],
        fusion_hidden_size=8,
        head_hidden_size=4,
        **changes,
    )
    return save(transformers.DepthAnythingForDepthEstimation(config), folder)


def save(model, folder: Path, processor=None) -> Path:
    """With positive biases at the end, so that a tiny random network does not answer 0 everywhere."""
    for name, parameter in model.named_parameters():
        if name.startswith("head") and name.endswith("bias"):
            torch.nn.init.constant_(parameter, 0.5)
    model.eval().save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder


def dpt(folder: Path) -> Path:
    config = transformers.DPTConfig(
        **VIT,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    processor = transformers.DPTImageProcessor(size={"height": 32, "width": 32}, keep_aspect_ratio=False)
    return save(transformers.DPTForDepthEstimation(config), folder, processor)


def glpn(folder: Path) -> Path:
    config = transformers.GLPNConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8
    )
    return save(transformers.GLPNForDepthEstimation(config), folder, transformers.GLPNImageProcessor())


def zoedepth(folder: Path) -> Path:
    backbone = transformers.BeitConfig(
        **VIT, image_size=32, patch_size=8, out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        backbone_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 4, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
    )
    processor = transformers.ZoeDepthImageProcessor(
        size={"height": 32, "width": 32}, keep_aspect_ratio=False, ensure_multiple_of=8
    )
    return save(transformers.ZoeDepthForDepthEstimation(config), folder, processor)


def depth_pro(folder: Path, *, sees_fov: bool = True) -> Path:
    part = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    config = transformers.DepthProConfig(
        patch_size=16,
        fusion_hidden_size=8,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[8, 8],
        image_model_config={"model_type": "dinov2", "patch_size": 4, **part},
        patch_model_config={"model_type": "vit", "patch_size": 4, **part},
        fov_model_config={"model_type": "vit", "patch_size": 4, **part},
        use_fov_model=sees_fov,
    )
    processor = transformers.DepthProImageProcessor(size={"height": 64, "width": 64})
    model = transformers.DepthProForDepthEstimation(config)
    if sees_fov:
        last = [parameter for name, parameter in model.fov_model.named_parameters() if name.endswith("bias")][-1]
        torch.nn.init.constant_(last, 45.0)  # degrees
    return save(model, folder, processor)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> DepthAnythingNet:
    torch.manual_seed(0)
    found = load_hub_mono(depth_anything(tmp_path_factory.mktemp("da"))).net
    assert isinstance(found, DepthAnythingNet)
    return found


@pytest.fixture
def image():
    return torch.rand(2, 3, 56, 84, generator=torch.Generator().manual_seed(0))


def normalised(image):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_encode_and_decode_are_the_whole(net, image):
    whole = net.model(normalised(image)).predicted_depth.unsqueeze(1)
    tokens = net.encode(image)
    assert [tuple(map_.shape) for map_ in tokens] == [(2, 16, 4, 6)] * 4
    assert torch.equal(net.decode(tokens, (56, 84)), whole)
    assert torch.equal(net(image), whole)
    assert whole.std() > 0
    assert (net.quantity, net.multiple, net.splits) == ("inverse_depth", 14, True)
    assert whole.min() >= 0


def test_tokens_are_maps_of_the_picture(net, image):
    """The columns of a token map are those of the picture: the class token is off, rows come before columns."""
    net.double()
    tokens = net.encode(image.double())
    hidden = net.model.backbone(normalised(image.double())).feature_maps
    for map_, rows in zip(tokens, hidden, strict=True):
        torch.testing.assert_close(map_[0, :, 2, 3], rows[0, 1 + 2 * 6 + 3])
    net.float()


def test_gradients_reach_tokens_and_head_and_nothing_before(net, image):
    tokens = [map_.detach().requires_grad_() for map_ in net.encode(image)]
    net.zero_grad()
    net.decode(tokens, (56, 84)).mean().backward()
    assert all(map_.grad.abs().sum() > 0 for map_ in tokens)
    head = {id(parameter) for parameter in net.head_parameters()}
    with_gradient = {id(parameter) for parameter in net.parameters() if parameter.grad is not None}
    # the first fusion layer has no residual to work on, so one of its units is never used
    assert with_gradient <= head
    assert len(with_gradient) >= len(head) - 4
    assert head & {id(parameter) for parameter in net.model.backbone.parameters()} == set()
    net.zero_grad()


def test_sizes_that_do_not_fit_are_refused(net, image):
    with pytest.raises(InputError, match="multiples of 14"):
        net.encode(image[..., :50])
    with pytest.raises(InputError, match="expected 56x84"):
        net.decode(net.encode(image), (84, 56))


def test_metric_variants_give_metres(tmp_path, image):
    found = load_hub_mono(depth_anything(tmp_path, depth_estimation_type="metric", max_depth=20)).net
    assert found.quantity == "depth"
    assert 0 < found(image).max() <= 20
    assert found(image).mean() > 1


def test_provenance(tmp_path):
    found = load_hub_mono(depth_anything(tmp_path))
    assert found.snapshot.source == str(tmp_path)
    assert len(found.snapshot.weights_sha256()) == 64


@pytest.mark.parametrize("name", MONO_HUB)
def test_short_names_ask_for_the_right_model(name, tmp_path, monkeypatch):
    asked = []
    depth_anything(tmp_path)

    def find(source, files):
        asked.append(source)
        return find_snapshot(tmp_path, files)

    monkeypatch.setattr(hub, "find_snapshot", find)
    assert load_hub_mono(name).net.family == "depth-anything"
    assert asked == [f"depth-anything/Depth-Anything-V2-{name.rsplit('-', 1)[1].title()}-hf"]


@pytest.mark.parametrize("make", [dpt, glpn, zoedepth, depth_pro])
def test_answers_are_those_of_transformers_own_pipeline(make, tmp_path):
    """At another size than the network's own, in the image's size."""
    torch.manual_seed(1)
    folder = make(tmp_path)
    quantity = "inverse_depth" if make is dpt else None
    found = load_hub_mono(folder, quantity=quantity).net
    assert isinstance(found, TransformersDepthNet)
    assert found.quantity == (quantity or "depth")
    assert not found.splits
    pixels = torch.randint(0, 256, (3, 70, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        raw = found(pixels[None].float() / 255)
    assert raw.shape == (1, 1, 70, 100)
    pipeline = transformers.pipeline("depth-estimation", model=str(folder), device="cpu")
    expected = pipeline(Image.fromarray(pixels.permute(1, 2, 0).numpy()))["predicted_depth"]
    expected = expected.clamp(min=0) if quantity else expected
    torch.testing.assert_close(raw[0, 0], expected.reshape(70, 100), rtol=1e-5, atol=1e-5)
    assert raw.std() > 0


def test_the_working_size_is_the_processors(tmp_path):
    assert load_hub_mono(dpt(tmp_path / "a"), quantity="depth").net.working == 32
    assert load_hub_mono(glpn(tmp_path / "b")).net.working == 518  # it takes every size


def test_a_photo_is_resized_by_the_processor_alone(tmp_path):
    torch.manual_seed(1)
    folder = dpt(tmp_path)
    photo = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    found = load_mono(folder, quantity="inverse_depth", device="cpu").predict(photo).values
    expected = transformers.pipeline("depth-estimation", model=str(folder), device="cpu")(Image.fromarray(photo))
    np.testing.assert_allclose(found, expected["predicted_depth"].clamp(min=0).reshape(70, 100), rtol=1e-5, atol=1e-5)


def test_depth_pro_gives_a_focal_length_and_takes_one(tmp_path):
    torch.manual_seed(0)
    found = load_hub_mono(depth_pro(tmp_path)).net
    image = torch.rand(2, 3, 40, 60)
    with torch.no_grad():
        own, seen = found.predict(image)
        twice, given = found.predict(image, focal_px=2 * float(seen[0]))
    assert seen.shape == (2,)
    torch.testing.assert_close(given, torch.full((2,), 2 * float(seen[0])), rtol=1e-4, atol=0.0)
    inside = (own[0] > 1e-3) & (own[0] < 1e3)  # the processor keeps depth within 1e-4..1e4
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(twice[0][inside], 2 * own[0][inside], rtol=1e-3, atol=0.0)  # metres go with the focal


def test_depth_pro_without_eyes_for_the_field_of_view_needs_a_focal_length(tmp_path):
    found = load_hub_mono(depth_pro(tmp_path, sees_fov=False)).net
    image = torch.rand(1, 3, 40, 60)
    with torch.no_grad(), pytest.raises(InputError, match="focal length in px"):
        found(image)
    with torch.no_grad():
        assert found.predict(image, focal_px=50.0)[0].min() > 0
        with pytest.raises(InputError, match="above 0"):
            found.predict(image, focal_px=-1.0)


def test_others_take_no_focal_length(tmp_path):
    found = load_hub_mono(glpn(tmp_path)).net
    with torch.no_grad():
        assert found.predict(torch.rand(1, 3, 40, 60))[1] is None
        with pytest.raises(InputError, match="glpn models take no focal length"):
            found.predict(torch.rand(1, 3, 40, 60), focal_px=50.0)


def test_what_a_model_answers_is_never_guessed(tmp_path):
    folder = dpt(tmp_path)
    with pytest.raises(CheckpointError, match="does not say whether it answers inverse depth or metres"):
        load_hub_mono(folder)
    with pytest.raises(UnknownNameError, match="quantity"):
        load_hub_mono(folder, quantity="disparity")
    with pytest.raises(InputError, match="answers inverse_depth, not depth"):
        load_hub_mono(depth_anything(tmp_path / "da"), quantity="depth")


@pytest.mark.parametrize(
    ("source", "kind", "answer"),
    [
        ("Intel/dpt-large", "dpt", "inverse_depth"),
        ("facebook/dpt-dinov2-small-nyu", "dpt", "depth"),
        ("apple/DepthPro-hf", "depth_pro", "depth"),
        ("Intel/zoedepth-nyu", "zoedepth", "depth"),
    ],
)
def test_known_answers(source, kind, answer):
    config = type("Config", (), {"model_type": kind})()
    assert quantity_of(source, config, None) == answer


@pytest.mark.parametrize(
    ("kind", "said"), [("prompt_depth_anything", "needs a coarse depth map"), ("chmv2", "gives the height of trees")]
)
def test_models_that_need_more_than_a_picture_are_refused(kind, said):
    config = type("Config", (), {"model_type": kind, "depth_estimation_type": "metric"})()
    with pytest.raises(CheckpointError, match=said):
        quantity_of("some/model", config, "depth")


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_hub_mono(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_damaged_and_foreign_folders_end_in_one_line(tmp_path):
    folder = depth_anything(tmp_path / "a")
    (folder / "model.safetensors").write_bytes(b"nonsense")
    assert "cannot be loaded" in refused(folder)

    (folder / "config.json").write_text("{")
    assert "config.json is damaged" in refused(folder)
    (folder / "config.json").write_text("[]")
    assert "config.json is damaged" in refused(folder)
    (folder / "config.json").write_text("{}")
    assert "cannot be loaded" in refused(folder)

    (folder / "config.json").write_text('{"model_type": "no_such_kind"}')
    assert "no_such_kind" in refused(folder)

    folder = glpn(tmp_path / "b")
    (folder / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in refused(folder)

    transformers.BertModel(transformers.BertConfig(**VIT, vocab_size=8)).save_pretrained(tmp_path / "c")
    assert "bert" in refused(tmp_path / "c")


def test_missing_weights_are_not_filled_with_random_ones(tmp_path):
    from safetensors.torch import load_file, save_file

    path = depth_anything(tmp_path) / "model.safetensors"
    state = load_file(path)
    state.pop("head.conv1.weight")
    save_file(state, path, metadata={"format": "pt"})
    assert "head.conv1.weight" in refused(tmp_path)


def test_code_in_a_folder_is_not_run(tmp_path):
    depth_anything(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModelForDepthEstimation": "mine.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    refused(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("config", [{"model_type": "mine"}, {"made_by": "another library"}])
def test_a_further_kind_of_model_is_one_entry(config, tmp_path, monkeypatch):
    """By its model_type, or where config.json has none (Depth Anything 3) by its name."""

    class Mine(hub.MonoNet):
        quantity = "depth"

    folder = tmp_path / "DA3MONO-LARGE"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(hub, "LOADERS", {"mine": lambda _: Mine(), "*/DA3MONO-*": lambda _: Mine()})
    assert isinstance(load_hub_mono(folder).net, Mine)
    with pytest.raises(InputError, match="answers depth, not inverse_depth"):
        load_hub_mono(folder, quantity="inverse_depth")


def test_without_transformers_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    from depthlight.core.errors import MissingExtraError

    with pytest.raises(MissingExtraError, match=r"pip install 'depthlight\[refine\]'"):
        load_hub_mono("depth-anything-v2-small")


def test_importing_depthlight_imports_none_of_this():
    code = (
        "import sys, depthlight, depthlight.nets.mono.hub, depthlight.refine.guidance_diffusion\n"
        "assert not {'transformers', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
