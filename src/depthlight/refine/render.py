"""Relative inverse depth → depth → normals → the picture under other lights; differentiable, batched, any device.

The rules are those of Re-Depth Anything (arXiv 2512.17908): the photo is taken for a diffuse albedo and lit by one
distant light, without shadows, with a white highlight (Blinn-Phong), in linear light by a plain gamma of 2.2. Float32
and float64; gradients are finite everywhere.

Axes of normals and lights: x right, y up, z towards the viewer. Two conventions for normals:

- ``"surface"``: as the surface stands in the world, of length 1. A bump's upper side faces up.
- ``"paper"``: as the paper's code has it. Depth is taken for height, so x and y have the other sign and bumps are
  dents; and 1e-8 is added to the length of the cross product of the tangents before dividing by it, so that normals
  are too short by up to 1e-8 over the area of a pixel (1.2e-5 of the length at 98x70, 7e-4 at 518x518).

Lights are drawn symmetrically about the viewing axis, so both give the same distribution of pictures; they differ once
somebody knows the light.

Shape legend: B images, L lights, H W image size, 3 colours (sRGB) or axes, 1 a map. Raw disparity is relative inverse
depth, >= 0, unitless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, UnknownNameError

Convention = Literal["surface", "paper"]
GAMMA = 2.2
DARKEST = 1e-3  # of linear light; below it the slope of the gamma grows beyond all bounds
SHININESS_POWERS = (2, 7)  # shininess is 2^2 … 2^7
_PAPER_EPSILON = 1e-8
_FLAT = 1e-8  # a map whose range is below this is taken for constant


def pseudo_depth(raw_B1HW: Tensor, offset: Tensor | float = 0.0, *, scale: float = 7.0, shift: float = 0.1) -> Tensor:
    """Depth up to scale from raw disparity: z = (scale + tanh(offset)) / (raw + shift), shape of ``raw_B1HW``.

    Args:
        raw_B1HW: relative inverse depth, >= 0.
        offset: what refinement learns of the scale; a number or a tensor that broadcasts to ``raw_B1HW``.
        scale: above 1, so that z stays positive. Under orthographic normals it sets how steep relief is.
        shift: positive; bounds z where the raw disparity is 0.

    Raises:
        InputError: ``scale`` or ``shift`` is out of range.
    """
    if scale <= 1 or shift <= 0:
        raise InputError(f"pseudo depth: scale {scale}, shift {shift}", expected="scale above 1 and shift above 0")
    return (scale + torch.tanh(torch.as_tensor(offset, dtype=raw_B1HW.dtype, device=raw_B1HW.device))) / (
        raw_B1HW + shift
    )


def normals_orthographic(depth_B1HW: Tensor, *, convention: Convention = "surface") -> Tensor:
    """Unit normals (B, 3, H, W) under the paper's scaled orthographic camera, where no intrinsics are known.

    The picture spans −W/H..W/H across and 1..−1 down; depth is in the same unit. Slopes are central differences, one-
    sided at the border. z is always positive. A pixel whose depth, or that of a neighbour of it, is not finite or not
    positive gets (0, 0, −1), which no light reaches.

    Raises:
        InputError: not (B, 1, H, W) of floats with both sides at least 2.
        UnknownNameError: no such convention.
    """
    _check_map(depth_B1HW)
    sign = _sign(convention)
    height, width = depth_B1HW.shape[-2:]
    known_B1HW = _known(depth_B1HW)
    down_B1HW, across_B1HW = torch.gradient(torch.where(known_B1HW, depth_B1HW, 1.0), dim=(-2, -1))
    column_step = 2 * width / height / (width - 1)
    row_step = 2 / (height - 1)
    x_B1HW, y_B1HW = across_B1HW / column_step, -down_B1HW / row_step
    vector_B3HW = torch.cat([sign * x_B1HW, sign * y_B1HW, torch.ones_like(x_B1HW)], 1)
    length_B1HW = _length(vector_B3HW)
    if convention == "paper":
        length_B1HW = length_B1HW + _PAPER_EPSILON / (column_step * row_step)
    return _away_unless(_stencil(known_B1HW), vector_B3HW / length_B1HW)


def normals_pinhole(
    depth_B1HW: Tensor,
    fx: Tensor | float,
    fy: Tensor | float,
    cx: Tensor | float,
    cy: Tensor | float,
    *,
    convention: Convention = "surface",
) -> Tensor:
    """Unit normals (B, 3, H, W) of what a pinhole camera sees; depth's scale does not matter.

    They face the camera, so z may be negative far off the axis. Tangents are central differences of the back-projected
    points, one-sided at the border, so planes come out exact.
    Pixels without a depth are treated as by :func:`normals_orthographic`.

    Args:
        depth_B1HW: along the optical axis, positive, any unit.
        fx, fy, cx, cy: px of this image size; numbers, or tensors of shape (B,). Pixel centres are whole numbers.
        convention: ``"paper"`` gives x and y the other sign (the paper has no pinhole camera, so there is no epsilon).

    Raises:
        InputError: not (B, 1, H, W) of floats with both sides at least 2.
        UnknownNameError: no such convention.
    """
    _check_map(depth_B1HW)
    sign = _sign(convention)
    height, width = depth_B1HW.shape[-2:]
    fx_B111, fy_B111, cx_B111, cy_B111 = (_per_image(value, depth_B1HW) for value in (fx, fy, cx, cy))
    known_B1HW = _known(depth_B1HW)
    safe_B1HW = torch.where(known_B1HW, depth_B1HW, 1.0)
    down_B1HW, across_B1HW = torch.gradient(safe_B1HW, dim=(-2, -1))
    # the tangent across is ray·dz + (mean of the neighbours' z)/fx along x; down alike. Their cross product, scaled:
    x_B1HW = fx_B111 * across_B1HW / _neighbour_mean(safe_B1HW, -1)
    y_B1HW = -fy_B111 * down_B1HW / _neighbour_mean(safe_B1HW, -2)
    ray_x_B11W = (_index(width, depth_B1HW) - cx_B111) / fx_B111
    ray_y_B1H1 = (cy_B111 - _index(height, depth_B1HW).unsqueeze(-1)) / fy_B111
    z_B1HW = 1 + ray_x_B11W * x_B1HW + ray_y_B1H1 * y_B1HW
    vector_B3HW = torch.cat([sign * x_B1HW, sign * y_B1HW, z_B1HW], 1)
    return _away_unless(_stencil(known_B1HW), vector_B3HW / _length(vector_B3HW))


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


def smoothness(raw_B1HW: Tensor) -> Tensor:
    """Mean absolute Laplacian of each map scaled to 0..1 by its own range, meaned over the batch: a scalar, >= 0.

    The range is a constant for the gradient; the four-neighbour Laplacian sees zeros beyond the border. A map of one
    value gives 0.

    Raises:
        InputError: not (B, 1, H, W) of floats with both sides at least 2.
    """
    _check_map(raw_B1HW)
    low_B111 = raw_B1HW.detach().amin((1, 2, 3), keepdim=True)
    high_B111 = raw_B1HW.detach().amax((1, 2, 3), keepdim=True)
    unit_B1HW = (raw_B1HW - low_B111) / (high_B111 - low_B111).clamp(min=_FLAT)
    padded = F.pad(unit_B1HW, (1, 1, 1, 1))
    across_B1HW = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    down_B1HW = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return (across_B1HW + down_B1HW - 4 * unit_B1HW).abs().mean()


def _sign(convention: Convention) -> int:
    """Of x and y."""
    if convention not in get_args(Convention):
        raise UnknownNameError("convention of normals", convention, get_args(Convention))
    return 1 if convention == "surface" else -1


def _check_map(values_B1HW: Tensor) -> None:
    shape = tuple(values_B1HW.shape)
    if len(shape) != 4 or shape[1] != 1 or min(shape[2:]) < 2 or not values_B1HW.is_floating_point():
        raise InputError(
            f"the map is {values_B1HW.dtype} of shape {shape}", expected="floats of shape (B, 1, H, W), 2x2 or larger"
        )


def _known(depth_B1HW: Tensor) -> Tensor:
    return depth_B1HW.isfinite() & (depth_B1HW > 0)


def _stencil(known_B1HW: Tensor) -> Tensor:
    """Where the pixel and its neighbours up, down, left and right are known."""
    before_H, after_H = _neighbours(known_B1HW, -2)
    before_W, after_W = _neighbours(known_B1HW, -1)
    return known_B1HW & before_H & after_H & before_W & after_W


def _neighbours(values_B1HW: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The neighbours before and after along ``dim``; at the border the one there is stands for both."""
    size = values_B1HW.shape[dim]
    before = torch.cat([values_B1HW.narrow(dim, 1, 1), values_B1HW.narrow(dim, 0, size - 1)], dim)
    after = torch.cat([values_B1HW.narrow(dim, 1, size - 1), values_B1HW.narrow(dim, size - 2, 1)], dim)
    return before, after


def _neighbour_mean(values_B1HW: Tensor, dim: int) -> Tensor:
    before, after = _neighbours(values_B1HW, dim)
    return (before + after) / 2


def _length(vector_B3HW: Tensor) -> Tensor:
    """Never near 0 here: at least 1, under a pinhole at least 1 over that of the ray. Ten times as fast as ``norm``."""
    return vector_B3HW.square().sum(1, keepdim=True).sqrt()


def _away_unless(known_B1HW: Tensor, normal_B3HW: Tensor) -> Tensor:
    """(0, 0, −1) where not known."""
    return torch.where(known_B1HW, normal_B3HW, normal_B3HW.new_tensor([0.0, 0.0, -1.0]).view(3, 1, 1))


def _facing(normal_B3HW: Tensor, direction_L3: Tensor) -> Tensor:
    """Cosines (B, L, 1, H, W) between normals and directions (L, 3) or (B, L, 3)."""
    subscripts = "bchw,lc->blhw" if direction_L3.ndim == 2 else "bchw,blc->blhw"
    return torch.einsum(subscripts, normal_B3HW, direction_L3).unsqueeze(2)


def _per_image(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)


def _index(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=like.dtype, device=like.device)
