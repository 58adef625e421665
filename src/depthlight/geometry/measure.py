"""Lengths in a depth map: between two pixels, and of what a box shows; each with its uncertainty.

Uncertainties are one sigma and come from the depth's own (``DepthMap.sigma``). The errors at two pixels are taken as
independent; errors of the calibration (a baseline 1 % too long makes every length 1 % too long) are not in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from .depth import DepthMap
from .surface import largest_part

REACH = 2  # px round a pixel that are asked for its depth
SAME_SURFACE = 1.0  # px of disparity by which they may differ from the pixel itself


@dataclass(frozen=True)
class Point:
    """A pixel in space: ``position`` metres (x right, y down, z forward), ``sigma`` of z in metres or None."""

    pixel: tuple[float, float]
    position: tuple[float, float, float]
    sigma: float | None


@dataclass(frozen=True)
class Distance:
    """``length`` metres between two points, and its uncertainty (None where that of the depth is not known)."""

    start: Point
    end: Point
    length: float
    sigma: float | None


@dataclass(frozen=True)
class Extent:
    """What a box shows, in metres.

    ``width``, ``height`` and ``thickness`` are the extents of the surface along x, y and z of the camera, ``depth`` its
    median z; each sigma is None where that of the depth is not known. ``pixels``: how many pixels the surface has;
    ``share``: of the box (0..1).
    """

    box: tuple[int, int, int, int]
    depth: float
    width: float
    height: float
    thickness: float
    depth_sigma: float | None
    width_sigma: float | None
    height_sigma: float | None
    thickness_sigma: float | None
    pixels: int
    share: float


def locate(depth: DepthMap, x: float, y: float) -> Point:
    """The point that pixel column ``x``, row ``y`` shows.

    Its depth is the median over the 5×5 valid pixels round it that lie on the same surface (their disparity differs by
    at most 1 px from the pixel's own), so that one wrong pixel does not count and an edge nearby does not either. The
    uncertainty is the median of theirs, not less: errors of neighbours are alike.

    Raises:
        InputError: outside the image, or without a depth there.
    """
    height, width = depth.depth.shape
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):  # also for NaN
        raise InputError(f"pixel {x:g},{y:g} is outside the image", expected=f"0..{width - 1},0..{height - 1}")
    column, row = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    if not depth.valid[row, column]:
        raise InputError(f"pixel {column},{row} has no depth", hint="Choose one that valid.png shows in white")
    window = slice(max(0, row - REACH), row + REACH + 1), slice(max(0, column - REACH), column + REACH + 1)
    numerator = depth.rig.fx * depth.rig.baseline
    disparity = numerator / np.where(depth.valid[window], depth.depth[window], 1).astype(np.float64)
    own = numerator / float(depth.depth[row, column])
    same = depth.valid[window] & (np.abs(disparity - own) <= SAME_SURFACE)
    z = numerator / float(np.median(disparity[same]))
    ray = _ray(depth, x, y)
    sigma = None if depth.sigma is None else float(np.median(depth.sigma[window][same]))
    return Point((x, y), (ray[0] * z, ray[1] * z, z), sigma)


def distance(depth: DepthMap, start: tuple[float, float], end: tuple[float, float]) -> Distance:
    """The straight line between what two pixels (x, y) show. See :func:`locate`.

    Raises:
        InputError: a pixel is outside the image or has no depth.
    """
    one, other = locate(depth, *start), locate(depth, *end)
    line = np.subtract(other.position, one.position)
    length = float(np.linalg.norm(line))
    if one.sigma is None or other.sigma is None:
        return Distance(one, other, length, None)
    direction = line / length if length > 0 else np.array([0.0, 0.0, 1.0])
    along = [float(direction @ _ray(depth, *point.pixel)) * point.sigma for point in (one, other) if point.sigma]
    return Distance(one, other, length, math.hypot(*along))


def extent(depth: DepthMap, box: tuple[int, int, int, int]) -> Extent:
    """The size of the surface seen in a box (x, y, width, height in px).

    The surface is the largest part of the box that hangs together without a depth edge; background at the corners of
    the box is left out that way. Along x and y its extent runs from the outer edge of the first pixel to that of the
    last, over all but the outermost 0.5 % of the pixels on either side; along z between the same percentiles.

    Raises:
        InputError: the box is empty or not inside the image, or has no depth.
    """
    x, y, width, height = box
    rows, columns = depth.depth.shape
    if width < 1 or height < 1 or x < 0 or y < 0 or x + width > columns or y + height > rows:
        raise InputError(
            f"box {x},{y},{width},{height} is not inside the image", expected=f"within {columns}x{rows} px"
        )
    clean = depth.without_tails()  # not by confidence: that would eat into the borders of a smooth surface
    inside = np.zeros_like(depth.valid)
    inside[y : y + height, x : x + width] = True
    surface = _surface(clean, inside)
    if not surface.any():
        raise InputError(f"box {x},{y},{width},{height} has no depth", hint="Choose one that valid.png shows in white")
    points = clean.points()[surface].astype(np.float64)
    z = float(np.median(points[:, 2]))
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    footprint = np.array([z / depth.rig.fx, z / depth.rig.fy, 0.0])  # points are pixel centres
    size = high - low + footprint
    sigma = None if clean.sigma is None else float(np.median(clean.sigma[surface]))
    across = [None if sigma is None else math.hypot(size[i] * sigma / z, footprint[i]) for i in (0, 1)]
    return Extent(
        box=box,
        depth=z,
        width=float(size[0]),
        height=float(size[1]),
        thickness=float(size[2]),
        depth_sigma=sigma,
        width_sigma=across[0],
        height_sigma=across[1],
        thickness_sigma=None if sigma is None else math.sqrt(2) * sigma,
        pixels=int(surface.sum()),
        share=float(surface.sum() / (width * height)),
    )


def _surface(depth: DepthMap, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part; then the pixels at its edges, which were left out to cut it from others."""
    touched = depth.jumps().touched()
    numerator = depth.rig.fx * depth.rig.baseline
    part = largest_part(depth.valid & inside & ~touched)
    if not part.any():
        return part
    rim = depth.valid & inside & touched
    for axis in (0, 1):  # a rim pixel belongs to the part if a neighbour in it has nearly its depth
        for shift in (1, -1):
            beside = np.roll(np.where(part, depth.depth, np.float32(0)), shift, axis)
            np.moveaxis(beside, axis, 0)[0 if shift == 1 else -1] = 0  # the other side of the image is no neighbour
            known = rim & (beside > 0)
            step = np.abs(numerator / np.where(known, beside, 1) - numerator / np.where(known, depth.depth, 1))
            part = part | (known & (step <= SAME_SURFACE))
    return part


def _ray(depth: DepthMap, x: float, y: float) -> NDArray[np.float64]:
    """(x/z, y/z, 1) of a pixel."""
    rig = depth.rig
    return np.array([(x - rig.cx) / rig.fx, (y - rig.cy) / rig.fy, 1.0])
