"""The gate of the re-lighting prior: does it find the picture lit by true normals likelier than by wrong ones?

For every image, the same patches are re-lit by the true normals and by each corruption of them, get the same noise,
added and subtracted, and are denoised. A comparison is won if the true picture's loss is lower. A prior that fails here
cannot guide a refinement, whatever the loop does.

Shape legend: B = 1 image, L patches, T times, H W size of the rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..core.config import to_dict
from ..core.errors import ConfigError, InputError
from ..data.loader import Samples
from ..data.mono import MonoAugmentConfig, MonoSample, mono_geometry
from ..nets.lighting import Lighting, relight
from ..nets.ops import gaussian_blur
from ..nets.prior.denoiser import Conditions, Denoiser
from ..nets.prior.diffusion import add_noise, velocity
from ..refine.guidance import Scene
from ..refine.patches import (
    FILE_STEP,
    RENDER,
    Patches,
    cut_patches,
    depth_as_seen,
    prior_normals,
    seen_normals,
    smooth_steps,
    standard_raw,
    with_slopes,
)

# What is put in the place of true normals. "flattened": a tenth of every slope. "noisy": of depth with a relief of
# 0.5 % of it, 2 px wide. "foreign": of another scene. "steep", "shallow": three times and a third of every slope, as of
# a wrong focal length. "flipped": bumps become dents.
CORRUPTIONS = ("flattened", "noisy", "foreign", "steep", "shallow", "flipped")
GATED = CORRUPTIONS[:3]
_SLOPES = {"flattened": 0.1, "steep": 3.0, "shallow": 1 / 3}
_RELIEF, _RELIEF_PX = 0.005, 2.0
_CHUNK = 48  # patches at a time


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How the gate measures. ``patches`` per image, half of them coarse; each at every one of ``times``.

    ``contrast`` also ranks by what guidance goes by: loss + g (loss - loss of the prior told less), g = ``scale``, less
    being without the light, and without light and photo. It triples the time, and needs a conditional prior.
    """

    images: int = 200
    patches: int = 6
    times: tuple[float, ...] = (0.3, 0.5, 0.7)
    contrast: bool = False
    scale: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 2 or self.patches < 1 or not self.times or not all(0 < t < 1 for t in self.times):
            raise ConfigError(
                "gate: images, patches and times",
                expected="2 images, a patch and a time or more; times between 0 and 1",
            )


def run_gate(
    net: Denoiser,
    scenes: Samples,
    config: GateConfig,
    *,
    device: torch.device | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Rank the true re-lighting against every corruption on images spread evenly over ``scenes``.

    Returns:
        Plain values: ``ranked`` (percentage of images won, by corruption), ``ranked_gate`` (the mean of flattened,
        noisy and another scene's, :data:`GATED`), ``ranked_coarse`` and ``ranked_native``
        (by scale), ``loss`` (means), with ``contrast`` also ``ranked_guided_light`` and ``ranked_guided_everything``;
        and what was measured.

    Raises:
        InputError: contrast with a prior that is told nothing, or fewer than two scenes.
    """
    need_scenes(scenes)
    chosen = _chosen(scenes, config)
    if config.contrast and not net.conditional:
        raise InputError("an unconditional prior has no conditions to withhold", expected="contrast off")
    losses = []
    _, other_11HW = whole_image(scenes[chosen[-1]])
    for index in chosen:
        check()
        photo_13HW, raw_11HW = whole_image(scenes[index])
        view = photo_13HW, raw_11HW, other_11HW
        losses.append(_measure(net, view, config, index, device or torch.device("cpu")))
        other_11HW = raw_11HW
    return {
        "config": to_dict(config),
        "scenes": scenes.name,
        "images": len(chosen),
        **_summary(np.stack(losses), config),
    }


def need_scenes(scenes: Samples) -> None:
    """Refuse what a gate cannot be run on.

    Raises:
        InputError: fewer than two scenes: the normals of one are wrong for another.
    """
    if len(scenes) < 2:
        raise InputError(f"{scenes.name} has {len(scenes)} scenes", expected="2 or more")


def need_whole_truth(scenes: Samples, config: GateConfig) -> None:
    """Read the scenes that a gate would take, so that a bad one is told before it.

    Raises:
        InputError: see :func:`need_scenes` and :func:`whole_image`.
        DepthlightError: a scene cannot be read.
    """
    need_scenes(scenes)
    for index in _chosen(scenes, config):
        whole_image(scenes[index])


def _chosen(scenes: Samples, config: GateConfig) -> list[int]:
    """Spread evenly."""
    count = min(config.images, len(scenes))
    return [round(i * len(scenes) / count) for i in range(count)]


def whole_image(sample: MonoSample) -> tuple[Tensor, Tensor]:
    """Photo (1, 3, H, W), sRGB 0..1, and standard raw disparity (1, 1, H, W), with a short side of ``RENDER`` px.

    Raises:
        InputError: the disparity is not known everywhere.
    """
    height, width = sample.image_HW3.shape[:2]
    factor = RENDER / min(height, width)
    size = (round(height * factor), round(width * factor))
    plain = MonoAugmentConfig.none()
    sample = mono_geometry(
        sample, MonoAugmentConfig(**{**vars(plain), "zoom": (factor, factor)}), np.random.default_rng(0), size
    )
    if not sample.valid_HW.all():
        raise InputError(f"{sample.name} has pixels without truth", expected="engine scenes, which have none")
    photo_13HW = torch.from_numpy(sample.image_HW3).permute(2, 0, 1)[None].float() / 255
    inverse_11HW = torch.from_numpy(sample.inverse_HW)[None, None]
    return photo_13HW, standard_raw(smooth_steps(inverse_11HW, FILE_STEP))


def corrupted_normals(raw_11HW: Tensor, other_11HW: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Normals (1, 3, H, W): ``true`` and every corruption.

    ``other_11HW`` is another scene's raw disparity, of any size.
    """
    depth_11HW = depth_as_seen(raw_11HW)
    true_13HW = seen_normals(depth_11HW)
    found = {"true": true_13HW}
    for name, factor in _SLOPES.items():
        found[name] = with_slopes(true_13HW, factor)
    relief_11HW = gaussian_blur(torch.randn(depth_11HW.shape, generator=generator), _RELIEF_PX)
    found["noisy"] = seen_normals(depth_11HW * (1 + _RELIEF * relief_11HW / relief_11HW.std()))
    found["flipped"] = with_slopes(true_13HW, -1.0)
    foreign_13HW = prior_normals(other_11HW)
    size = (int(raw_11HW.shape[2]), int(raw_11HW.shape[3]))
    found["foreign"] = F.normalize(F.interpolate(foreign_13HW, size, mode="bilinear"), dim=1)
    return found


def _measure(
    net: Denoiser, view: tuple[Tensor, Tensor, Tensor], config: GateConfig, index: int, device: torch.device
) -> NDArray[np.float64]:
    """Losses of one image: (told 1 or 3, candidates, patches, times). ``view``: photo, raw, another scene's raw."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
    photo_13HW, raw_11HW, other_11HW = view
    normals = corrupted_normals(raw_11HW, other_11HW, generator)
    lighting = Lighting.sample(config.patches, generator)
    native = tuple(i >= config.patches / 2 for i in range(config.patches))
    noise = torch.randn((config.patches, len(config.times), 3, 64, 64), generator=generator)
    places = generator.get_state()
    losses = []
    for name in ("true", *CORRUPTIONS):
        generator.set_state(places)  # the same places for all
        scene = Scene(photo_13HW, relight(photo_13HW, normals[name], lighting), lighting)
        losses.append(_losses(net, cut_patches(scene, native, generator), noise, config, device))
    return np.stack(losses, 1)


@torch.no_grad()
def _losses(
    net: Denoiser, patches: Patches, noise_LT3PP: Tensor, config: GateConfig, device: torch.device
) -> NDArray[np.float64]:
    """Mean squared error of v, (told, L, T), mean of the noise added and subtracted."""
    count, times = noise_LT3PP.shape[:2]
    everything = patches.conditions()
    told = [everything]
    if config.contrast:
        told += [everything.without(photo=False, light=True), everything.without(photo=True, light=True)]
    t_N = torch.tensor(config.times).repeat(count)
    x_N3PP = (2 * patches.relit_N3PP - 1).repeat_interleave(times, 0)
    noise_N3PP = noise_LT3PP.flatten(0, 1)
    rows = torch.arange(count).repeat_interleave(times)
    found = []
    for conditions in told:
        per_N = conditions.take(rows)
        errors = [_errors(net, x_N3PP, sign * noise_N3PP, t_N, per_N, device) for sign in (1, -1)]
        found.append(torch.stack(errors).mean(0).view(count, times))
    return torch.stack(found).double().numpy()


def _errors(
    net: Denoiser, x_N3PP: Tensor, noise_N3PP: Tensor, t_N: Tensor, told: Conditions, device: torch.device
) -> Tensor:
    errors = []
    for start in range(0, len(x_N3PP), _CHUNK):
        rows = torch.arange(start, min(start + _CHUNK, len(x_N3PP)))
        x, noise, t = x_N3PP[rows].to(device), noise_N3PP[rows].to(device), t_N[rows].to(device)
        v = net(add_noise(x, noise, t), t, told.take(rows).to(device))
        errors.append((v - velocity(x, noise, t)).square().mean((1, 2, 3)).cpu())
    return torch.cat(errors)


def _summary(losses: NDArray[np.float64], config: GateConfig) -> dict[str, Any]:
    """From losses (images, told, candidates, patches, times)."""
    names = ("true", *CORRUPTIONS)
    coarse = (config.patches + 1) // 2
    told = losses[:, 0]
    ranked = _ranked(told.mean((2, 3)))
    result: dict[str, Any] = {
        "ranked_gate": gate_figure(ranked),
        "ranked": ranked,
        "ranked_coarse": _ranked(told[:, :, :coarse].mean((2, 3))),
    }
    if coarse < config.patches:
        result["ranked_native"] = _ranked(told[:, :, coarse:].mean((2, 3)))
    result["ranked_by_time"] = {f"{t:g}": _ranked(told[..., i].mean(2)) for i, t in enumerate(config.times)}
    if config.contrast:
        for against, less in (("light", losses[:, 1]), ("everything", losses[:, 2])):
            result[f"ranked_guided_{against}"] = _ranked((told + config.scale * (told - less)).mean((2, 3)))
    result["loss"] = {name: float(told[:, i].mean()) for i, name in enumerate(names)}
    return result


def _ranked(scores: NDArray[np.float64]) -> dict[str, float]:
    """Percentage of images whose true score (column 0) is below each corruption's; scores (images, candidates)."""
    return {name: 100 * float((scores[:, 0] < scores[:, i + 1]).mean()) for i, name in enumerate(CORRUPTIONS)}


def gate_figure(ranked: Mapping[str, float]) -> float:
    """Percentage of comparisons won over flattened, noisy and another scene's normals, the three alike."""
    return sum(ranked[name] for name in GATED) / len(GATED)
