"""Lights, and what a photo looks like under them: normals → picture; differentiable, batched, any device.

The rules are those of Re-Depth Anything (arXiv 2512.17908): the photo is taken for a diffuse albedo and lit by one
distant light, without shadows, with a white highlight (Blinn-Phong), in linear light by a plain gamma of 2.2. Float32
and float64; gradients are finite everywhere.

Axes of normals and lights: x right, y up, z towards the viewer. Lights are drawn symmetrically about the viewing axis.

Shape legend: B images, L lights, H W image size, 3 colours (sRGB) or axes, 1 a map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError

GAMMA = 2.2
DARKEST = 1e-3  # of linear light; below it the slope of the gamma grows beyond all bounds
SHININESS_POWERS = (2, 7)  # shininess is 2^2 … 2^7


@dataclass(frozen=True, kw_only=True)
class Lighting:
    """L distant lights, each with its own material; the same for all images, or with a leading B their own for each.

    Attributes:
        direction_L3: (L, 3) or (B, L, 3), unit, towards the light.
        diffuse_L, specular_L: (L,) or (B, L), weights of the two lobes, >= 0; the paper's sum to 1.
        shininess_L: (L,) or (B, L), exponent of the highlight, >= 1.

    Raises:
        InputError: the shapes do not belong together.
    """

    direction_L3: Tensor
    diffuse_L: Tensor
    specular_L: Tensor
    shininess_L: Tensor

    def __post_init__(self) -> None:
        shape = self.direction_L3.shape
        if len(shape) not in (2, 3) or shape[-1] != 3:
            raise InputError(f"light directions have shape {tuple(shape)}", expected="(L, 3) or (B, L, 3)")
        for name in ("diffuse_L", "specular_L", "shininess_L"):
            found = getattr(self, name).shape
            if found != shape[:-1]:
                raise InputError(f"{name} has shape {tuple(found)}", expected=f"{tuple(shape[:-1])}")

    @classmethod
    def sample(cls, count: int, generator: torch.Generator, *, batch: int | None = None) -> Lighting:
        """``count`` draws of the paper: float32, on the generator's device; ``batch`` times as many if given.

        Direction normalize(x, y, 1) with x, y uniform in −1..1 (at most 54.7° off the axis); the two weights uniform,
        divided by their sum; shininess a power of two, 4..128, uniform in the power.
        """
        shape = (count,) if batch is None else (batch, count)
        device = generator.device
        xy = 2 * torch.rand((*shape, 2), generator=generator, device=device) - 1
        weights = 1 - torch.rand((*shape, 2), generator=generator, device=device)  # (0, 1]: the sum is never 0
        low, high = SHININESS_POWERS
        powers = torch.randint(low, high + 1, shape, generator=generator, device=device)
        return cls.of(xy, weights / weights.sum(-1, keepdim=True), 2.0**powers)

    @classmethod
    def of(cls, xy_L2: Tensor, weights_L2: Tensor, shininess_L: Tensor) -> Lighting:
        """Lights towards normalize(x, y, 1) with weights (diffuse, specular); shapes as of the attributes."""
        direction_L3 = F.normalize(torch.cat([xy_L2, torch.ones_like(xy_L2[..., :1])], -1), dim=-1)
        diffuse_L, specular_L = weights_L2.unbind(-1)
        return cls(
            direction_L3=direction_L3,
            diffuse_L=diffuse_L,
            specular_L=specular_L,
            shininess_L=shininess_L.to(xy_L2.dtype),
        )

    def to(self, like: Tensor) -> Lighting:
        """On the device and of the type of ``like``."""
        return Lighting(
            direction_L3=self.direction_L3.to(like),
            diffuse_L=self.diffuse_L.to(like),
            specular_L=self.specular_L.to(like),
            shininess_L=self.shininess_L.to(like),
        )


def shading(normal_B3HW: Tensor, lighting: Lighting) -> tuple[Tensor, Tensor]:
    """The two lobes of Blinn-Phong with a viewer along z, each (B, L, 1, H, W) in 0..1.

    Returns:
        diffuse max(n·l, 0), and highlight max(n·h, 0)^shininess with h half-way between light and viewer; unweighted.
    """
    lighting = lighting.to(normal_B3HW)
    viewer_3 = normal_B3HW.new_tensor([0.0, 0.0, 1.0])
    half_L3 = F.normalize(lighting.direction_L3 + viewer_3, dim=-1)
    diffuse_BL1HW = _facing(normal_B3HW, lighting.direction_L3).clamp(min=0)
    facing_BL1HW = _facing(normal_B3HW, half_L3).clamp(min=0)
    return diffuse_BL1HW, facing_BL1HW ** lighting.shininess_L[..., None, None, None]


def relight(image_B3HW: Tensor, normal_B3HW: Tensor, lighting: Lighting) -> Tensor:
    """The photo under each light: (B, L, 3, H, W), sRGB, 0.043..1.

    In linear light: diffuse·max(n·l, 0)·photo + specular·max(n·h, 0)^shininess, kept within 0.001..1.

    Args:
        image_B3HW: sRGB, 0..1.
        normal_B3HW: unit; see the head of this module for the axes.
        lighting: for all images, or with a leading B.

    Raises:
        InputError: the shapes differ, or the image is not of floats.
    """
    if image_B3HW.shape != normal_B3HW.shape or not image_B3HW.is_floating_point():
        raise InputError(
            f"image is {image_B3HW.dtype} of shape {tuple(image_B3HW.shape)}",
            expected=f"floats 0..1 of the normals' shape {tuple(normal_B3HW.shape)}",
        )
    lighting = lighting.to(normal_B3HW)
    diffuse_BL1HW, highlight_BL1HW = shading(normal_B3HW, lighting)
    linear_B13HW = (image_B3HW**GAMMA).unsqueeze(1)
    lit_BL3HW = (
        lighting.diffuse_L[..., None, None, None] * diffuse_BL1HW * linear_B13HW
        + lighting.specular_L[..., None, None, None] * highlight_BL1HW
    )
    return lit_BL3HW.clamp(DARKEST, 1) ** (1 / GAMMA)


def _facing(normal_B3HW: Tensor, direction_L3: Tensor) -> Tensor:
    """Cosines (B, L, 1, H, W) between normals and directions (L, 3) or (B, L, 3)."""
    subscripts = "bchw,lc->blhw" if direction_L3.ndim == 2 else "bchw,blc->blhw"
    return torch.einsum(subscripts, normal_B3HW, direction_L3).unsqueeze(2)
