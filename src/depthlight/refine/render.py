"""Relative inverse depth → depth → normals → the picture under other lights; differentiable, batched, any device.

The rules are those of Re-Depth Anything (arXiv 2512.17908). The last step, from normals to pictures, is in
:mod:`depthlight.nets.lighting`. Float32 and float64; gradients are finite everywhere.

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

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, UnknownNameError
from ..nets.lighting import Lighting as Lighting
from ..nets.lighting import relight as relight
from ..nets.lighting import shading as shading

Convention = Literal["surface", "paper"]
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


def _per_image(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)


def _index(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=like.dtype, device=like.device)
