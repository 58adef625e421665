"""Score distillation from the small prior, against the formula in float64 with denoisers that have a closed form."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthlight.core.config import to_dict
from depthlight.core.errors import ConfigError
from depthlight.core.tolerances import tolerance
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.prior.denoiser import Conditions, Denoiser, DenoiserConfig
from depthlight.nets.prior.diffusion import alpha_sigma, velocity
from depthlight.refine import priors
from depthlight.refine.config import GuidanceConfig, RefineConfig, load_recipe
from depthlight.refine.guidance import Scene
from depthlight.refine.guidance_small import RelightGuidance, load_guidance, without_brightness
from depthlight.refine.patches import cut_patches
from depthlight.refine.render import Lighting

SPREAD = 0.3


@dataclass
class Gaussian:
    """The exact denoiser of patches that are Gaussian about a mean which depends on what is told."""

    conditional: bool = True

    def mean(self, told: Conditions) -> Tensor:
        photo = (2 * told.photo_N3PP - 1) * told.photo_on_N[:, None, None, None]
        return 0.5 * photo + (0.3 * told.light_N6[:, 0] * told.light_on_N)[:, None, None, None]

    def image(self, noisy: Tensor, t_N: Tensor, told: Conditions) -> Tensor:
        alpha, sigma = alpha_sigma(t_N)
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        return self.mean(told) + gain * (noisy - alpha * self.mean(told))

    def __call__(self, noisy: Tensor, t_N: Tensor, told: Conditions) -> Tensor:
        alpha, sigma = alpha_sigma(t_N)
        image = self.image(noisy, t_N, told)
        return velocity(image, (noisy - alpha * image) / sigma, t_N)


def guidance(**changes: Any) -> RelightGuidance:
    usual: dict[str, Any] = {
        "net": Gaussian(),
        "name": "gauss",
        "sha256": "0" * 64,
        "scale": 3.0,
        "t_high": 0.75,
        "t_low": 0.3,
        "anneal": True,
    }
    return RelightGuidance(**(usual | changes))


def scene(lights: int = 2, size: tuple[int, int] = (192, 200), seed: int = 0) -> Scene:
    generator = torch.Generator().manual_seed(seed)
    photo = torch.rand((1, 3, *size), generator=generator, dtype=torch.float64)
    relit = torch.rand((1, lights, 3, *size), generator=generator, dtype=torch.float64).requires_grad_()
    return Scene(photo, relit, Lighting.sample(lights, generator).to(photo))


def gradient(found: RelightGuidance, given: Scene, progress: float = 0.4, seed: int = 7) -> Tensor:
    loss = found.loss(given, progress=progress, generator=torch.Generator().manual_seed(seed))
    return torch.autograd.grad(loss, given.relit_BL3HW)[0].double()


@pytest.mark.parametrize("weighting", ["image", "uniform", "sds", "fantasia3d"])
@pytest.mark.parametrize("against", ["light", "everything"])
@pytest.mark.parametrize("brightness", [True, False])
def test_the_gradient_is_the_formulas(weighting: Any, against: Any, brightness: bool) -> None:
    given, found = scene(), guidance(weighting=weighting, against=against, brightness=brightness)
    generator = torch.Generator().manual_seed(7)
    native = bool(torch.randint(2, (), generator=generator))
    patches = cut_patches(given, (native, native), generator, together=True)
    noise = torch.randn(patches.relit_N3PP.shape, generator=generator).double()
    t_N = torch.full((2,), 0.3 + 0.45 * 0.6, dtype=torch.float64)
    alpha, sigma = alpha_sigma(t_N)
    weight = {"image": sigma / alpha, "uniform": 1.0, "sds": sigma**2, "fantasia3d": alpha * sigma**2}[weighting]
    told = patches.conditions()
    less = told.without(photo=against == "everything", light=True)
    x = (2 * patches.relit_N3PP - 1).detach()
    total = torch.zeros_like(x)
    for sign in (1, -1):
        noisy = alpha * x + sign * sigma * noise
        images = [Gaussian().image(noisy, t_N, conditions) for conditions in (told, less)]
        eps, eps_less = ((noisy - alpha * image) / sigma for image in images)
        total += weight * (eps + 3 * (eps - eps_less) - sign * noise)
    if not brightness:
        y = patches.relit_N3PP.detach()
        for row in range(64):
            for column in range(64):
                pixel = y[:, :, row, column].flatten()
                rest = total[:, :, row, column].flatten()
                total[:, :, row, column] = (rest - pixel * (pixel @ rest) / (pixel @ pixel)).view(2, 3)
    per_patch = 2 * total / (2 * x.numel())  # x = 2 relit - 1, and the mean over both signs
    expected = torch.autograd.grad(patches.relit_N3PP, given.relit_BL3HW, per_patch)[0]
    error = (gradient(found, given) - expected).abs().max() / expected.abs().max()
    assert float(error) < tolerance("sds.relative")  # the loss itself is taken in float32


def test_noise_added_and_subtracted_cancels() -> None:
    """For a linear denoiser nothing of the noise is left: only the places of the patches differ between draws."""
    given, found = scene(lights=1, size=(192, 192)), guidance(scale=0.0)
    draws = [gradient(found, given, seed=seed) for seed in range(8)]
    coarse = [draw for draw in draws if bool((draw != 0).all())]  # all of the image: only one place for the patch
    assert len(coarse) >= 2
    for draw in coarse[1:]:
        torch.testing.assert_close(draw, coarse[0], rtol=1e-4, atol=1e-12)


def test_following_the_gradient_leads_to_what_the_prior_expects() -> None:
    given, found = scene(lights=2), guidance(scale=0.0, brightness=True)
    generator = torch.Generator().manual_seed(1)

    def distance(relit: Tensor) -> float:
        patches = cut_patches(
            Scene(given.photo_B3HW, relit, given.lighting), (False, False), torch.Generator().manual_seed(2)
        )
        return float((2 * patches.relit_N3PP - 1 - Gaussian().mean(patches.conditions())).square().mean())

    relit = given.relit_BL3HW.detach().clone()
    before = distance(relit)
    for step in range(30):
        relit.requires_grad_()
        loss = found.loss(replace(given, relit_BL3HW=relit), progress=step / 30, generator=generator)
        relit = (relit - 3e3 * torch.autograd.grad(loss, relit)[0]).detach()
    assert distance(relit) < 0.3 * before


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.integers(2, 5))
def test_a_brightness_of_each_pixel_is_no_reason_to_move(seed: int, lights: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    relit = torch.rand((2 * lights, 3, 8, 8), generator=generator, dtype=torch.float64)
    gain = torch.randn((2, 1, 1, 8, 8), generator=generator, dtype=torch.float64)
    darker = (gain * relit.unflatten(0, (2, lights))).flatten(0, 1)
    assert without_brightness(darker, relit, lights).abs().max() < 1e-10
    other = torch.randn(relit.shape, generator=generator, dtype=torch.float64)
    rest = without_brightness(other, relit, lights)
    torch.testing.assert_close(without_brightness(other + darker, relit, lights), rest)
    assert rest.abs().mean() > 0.1
    assert without_brightness(other, 0 * relit, lights).isfinite().all()


def test_all_lights_fall_on_one_place() -> None:
    given = scene(lights=3, size=(192, 300))
    for seed in range(6):
        touched = gradient(guidance(), given, seed=seed)[0].abs().sum(1) > 0
        assert touched.any() and torch.equal(touched[0], touched[1]) and torch.equal(touched[0], touched[2])


def test_one_light_has_nothing_to_be_compared_with() -> None:
    given = scene(lights=1)
    torch.testing.assert_close(gradient(guidance(), given), gradient(guidance(brightness=True), given))


def test_the_noise_level_is_annealed_or_drawn() -> None:
    seen: list[Tensor] = []

    class Watch(Gaussian):
        def __call__(self, noisy: Tensor, t_N: Tensor, told: Conditions) -> Tensor:
            seen.append(t_N)
            return super().__call__(noisy, t_N, told)

    net: Any = Watch()
    for progress, level in ((0.0, 0.75), (1.0, 0.3)):
        guidance(net=net).loss(scene(), progress=progress, generator=torch.Generator().manual_seed(0))
        assert seen[-1].tolist() == pytest.approx([level] * 4)
    drawn = guidance(net=net, anneal=False, scale=0.0, t_high=0.5, t_low=0.02)
    for seed in range(20):
        drawn.loss(scene(), progress=0.0, generator=torch.Generator().manual_seed(seed))
    levels = torch.cat(seen[-20:])
    assert levels.min() >= 0.02 and levels.max() <= 0.5 and levels.std() > 0.08


def test_the_answer_follows_from_the_generator_and_other_sizes_are_taken() -> None:
    given = scene(size=(288, 300))
    assert torch.equal(gradient(guidance(), given), gradient(guidance(), given))
    assert not torch.equal(gradient(guidance(), given), gradient(guidance(), given, seed=8))
    assert gradient(guidance(), given).isfinite().all()
    assert gradient(guidance(), scene(size=(100, 120))).abs().sum() > 0


# ------------------------------------------------------------------------------------------------------------ files


@pytest.fixture(params=[True, False])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    net = Denoiser(DenoiserConfig.tiny(conditional=request.param))
    metadata = {"name": "relight.test", "family": "relight", "network": json.dumps(to_dict(net.config))}
    save_safetensors(tmp_path / "model.safetensors", net, metadata)
    yield tmp_path / "model.safetensors"


def test_a_prior_is_shown_only_what_it_was_trained_on(file: Path) -> None:
    cpu = torch.device("cpu")
    assert priors.load_guidance(str(file), load_recipe("fast"), device=cpu) is not None
    told = priors.load_guidance(
        str(file), RefineConfig(unit="standard", camera="pinhole", shift=2.0, normals="surface"), device=cpu
    )
    conditional = told.net.conditional  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"unit = 'network'.*expected unit = 'standard'.*recipe fast"):
        priors.load_guidance(str(file), RefineConfig(), device=cpu)
    swapped = RefineConfig(unit="standard", camera="pinhole", shift=2.0, normals="paper")
    if conditional:
        with pytest.raises(ConfigError, match="not trained for normals = 'paper'"):
            priors.load_guidance(str(file), swapped, device=cpu)
    else:
        assert priors.load_guidance(str(file), swapped, device=cpu) is not None


def test_a_file_guides_with_the_defaults_of_its_kind(file: Path) -> None:
    found = load_guidance(str(file), GuidanceConfig(), device=torch.device("cpu"))
    told = found.describe()
    if found.net.conditional:
        assert (told["guidance_scale"]["g"], told["guidance_scale"]["usual"]) == (0.0, 1.0)
        assert (told["t_high"], told["t_low"], told["anneal"]) == (0.75, 0.3, True)
    else:
        assert (told["guidance_scale"]["g"], told["t_high"], told["t_low"]) == (0.0, 0.5, 0.02)
        with pytest.raises(ConfigError, match="unconditional"):
            load_guidance(str(file), GuidanceConfig(scale=2.0), device=torch.device("cpu"))
    json.dumps(told)
    given = scene()
    given = Scene(given.photo_B3HW.float(), given.relit_BL3HW.float(), given.lighting.to(torch.zeros(1)))
    loss = found.loss(given, progress=0.5, generator=torch.Generator().manual_seed(0))
    assert loss.isfinite() and loss > 0


def test_settings_are_taken_and_refused(file: Path) -> None:
    config = GuidanceConfig(t_high=0.6, t_low=0.4, anneal=False, weighting="sds")
    found = load_guidance(str(file), config, device=torch.device("cpu"))
    assert (found.t_high, found.t_low, found.anneal, found.weighting) == (0.6, 0.4, False, "sds")
    with pytest.raises(ConfigError, match="t_high < 1"):
        load_guidance(str(file), GuidanceConfig(t_high=1.0), device=torch.device("cpu"))
