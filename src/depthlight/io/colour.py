"""Numbers as colours: disparity, confidence, error.

Letters in names: H height, W width, 3 RGB channels (uint8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, UnknownNameError

COLOUR_MAPS: Mapping[str, int] = {
    "turbo": cv2.COLORMAP_TURBO,  # the field's habit for disparity: near is red, far is blue
    "magma": cv2.COLORMAP_MAGMA,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "gray": -1,
}
INVALID_COLOUR = (38, 38, 42)

# Error in px at which the next colour begins, doubling as in KITTI's error images; colours: ColorBrewer RdYlBu (10).
ERROR_BOUNDS = (0.1875, 0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0)
ERROR_COLOURS = (
    (49, 54, 149),
    (69, 117, 180),
    (116, 173, 209),
    (171, 217, 233),
    (224, 243, 248),
    (254, 224, 144),
    (253, 174, 97),
    (244, 109, 67),
    (215, 48, 39),
    (165, 0, 38),
)


def robust_range(
    values_HW: NDArray[np.floating[Any]], valid_HW: NDArray[np.bool_] | None = None, *, cut: float = 1.0
) -> tuple[float, float]:
    """The range between the percentiles ``cut`` and 100 - ``cut`` of the valid finite values, never empty.

    (0, 1) where there are none; a constant map gets a range of one unit around it.
    """
    usable_HW = np.isfinite(values_HW) if valid_HW is None else np.isfinite(values_HW) & valid_HW
    if not usable_HW.any():
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values_HW[usable_HW], (cut, 100 - cut)))
    if high - low < 1e-6 * max(1.0, abs(high)):
        return low - 0.5, low + 0.5
    return low, high


def colour_map(
    values_HW: NDArray[np.floating[Any]],
    low: float,
    high: float,
    *,
    valid_HW: NDArray[np.bool_] | None = None,
    name: str = "turbo",
) -> NDArray[np.uint8]:
    """``low``–``high`` as the colours of a map, (H, W, 3) RGB uint8; values beyond take the end colours.

    Pixels that are not valid or not finite are :data:`INVALID_COLOUR`.

    Raises:
        InputError: not (H, W), or ``high`` is not above ``low``.
        UnknownNameError: no such map.
    """
    if values_HW.ndim != 2 or values_HW.size == 0:
        raise InputError(f"a colour map needs one value a pixel, got shape {values_HW.shape}", expected="(H, W)")
    if not low < high:
        raise InputError(f"the colour range is {low:g} to {high:g}", expected="low < high")
    if name not in COLOUR_MAPS:
        raise UnknownNameError("colour map", name, COLOUR_MAPS)
    shown_HW = np.isfinite(values_HW) if valid_HW is None else np.isfinite(values_HW) & valid_HW
    share_HW = (np.where(shown_HW, values_HW, low).astype(np.float64) - low) / (high - low)
    level_HW = np.rint(share_HW.clip(0, 1) * 255).astype(np.uint8)
    if COLOUR_MAPS[name] < 0:
        rgb_HW3 = np.repeat(level_HW[:, :, None], 3, axis=2)
    else:
        rgb_HW3 = np.ascontiguousarray(cv2.applyColorMap(level_HW, COLOUR_MAPS[name])[:, :, ::-1])
    rgb_HW3[~shown_HW] = INVALID_COLOUR
    return rgb_HW3


def error_colours(
    disparity_HW: NDArray[np.floating[Any]],
    truth_HW: NDArray[np.floating[Any]],
    valid_HW: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """|disparity - truth| in px as ten colours from blue (below 0.19) to dark red (above 48), (H, W, 3) RGB uint8.

    Pixels without truth are :data:`INVALID_COLOUR`; one where the disparity is not finite counts as the worst.

    Raises:
        InputError: the two maps differ in shape.
    """
    if disparity_HW.shape != truth_HW.shape or disparity_HW.ndim != 2:
        raise InputError(
            f"disparity is {disparity_HW.shape} and truth {truth_HW.shape}", expected="two (H, W) of one shape"
        )
    known_HW = np.isfinite(truth_HW) if valid_HW is None else np.isfinite(truth_HW) & valid_HW
    error_HW = np.abs(disparity_HW.astype(np.float64) - np.where(known_HW, truth_HW, 0))
    error_HW = np.where(np.isfinite(error_HW), error_HW, np.inf)
    rgb_HW3 = np.array(ERROR_COLOURS, np.uint8)[np.searchsorted(ERROR_BOUNDS, error_HW, side="right")]
    rgb_HW3[~known_HW] = INVALID_COLOUR
    return rgb_HW3
