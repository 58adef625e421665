"""Which disparities to believe: range limit, frame, agreement of the two views, and images that say nothing.

Shape legend: H W image size. Disparity in px, left view unless said otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]
BoolMap = NDArray[np.bool_]

LIMIT_MARGIN = 8  # px: two of a network's quarter-size bins; a disparity this close to the limit counts as cut off
LEFT_RIGHT_TOLERANCE = 1.0  # px


def at_range_limit(disparity_HW: FloatMap, max_disp: int, margin: int = LIMIT_MARGIN, *, min_disp: int = 0) -> BoolMap:
    """Pixels within ``margin`` px (two steps of the search) of the range limit: their true disparity may lie beyond.

    A range that begins at 0 has no lower limit: 0 is infinitely far. Any other smallest disparity is one as well.
    """
    limit: BoolMap = disparity_HW >= max_disp - margin
    if min_disp:
        limit |= disparity_HW <= min_disp + margin
    return limit


def inside_right_view(disparity_HW: FloatMap) -> BoolMap:
    """Pixels whose match ``x - d`` lies between the right image's first and last column (half a pixel allowed)."""
    width = disparity_HW.shape[1]
    match_HW = np.arange(width, dtype=np.float32)[None, :] - disparity_HW
    inside: BoolMap = (match_HW >= -0.5) & (match_HW <= width - 0.5)
    return inside


def left_right_agree(
    disparity_HW: FloatMap, disparity_right_HW: FloatMap, tolerance: float = LEFT_RIGHT_TOLERANCE
) -> BoolMap:
    """Pixels where the right view's disparity at the match differs by at most ``tolerance`` px (linear look-up).

    Matches outside the right view do not agree.
    """
    height, width = disparity_HW.shape
    columns = np.arange(width, dtype=np.float32)[None, :] - disparity_HW
    low = np.clip(np.floor(columns), 0, width - 1).astype(np.intp)
    high = np.minimum(low + 1, width - 1)
    weight = np.clip(columns - low, 0, 1)
    rows = np.arange(height)[:, None]
    found = disparity_right_HW[rows, low] * (1 - weight) + disparity_right_HW[rows, high] * weight
    agree: BoolMap = np.abs(found - disparity_HW) <= tolerance
    return agree & inside_right_view(disparity_HW)


def says_nothing(left_HW3: NDArray[np.uint8], right_HW3: NDArray[np.uint8]) -> bool:
    """Whether one of the views is a single colour, so that no match can be known."""
    return any(_flat(image[:1]) and _flat(image) for image in (left_HW3, right_HW3))  # one row tells most images apart


def _flat(image_HW3: NDArray[np.uint8]) -> bool:
    return bool((image_HW3 == image_HW3[:1, :1]).all())
