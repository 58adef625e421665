"""Score distillation from the small prior: patches of the re-lit photo are noised, and pulled to what the prior sees.

Shape legend: B images, L lights, N patches, 2N with the noise added and subtracted, P patch side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import ConfigError
from ..nets.prior.denoiser import Conditions, Denoiser
from ..nets.prior.diffusion import add_noise, alpha_sigma, noise_of
from ..nets.prior.load import load_prior
from .config import GuidanceConfig
from .guidance import Scene, described, sds_loss
from .patches import RENDER, cut_patches

Weighting = Literal["image", "uniform", "sds", "fantasia3d"]
Against = Literal["light", "everything"]
_DARK = 1e-6  # of a squared sRGB value; the renderer gives none below 0.0018


@dataclass(frozen=True)
class RelightGuidance:
    """A prior of ``depthlight train prior`` as a :class:`~depthlight.refine.guidance.Guidance`.

    Every light gives one patch, all of the same place: of the whole picture shrunk, or of the picture as it is, by
    chance. Each is denoised twice, with its noise added and subtracted, which cancels most of the noise's share of the
    gradient.

    What is left of the residual is how the lights differ (:func:`without_brightness`): where a denoiser is in doubt
    about a normal, the mean of what may be is darker than any of it, and to follow that would tilt the surface.

    Attributes:
        net: in inference mode, without gradients.
        scale: g of ``eps = eps_told + g (eps_told - eps_less)``; 0 for an unconditional prior.
        t_high, t_low: noise levels; with ``anneal`` the level goes from the first to the second, else it is drawn.
        weighting: of the noise found too much: ``image`` = sigma/alpha, which makes it the residual in the image;
            ``uniform`` = 1, ``sds`` = sigma², ``fantasia3d`` = alpha sigma².
        against: what ``eps_less`` is not told: the ``light``, or ``everything`` (photo and light).
        brightness: keep the share of the residual that a brightness of each pixel explains; an ablation.
    """

    net: Denoiser
    name: str
    sha256: str
    scale: float
    t_high: float
    t_low: float
    anneal: bool
    weighting: Weighting = "image"
    against: Against = "light"
    brightness: bool = False

    def loss(self, scene: Scene, *, progress: float, generator: torch.Generator) -> Tensor:
        """See :class:`~depthlight.refine.guidance.Guidance`. Renderings of another size are resized to 192 px.

        Raises:
            InputError: the rendering is too narrow for a patch.
        """
        scene = at_render_size(scene)
        lights = scene.relit_BL3HW.shape[1]
        native = bool(torch.randint(2, (), generator=generator))
        patches = cut_patches(scene, (native,) * lights, generator, together=True)
        x_N3PP = 2 * patches.relit_N3PP - 1
        count = len(x_N3PP)
        level_N = torch.rand(count, generator=generator) if not self.anneal else torch.full((count,), 1 - progress)
        t_N = (self.t_low + (self.t_high - self.t_low) * level_N).to(x_N3PP)  # as in level()
        noise_N3PP = torch.randn(x_N3PP.shape, generator=generator).to(x_N3PP)
        twice = torch.arange(count).repeat(2)
        t_2N, noise_2N3PP = t_N[twice], torch.cat([noise_N3PP, -noise_N3PP])
        x_2N3PP = torch.cat([x_N3PP, x_N3PP])
        noisy_2N3PP = add_noise(x_2N3PP.detach(), noise_2N3PP, t_2N)
        found_2N3PP = self.noise(noisy_2N3PP, t_2N, patches.conditions().take(twice))
        added_N3PP, subtracted_N3PP = (self._weight(t_2N) * (found_2N3PP - noise_2N3PP)).chunk(2)
        residual_N3PP = (added_N3PP + subtracted_N3PP) / 2
        if lights > 1 and not self.brightness:
            residual_N3PP = without_brightness(residual_N3PP, patches.relit_N3PP.detach(), lights)
        return sds_loss(x_N3PP, residual_N3PP, torch.zeros_like(residual_N3PP))

    def level(self, progress: float) -> tuple[float, float] | None:
        """See :class:`~depthlight.refine.guidance.Guidance`."""
        if not self.anneal:
            return None
        t = self.t_low + (self.t_high - self.t_low) * (1 - progress)
        return t, float(self._weight(torch.tensor([t]))) ** 2

    @torch.no_grad()
    def noise(self, noisy_N3PP: Tensor, t_N: Tensor, told: Conditions) -> Tensor:
        """The guided estimate of the noise, (N, 3, P, P)."""
        found = noise_of(noisy_N3PP, self.net(noisy_N3PP, t_N, told), t_N)
        if not self.scale:
            return found
        less = told.without(photo=self.against == "everything", light=True)
        return found + self.scale * (found - noise_of(noisy_N3PP, self.net(noisy_N3PP, t_N, less), t_N))

    def _weight(self, t_N: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(t_N)
        weights = {
            "image": sigma / alpha,
            "uniform": torch.ones_like(sigma),
            "sds": sigma**2,
            "fantasia3d": alpha * sigma**2,
        }
        return weights[self.weighting]

    def describe(self) -> dict[str, Any]:
        """Plain values for ``result.json``."""
        return described(
            self.name,
            weights_sha256=self.sha256,
            scale=self.scale,
            t_high=self.t_high,
            t_low=self.t_low,
            anneal=self.anneal,
            weighting=self.weighting,
            prompt=None,
            conditional=self.net.conditional,
            against=self.against if self.scale else None,
            brightness=self.brightness,
            schedule="cosine",
        )


def load_guidance(name: str, config: GuidanceConfig, *, device: torch.device) -> RelightGuidance:
    """The guidance of a bundled prior or of a ``.safetensors`` file.

    What ``config`` leaves open: t goes from 0.75 down to 0.3 over the run with a conditional prior, and is drawn from
    0.02..0.5 with an unconditional one; g is 0, and both are weighted as residuals in the image.

    Raises:
        ConfigError: t = 1, at which nothing of the image is left, or g for an unconditional prior.
        UnknownNameError, CheckpointError: see :func:`~depthlight.nets.prior.load.load_prior`.
    """
    prior = load_prior(name)
    told = prior.net.conditional
    if config.scale and not told:
        raise ConfigError(f"{prior.name} is unconditional, and guidance.scale is {config.scale}", expected="0")
    high, low = (0.75, 0.3) if told else (0.5, 0.02)
    high, low = (value if given is None else given for value, given in ((high, config.t_high), (low, config.t_low)))
    if not low <= high < 1:
        raise ConfigError(f"guidance.t_low is {low} and t_high {high}", expected="t_low <= t_high < 1")
    return RelightGuidance(
        net=prior.net.to(device),
        name=prior.name,
        sha256=prior.sha256,
        scale=config.scale or 0.0,
        t_high=high,
        t_low=low,
        anneal=told if config.anneal is None else config.anneal,
        weighting=config.weighting or "image",
    )


def without_brightness(residual_N3PP: Tensor, relit_N3PP: Tensor, lights: int) -> Tensor:
    """The residual without the part that one brightness of each pixel, the same under all lights, explains.

    By least squares over lights and colours: r − y (y·r)/(y·y), y the re-lit pixel. A factor of linear light is one of
    sRGB as the renderer has it.

    Args:
        residual_N3PP: of patches at one place under ``lights`` lights each, image by image.
        relit_N3PP: the patches, sRGB in 0..1.
    """
    shape = (-1, lights, *relit_N3PP.shape[1:])
    residual_BL3PP, relit_BL3PP = residual_N3PP.reshape(shape), relit_N3PP.reshape(shape)
    square_B11PP = relit_BL3PP.square().sum((1, 2), keepdim=True).clamp(min=_DARK)
    gain_B11PP = (relit_BL3PP * residual_BL3PP).sum((1, 2), keepdim=True) / square_B11PP
    return (residual_BL3PP - gain_B11PP * relit_BL3PP).flatten(0, 1)


def at_render_size(scene: Scene) -> Scene:
    """The scene with a short side of ``RENDER`` px."""
    height, width = scene.photo_B3HW.shape[-2:]
    if min(height, width) == RENDER:
        return scene
    factor = RENDER / min(height, width)
    size = (round(height * factor), round(width * factor))

    def resize(images_N3HW: Tensor) -> Tensor:
        if factor < 1:
            return F.interpolate(images_N3HW, size, mode="area")
        return F.interpolate(images_N3HW, size, mode="bilinear", align_corners=False)

    relit_BL3HW = resize(scene.relit_BL3HW.flatten(0, 1)).view(*scene.relit_BL3HW.shape[:3], *size)
    return Scene(resize(scene.photo_B3HW), relit_BL3HW, scene.lighting)
