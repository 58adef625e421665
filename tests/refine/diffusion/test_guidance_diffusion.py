"""Stable Diffusion as guidance, on tiny models of its layout that are saved and loaded through the real path."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from depthlight.core.errors import (  # noqa: E402
    CheckpointError,
    InputError,
)
from depthlight.core.registry import sha256_of  # noqa: E402
from depthlight.core.tolerances import tolerance  # noqa: E402
from depthlight.nets.prior.stable_diffusion import load_stable_diffusion  # noqa: E402
from depthlight.refine import guidance_diffusion as gd  # noqa: E402
from depthlight.refine.config import GuidanceConfig  # noqa: E402
from depthlight.refine.guidance import Scene  # noqa: E402
from depthlight.refine.render import Lighting  # noqa: E402

CPU = torch.device("cpu")
WEIGHTS = {"uniform": lambda a: 1.0, "sds": lambda a: 1 - a, "fantasia3d": lambda a: a**0.5 * (1 - a)}


def scene(lights: int = 1, size: tuple[int, int] = (12, 20), seed: int = 1) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    relit = torch.rand(1, lights, 3, *size, generator=generator).requires_grad_()
    return Scene(torch.rand(1, 3, *size, generator=generator), relit, Lighting.sample(lights, generator))


def run(guidance, shot: Scene, seed: int = 0, progress: float = 0.0):
    loss = guidance.loss(shot, progress=progress, generator=torch.Generator().manual_seed(seed))
    return loss, torch.autograd.grad(loss, shot.relit_BL3HW)[0]


@pytest.mark.parametrize("weighting", WEIGHTS)
@pytest.mark.parametrize("scale", [None, 0.0, 6.5])
def test_loss_and_gradient_follow_the_formula(folder, alpha_bar, weighting, scale):
    """Recomputed in float64 from networks loaded by diffusers itself, with the usual form of guidance."""
    config = GuidanceConfig(prompt="a cat", scale=scale, weighting=weighting)
    guidance = gd.DiffusionGuidance(load_stable_diffusion(folder), config)
    shot = scene(size=(16, 16))
    loss, gradient = run(guidance, shot, seed=5)

    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet").double()
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae").double()
    text = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    words = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokens = words(["a cat", ""], padding="max_length", max_length=12, return_tensors="pt").input_ids

    draw = torch.Generator().manual_seed(5)
    step = int(torch.randint(20, 601, (1,), generator=draw))
    noises = [torch.randn(1, 4, 8, 8, generator=draw).double() for _ in range(2)]
    a = alpha_bar(step)
    image = shot.relit_BL3HW[0].detach().double().requires_grad_()
    posterior = vae.encode(2 * image - 1).latent_dist
    latent = 0.18215 * (posterior.mean + posterior.std * noises[0])
    with torch.no_grad():
        noisy = a**0.5 * latent + (1 - a) ** 0.5 * noises[1]
        found = unet(noisy.repeat(2, 1, 1, 1), step, text(tokens).last_hidden_state.double()).sample
        usual = 1 + (50.0 if scale is None else scale)
        guided = found[1:] + usual * (found[:1] - found[1:])
        direction = WEIGHTS[weighting](a) * (guided - noises[1])
    (expected,) = torch.autograd.grad((latent * direction).sum() / latent.numel(), image)

    assert loss.item() == pytest.approx(0.5 * direction.square().mean().item(), rel=tolerance("sds.relative"))
    error = (gradient[0].double() - expected).norm() / expected.norm()
    assert error < tolerance("sds.relative")
    assert expected.norm() > 0


def test_many_lights_are_the_mean_of_each(prior):
    """One draw after the other from one generator; B photos and L lights alike."""
    guidance = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="a dog"))
    shot = scene(lights=3)
    loss, gradient = run(guidance, shot)
    generator = torch.Generator().manual_seed(0)
    losses, gradients = [], []
    for light in range(3):
        relit = shot.relit_BL3HW[:, light : light + 1].detach().requires_grad_()
        one = guidance.loss(Scene(shot.photo_B3HW, relit, shot.lighting), progress=0.0, generator=generator)
        losses.append(one.detach())
        gradients.append(torch.autograd.grad(one, relit)[0])
    torch.testing.assert_close(loss.detach(), torch.stack(losses).mean())
    torch.testing.assert_close(gradient, torch.cat(gradients, 1) / 3)


def test_the_gradient_reaches_what_the_photo_was_lit_from(prior):
    guidance = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="a dog"))
    shot = scene()
    brightness = torch.tensor(0.5, requires_grad=True)
    lit = Scene(shot.photo_B3HW, shot.relit_BL3HW.detach() * brightness, shot.lighting)
    loss = guidance.loss(lit, progress=0.0, generator=torch.Generator().manual_seed(0))
    (3 * loss).backward()
    assert brightness.grad is not None
    once = brightness.grad / 3
    (again,) = torch.autograd.grad(
        guidance.loss(
            Scene(shot.photo_B3HW, shot.relit_BL3HW.detach() * brightness, shot.lighting),
            progress=0.0,
            generator=torch.Generator().manual_seed(0),
        ),
        brightness,
    )
    torch.testing.assert_close(once, again)
    assert once.abs() > 0


def test_without_a_gradient_only_the_value_comes(prior):
    guidance = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="a dog"))
    shot = scene()
    with torch.no_grad():
        value = guidance.loss(shot, progress=0.0, generator=torch.Generator().manual_seed(0))
    assert not value.requires_grad
    torch.testing.assert_close(value, run(guidance, shot)[0].detach())


def test_nothing_of_the_prior_is_trained(prior):
    run(gd.DiffusionGuidance(prior, GuidanceConfig(prompt="a dog")), scene())
    parts = (prior.unet, prior.vae, prior.text_encoder)
    assert all(p.grad is None and not p.requires_grad for part in parts for p in part.parameters())


def test_same_generator_same_bits(prior):
    guidance = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="a dog"))
    torch.manual_seed(1)
    first = run(guidance, scene(), seed=3)
    torch.manual_seed(2)
    second, other = run(guidance, scene(), seed=3), run(guidance, scene(), seed=4)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])


def test_steps_are_drawn_evenly_between_both_ends(prior):
    guidance = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="", t_low=0.01, t_high=0.014))
    generator = torch.Generator().manual_seed(0)
    drawn = [int(guidance._step(0.5, generator)) for _ in range(300)]
    assert set(drawn) == {10, 11, 12, 13, 14}
    assert min(np.bincount(drawn)[10:]) > 30


def test_annealing_goes_from_high_to_low(prior):
    guidance = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="", anneal=True))
    generator = torch.Generator().manual_seed(0)
    assert [int(guidance._step(p, generator)) for p in (0.0, 0.5, 1.0)] == [600, 310, 20]


def test_the_whole_schedule_can_be_asked_for(prior):
    guidance = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="", t_low=0.0, t_high=1.0))
    assert (guidance.t_low, guidance.t_high) == (0, 999)


def test_one_end_beyond_the_papers_other_end_is_refused(prior):
    with pytest.raises(InputError, match=r"t_low 0\.7 is above t_high 0\.6"):
        gd.DiffusionGuidance(prior, GuidanceConfig(prompt="", t_low=0.7))


def test_description(folder, prior):
    said = gd.DiffusionGuidance(prior, GuidanceConfig(prompt="a dog")).describe()
    assert json.loads(json.dumps(said)) == said
    assert (said["guidance_scale"]["g"], said["guidance_scale"]["usual"]) == (50.0, 51.0)
    assert (said["t_low"], said["t_high"], said["schedule_steps"]) == (0.02, 0.6, 1000)
    assert (said["weighting"], said["anneal"]) == ("uniform", False)
    assert (said["prompt"], said["prompt_source"], said["negative_prompt"]) == ("a dog", "given", "")
    assert said["model"] == str(folder)
    names = said["weights_files"]
    assert len(names) == 3
    lines = "".join(f"{name}:{sha256_of(folder / name)}\n" for name in names)
    assert said["weights_sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_bf16_is_near_fp32_and_keeps_the_encoder_exact(folder, prior):
    half = load_stable_diffusion(folder, precision="bf16")
    assert half.unet.dtype == half.text_encoder.dtype == torch.bfloat16
    assert half.vae.dtype == torch.float32
    config = GuidanceConfig(prompt="a dog", scale=0.0)
    exact, near = (run(gd.DiffusionGuidance(model, config), scene())[1] for model in (prior, half))
    assert torch.cosine_similarity(exact.flatten(), near.flatten(), dim=0) > 0.99
    assert not torch.equal(exact, near)


def test_a_given_prompt_is_taken_and_an_empty_one_is_a_prompt(folder, monkeypatch):
    monkeypatch.setattr(gd, "caption", lambda *a, **k: pytest.fail("captioned although a prompt was given"))
    assert gd.load_guidance(str(folder), GuidanceConfig(prompt=""), device=CPU).describe()["prompt"] == ""


def test_without_prompt_and_photo_nothing_is_made_up(folder):
    with pytest.raises(InputError, match="prompt, or a photo"):
        gd.load_guidance(str(folder), GuidanceConfig(), device=CPU)


def test_a_photo_is_captioned_once_and_the_record_says_so(folder, monkeypatch):
    calls = []

    def say(photo, source, *, device):
        calls.append((photo.shape, source))
        return "a red house"

    monkeypatch.setattr(gd, "caption", say)
    photo = np.zeros((4, 5, 3), np.uint8)
    guidance = gd.load_guidance(str(folder), GuidanceConfig(captioner="some/captioner"), device=CPU, photo_HW3=photo)
    assert calls == [((4, 5, 3), "some/captioner")]
    said = guidance.describe()
    assert (said["prompt"], said["prompt_source"]) == ("a red house", "caption by some/captioner")


def test_a_captioner_that_fails_is_not_replaced(folder, tmp_path):
    with pytest.raises(CheckpointError, match="there is no folder"):
        gd.load_guidance(
            str(folder),
            GuidanceConfig(captioner=str(tmp_path / "nowhere")),
            device=CPU,
            photo_HW3=np.zeros((4, 5, 3), np.uint8),
        )


def test_a_missing_prior_is_told_before_a_caption_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(gd, "caption", lambda *a, **k: pytest.fail("captioned for a prior that is not there"))
    with pytest.raises(CheckpointError, match="there is no folder"):
        gd.load_guidance(
            str(tmp_path / "nowhere"), GuidanceConfig(), device=CPU, photo_HW3=np.zeros((4, 5, 3), np.uint8)
        )


def test_a_refinement_with_a_model_of_the_hub_and_stable_diffusion(folder, tmp_path):
    """The paper's arrangement in small: Depth Anything's token maps and head move, the prior does not."""
    from depthlight.infer.mono import MonoModel
    from depthlight.nets.mono.hub import load_hub_mono
    from depthlight.refine.api import refine

    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=70,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
    )
    torch.manual_seed(0)
    network = transformers.DepthAnythingForDepthEstimation(config)
    for name, parameter in network.named_parameters():  # transformers' own start would answer 0 everywhere
        if not name.startswith("backbone"):
            torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else torch.nn.init.constant_(parameter, 0.5)
    network.save_pretrained(tmp_path)
    found = load_hub_mono(tmp_path)
    model = MonoModel("tiny", found.net, weights_sha256=found.snapshot.weights_sha256(), working=70)
    photo = np.random.default_rng(0).integers(0, 256, (56, 70, 3), np.uint8)
    result = refine(photo, model=model, prior=str(folder), recipe="paper", steps=2, restarts=1, prompt="a cat")
    assert not result.stopped
    assert np.isfinite(result.after).all()
    assert result.before.std() > 1e-3
    assert not np.array_equal(result.before, result.after)
