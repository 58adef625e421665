"""Bringing a small map of changes to the photo's size. Needs no torch.

Shapes: h × w the small map, H × W the photo.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError

RADIUS = 4  # px of the small map
EPSILON = 1e-2  # contrast² (of a guide in 0..1) below which the guide is taken for texture


def enlarge(
    change_hw: NDArray[np.floating[Any]],
    guide_HW: NDArray[np.floating[Any]],
    method: Literal["bilinear", "guided"] = "guided",
) -> NDArray[np.float32]:
    """The map at the guide's size, (H, W) float32.

    ``guided`` is the fast guided filter (He & Sun, arXiv 1505.00996): where the map follows the guide it gets the
    guide's edges, elsewhere it stays smooth. Both keep a constant map as it is.

    Args:
        change_hw: finite values.
        guide_HW: in 0..1; the photo's brightness.
        method: see above.

    Raises:
        InputError: the maps are not 2-D.
    """
    if change_hw.ndim != 2 or guide_HW.ndim != 2:
        raise InputError(f"a map of shape {change_hw.shape} and a guide of {guide_HW.shape}", expected="(h, w), (H, W)")
    change_hw = np.ascontiguousarray(change_hw, np.float32)
    guide_HW = np.ascontiguousarray(guide_HW, np.float32)
    height, width = guide_HW.shape
    if method == "bilinear":
        return _resize(change_hw, width, height)
    guide_hw = _smaller(guide_HW, change_hw.shape[1], change_hw.shape[0])
    mean_guide_hw, mean_change_hw = _mean(guide_hw), _mean(change_hw)
    covariance_hw = _mean(guide_hw * change_hw) - mean_guide_hw * mean_change_hw
    variance_hw = _mean(guide_hw * guide_hw) - mean_guide_hw**2
    slope_hw = covariance_hw / (np.maximum(variance_hw, 0) + EPSILON)
    rest_hw = mean_change_hw - slope_hw * mean_guide_hw
    # the filter alone would blur what the guide does not show: what it misses of the small map is added back
    missed_hw = change_hw - (_mean(slope_hw) * guide_hw + _mean(rest_hw))
    slope_HW, rest_HW, missed_HW = (
        _resize(map_hw, width, height) for map_hw in (_mean(slope_hw), _mean(rest_hw), missed_hw)
    )
    return np.asarray(slope_HW * guide_HW + rest_HW + missed_HW, np.float32)


def brightness(photo_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) float32 in 0..1 of an RGB photo."""
    return np.asarray(cv2.cvtColor(photo_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255)


def _mean(values_hw: NDArray[np.float32]) -> NDArray[np.float32]:
    side = 2 * RADIUS + 1
    return np.asarray(cv2.blur(values_hw, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


def _resize(values_hw: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values_hw, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _smaller(values_HW: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values_HW, (width, height), interpolation=cv2.INTER_AREA), np.float32)
