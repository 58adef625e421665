"""What a depth grid says about surfaces: where they break, which pixels hang between two of them, how they face.

Everything is judged in disparity (px): the inverse of depth is linear in the image over a plane, so that a slanted
floor has equal steps from pixel to pixel at any distance, and an edge is where a step is unlike the steps around it.

Shape legend: H, W image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

# A step that differs from those around it by more px of disparity per px is an edge, no slant, curve or noise: the
# larger of a fixed threshold and a share of the disparity (1 % per px is a surface seen at less than a degree or two).
JUMP, JUMP_SHARE = 0.15, 0.01
LAGS = (1, 2, 4)  # px: ramps of up to six times the largest are recognised
_AROUND = (-6, -3, 0, 3, 6)  # steps, in lags, whose median says what the slant is


@dataclass(frozen=True)
class Jumps:
    """Depth edges between neighbours, and their direction.

    ``across_HW`` (H, W-1) int8 is +1 or -1 where the surface breaks between columns j and j+1 (the sign of the step in
    disparity), else 0; ``down_HW`` (H-1, W) the same between rows i and i+1. A pair with an invalid pixel has 0.
    """

    across_HW: NDArray[np.int8]
    down_HW: NDArray[np.int8]

    def touched(self) -> Mask:
        """(H, W): pixels with an edge on at least one side."""
        height, width = self.across_HW.shape[0], self.down_HW.shape[1]
        touched_HW = np.zeros((height, width), np.bool_)
        for edge, axis in ((self.across_HW != 0, 1), (self.down_HW != 0, 0)):
            before, after = _sides(touched_HW, axis)
            before |= edge
            after |= edge
        return touched_HW


def find_jumps(disparity_HW: Map, valid_HW: Mask) -> Jumps:
    """Where the surface breaks between neighbouring pixels.

    A step in disparity is an edge if it differs by more than :data:`JUMP` or :data:`JUMP_SHARE` from the median of the
    steps around it on the same line: the slant there. ``disparity_HW`` is ``fx · baseline / z``, without ``doffs``.
    """
    across_HW = _signed_jumps(disparity_HW, valid_HW, 1)
    down_HW = _signed_jumps(disparity_HW.T, valid_HW.T, 1).T
    return Jumps(across_HW, np.ascontiguousarray(down_HW))


def tails(disparity_HW: Map, valid_HW: Mask) -> Mask:
    """(H, W): pixels that hang between an object and what is behind it.

    Networks draw depth edges as ramps a few pixels wide. A pixel of a ramp has an edge on two opposite sides, at one of
    the distances :data:`LAGS`, both in the same direction. A thin object has them in opposite directions, and is kept.
    """
    hanging_HW = np.zeros(valid_HW.shape, np.bool_)
    for values, valid, hanging in ((disparity_HW, valid_HW, hanging_HW), (disparity_HW.T, valid_HW.T, hanging_HW.T)):
        for lag in LAGS:
            signed = _signed_jumps(values, valid, lag)
            hanging[:, lag : signed.shape[1]] |= signed[:, :-lag] * signed[:, lag:] > 0
    return hanging_HW


def normals(points_HW3: NDArray[np.float32], valid_HW: Mask, jumps: Jumps) -> NDArray[np.float32]:
    """Unit normals (H, W, 3) float32 of a grid of points, facing the camera; 0 where no neighbours give one.

    From the cross product of the differences to the neighbours in the row and in the column: central where both sides
    belong to the surface, one-sided where one does. Differences across an edge do not count.
    """
    across_HW3 = _difference(points_HW3, valid_HW, jumps.across_HW == 0, axis=1)
    down_HW3 = _difference(points_HW3, valid_HW, jumps.down_HW == 0, axis=0)
    found_HW3 = np.cross(down_HW3, across_HW3)
    length_HW1 = np.linalg.norm(found_HW3, axis=2, keepdims=True)
    found_HW3 = np.divide(found_HW3, length_HW1, out=np.zeros_like(found_HW3), where=length_HW1 > 0)
    away_HW = (found_HW3 * points_HW3).sum(axis=2) > 0
    found_HW3[away_HW] *= -1
    found_HW3[~valid_HW] = 0
    return np.asarray(found_HW3, np.float32)


def largest_part(keep_HW: Mask) -> Mask:
    """The largest 4-connected part of a mask; all false if there is none."""
    _, label_HW, stats, _ = cv2.connectedComponentsWithStats(keep_HW.astype(np.uint8), connectivity=4)
    if len(stats) < 2:
        return np.zeros_like(keep_HW)
    return np.asarray(label_HW == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _signed_jumps(disparity_HW: Map, valid_HW: Mask, lag: int) -> NDArray[np.int8]:
    """(H, W - lag): the sign of the step from column j to j + lag where it is an edge, else 0."""
    width = disparity_HW.shape[1]
    if width <= lag:
        return np.zeros((len(disparity_HW), 0), np.int8)
    before_HW, after_HW = disparity_HW[:, :-lag], disparity_HW[:, lag:]
    known_HW = valid_HW[:, lag:] & valid_HW[:, :-lag]
    step_HW = np.where(known_HW, after_HW - before_HW, np.float32(0))
    reach = lag * max(_AROUND)
    padded_HW = np.pad(step_HW, ((0, 0), (reach, reach)))
    around = [padded_HW[:, reach + lag * k : reach + lag * k + step_HW.shape[1]] for k in _AROUND]
    excess_HW = step_HW - _median_of_five(around)
    limit_HW = lag * np.maximum(JUMP, JUMP_SHARE * np.minimum(before_HW, after_HW))
    return np.where(known_HW & (np.abs(excess_HW) > limit_HW), np.sign(excess_HW), 0).astype(np.int8)


def _median_of_five(maps: Sequence[Map]) -> Map:
    """Element by element, by comparing and exchanging: ten times as fast as sorting."""
    a, b, c, d, e = maps
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    a, c = np.minimum(a, c), np.maximum(a, c)  # a is at most the second smallest: out
    b, d = np.minimum(b, d), np.maximum(b, d)  # d is at least the second largest: out
    b, c = np.minimum(b, c), np.maximum(b, c)
    return np.asarray(np.maximum(b, np.minimum(c, e)), np.float32)


def _difference(points_HW3: NDArray[np.float32], valid_HW: Mask, whole: Mask, *, axis: int) -> NDArray[np.float64]:
    """Sum of the differences to the neighbours before and after along an axis, where both are valid and unbroken."""
    total_HW3 = np.zeros(points_HW3.shape, np.float64)
    first, second = _sides(valid_HW, axis)
    step = np.diff(points_HW3.astype(np.float64), axis=axis) * (first & second & whole)[:, :, None]
    for side in _sides(total_HW3, axis):
        side += step
    return total_HW3


def _sides(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """All but the last and all but the first along an axis, as views."""
    if axis == 0:
        return values[:-1], values[1:]
    return values[:, :-1], values[:, 1:]
