"""Surface normals from a depth map, without torch: the numpy twin of what ``refine.render`` computes.

Axes: x right, y up, z towards the viewer. Convention ``"surface"`` has the normals as the surface stands in the world,
of length 1; ``"paper"`` as the code of Re-Depth Anything (arXiv 2512.17908) has them: x and y of the other sign, since
it takes depth for height, and shortened by an epsilon of 1e-8 (``refine.render`` says by how much).

A pixel gets the normal (0, 0, −1), which faces away, where it or a neighbour up, down, left or right has no depth.

Shapes: H, W image size; HW3 a normal per pixel.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, UnknownNameError

Convention = Literal["surface", "paper"]
_PAPER_EPSILON = 1e-8


def pseudo_depth(
    raw_HW: NDArray[np.floating[Any]], *, scale: float = 7.0, shift: float = 0.1
) -> NDArray[np.floating[Any]]:
    """Depth up to scale from relative inverse depth, as the paper starts: scale / (raw + shift).

    Raises:
        InputError: ``scale`` or ``shift`` is not positive, or a value of ``raw_HW`` is negative or not finite.
    """
    if scale <= 0 or shift <= 0:
        raise InputError(f"pseudo depth: scale {scale}, shift {shift}", expected="both positive")
    if not (np.isfinite(raw_HW) & (raw_HW >= 0)).all():
        raise InputError("relative inverse depth has negative or non-finite values", expected="finite values >= 0")
    return np.asarray(scale / (raw_HW + shift), raw_HW.dtype)


def short_side_unit(height: int, width: int) -> float:
    """What depth is multiplied by so that :func:`normals_orthographic` takes the picture's short side for 2 units.

    The paper's camera takes its height: turned by 90 degrees, a picture that is not square would get other slopes.
    """
    return min(height, width) / height


def normals_orthographic(
    depth_HW: NDArray[np.floating[Any]],
    valid_HW: NDArray[np.bool_] | None = None,
    *,
    convention: Convention = "surface",
) -> NDArray[np.floating[Any]]:
    """Normals (H, W, 3) under the paper's scaled orthographic camera, for depth without intrinsics.

    The picture spans −W/H..W/H across and 1..−1 down, and depth is taken to be in the same unit: how steep relief comes
    out depends on depth's scale. Slopes are central differences, one-sided at the border.

    Args:
        depth_HW: float32 or float64; the result has its type.
        valid_HW: where there is a depth; what is not finite or not positive is none in any case.
        convention: see the head of this module.

    Raises:
        InputError: not (H, W) of floats with both sides at least 2, or a mask of another shape.
        UnknownNameError: no such convention.
    """
    sign = _sign(convention)
    known_HW = _known(depth_HW, valid_HW)
    height, width = depth_HW.shape
    down_HW, across_HW = np.gradient(np.where(known_HW, depth_HW, depth_HW.dtype.type(1)))
    column_step, row_step = 2 * width / height / (width - 1), 2 / (height - 1)
    x_HW, y_HW = across_HW / column_step, -down_HW / row_step
    vector_HW3 = np.stack([sign * x_HW, sign * y_HW, np.ones_like(x_HW)], -1)
    length_HW1 = np.linalg.norm(vector_HW3, axis=-1, keepdims=True)
    if convention == "paper":
        length_HW1 = length_HW1 + depth_HW.dtype.type(_PAPER_EPSILON / (column_step * row_step))
    return _away_unless(_stencil(known_HW), vector_HW3 / length_HW1)


def normals_pinhole(
    depth_HW: NDArray[np.floating[Any]],
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    valid_HW: NDArray[np.bool_] | None = None,
    *,
    convention: Convention = "surface",
) -> NDArray[np.floating[Any]]:
    """Unit normals (H, W, 3) of what a pinhole camera sees; depth's scale does not matter.

    Tangents are central differences of the back-projected points, one-sided at the border, so planes come out exact.

    Args:
        depth_HW: along the optical axis, any unit; float32 or float64, and the result has its type.
        fx, fy, cx, cy: px of this image size; pixel centres are whole numbers.
        valid_HW: as for :func:`normals_orthographic`.
        convention: ``"paper"`` gives x and y the other sign.

    Raises:
        InputError: not (H, W) of floats with both sides at least 2, a mask of another shape, or a focal length that is
            not positive.
        UnknownNameError: no such convention.
    """
    sign = _sign(convention)
    if fx <= 0 or fy <= 0:
        raise InputError(f"focal lengths are {fx} and {fy} px", expected="positive numbers")
    known_HW = _known(depth_HW, valid_HW)
    height, width = depth_HW.shape
    safe_HW = np.where(known_HW, depth_HW, depth_HW.dtype.type(1))
    down_HW, across_HW = np.gradient(safe_HW)
    x_HW = fx * across_HW / _neighbour_mean(safe_HW, 1)
    y_HW = -fy * down_HW / _neighbour_mean(safe_HW, 0)
    ray_x_W = ((np.arange(width) - cx) / fx).astype(depth_HW.dtype)
    ray_y_H1 = ((cy - np.arange(height)) / fy).astype(depth_HW.dtype)[:, None]
    vector_HW3 = np.stack([sign * x_HW, sign * y_HW, 1 + ray_x_W * x_HW + ray_y_H1 * y_HW], -1)
    return _away_unless(_stencil(known_HW), vector_HW3 / np.linalg.norm(vector_HW3, axis=-1, keepdims=True))


def has_normal(depth_HW: NDArray[np.floating[Any]], valid_HW: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """(H, W): where the pixel and its neighbours up, down, left and right have a depth, so that a normal is known.

    Raises:
        InputError: as :func:`normals_orthographic`.
    """
    return _stencil(_known(depth_HW, valid_HW))


def _sign(convention: Convention) -> int:
    if convention not in get_args(Convention):
        raise UnknownNameError("convention of normals", convention, get_args(Convention))
    return 1 if convention == "surface" else -1


def _known(depth_HW: NDArray[Any], valid_HW: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if depth_HW.ndim != 2 or min(depth_HW.shape) < 2 or depth_HW.dtype.kind != "f":
        raise InputError(
            f"depth is {depth_HW.dtype} of shape {depth_HW.shape}", expected="floats of shape (H, W), 2x2 or larger"
        )
    known_HW: NDArray[np.bool_] = np.isfinite(depth_HW) & (depth_HW > 0)
    if valid_HW is None:
        return known_HW
    if valid_HW.shape != depth_HW.shape:
        raise InputError(f"the mask has shape {valid_HW.shape}", expected=f"that of the depth, {depth_HW.shape}")
    return np.asarray(known_HW & valid_HW)


def _stencil(known_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(known_HW, 1, mode="reflect")
    return np.asarray(known_HW & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def _neighbour_mean(values_HW: NDArray[Any], axis: int) -> NDArray[Any]:
    """Mean of the two neighbours along ``axis``; at the border the one there is."""
    widths = [(0, 0), (0, 0)]
    widths[axis] = (1, 1)
    padded = np.pad(values_HW, widths, mode="reflect")
    before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
    return np.asarray((before + after) / 2)


def _away_unless(known_HW: NDArray[np.bool_], normal_HW3: NDArray[Any]) -> NDArray[Any]:
    return np.where(known_HW[..., None], normal_HW3, np.array([0, 0, -1], normal_HW3.dtype))
