"""A second view of a photo from its depth: for stereo glasses, phones and headsets.

Each pixel of the photo moves to the left by its disparity, near things in front of far ones. What they uncover nobody
has seen: it is filled with the mirrored background beside it.

Shape legend: H W image size, 3 RGB.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..geometry.surface import tails
from ..io.colour import robust_range
from .mono_prediction import MonoPrediction
from .pairs import Image
from .sgbm import fill_holes

STRONGEST = 10.0  # per cent of the width: beyond that no eye fuses the views
SAME = 2.0  # px of disparity within which two pixels may be one surface


def side_by_side(image_HW3: Image, prediction: MonoPrediction, percent: float) -> Image:
    """The photo and its second view, (H, 2·W, 3) uint8.

    The nearest things get a disparity of ``percent`` of the width and the farthest none, linear in inverse depth
    between their 1st and 99th percentile; what lies beyond these takes their disparity.

    Raises:
        InputError: ``percent`` is not above 0 and at most 10, or the image has another size than the prediction.
    """
    need_percent(percent)
    if image_HW3.shape[:2] != prediction.values.shape:
        raise InputError("the photo has another size than its depth", expected=f"{prediction.values.shape}")
    values_HW = prediction.values
    if prediction.is_metric:
        values_HW = np.divide(1, values_HW, out=np.zeros_like(values_HW), where=values_HW > 0)
    low, high = robust_range(values_HW)
    share_HW = np.clip((values_HW - low) / (high - low), 0, 1)
    disparity_HW = (share_HW * (percent / 100 * image_HW3.shape[1])).astype(np.float32)
    return np.hstack([image_HW3, second_view(image_HW3, disparity_HW)])


def need_percent(percent: float | None) -> float | None:
    """The shift, if it is one that :func:`side_by_side` takes, or None; raises InputError for any other."""
    if percent is not None and not 0 < percent <= STRONGEST:
        raise InputError(f"a shift of {percent:g} % of the width", expected=f"above 0, at most {STRONGEST:g}")
    return percent


def second_view(image_HW3: Image, disparity_HW: NDArray[np.float32]) -> Image:
    """What the right camera of a pair would see, (H, W, 3) uint8, given the left view and its disparity (px, >= 0).

    Depth edges drawn as ramps are taken as edges (:func:`depthlight.geometry.surface.tails`).
    """
    width = disparity_HW.shape[1]
    sharp_HW = fill_holes(disparity_HW, ~tails(disparity_HW, np.ones(disparity_HW.shape, np.bool_)))
    right_HW, known_HW = _seen_from_the_right(sharp_HW)
    row_H1, column_W = np.arange(len(right_HW))[:, None], np.arange(width)
    source_HW = (column_W + right_HW).astype(np.float32)
    rows_HW = np.broadcast_to(row_H1, source_HW.shape).astype(np.float32)
    view_HW3 = cv2.remap(image_HW3, source_HW, rows_HW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    beside_HW = _background_beside(right_HW, known_HW)
    mirrored_HW = np.clip(2 * beside_HW - column_W, 0, width - 1)
    alike_HW = known_HW[row_H1, mirrored_HW] & (
        np.abs(right_HW[row_H1, mirrored_HW] - right_HW[row_H1, beside_HW]) < SAME
    )
    taken_HW = np.where(known_HW, column_W, np.where(alike_HW, mirrored_HW, beside_HW))
    return np.asarray(view_HW3[row_H1, taken_HW], np.uint8)


def _seen_from_the_right(disparity_HW: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The disparity at the pixels of the right view, holes filled from the background, and where it is no hole."""
    height, width = disparity_HW.shape
    right_HW = np.full(disparity_HW.shape, -1, np.float32)
    target_HW = np.arange(width) - disparity_HW
    rows_HW = np.broadcast_to(np.arange(height)[:, None], disparity_HW.shape)
    for column_HW in (np.floor(target_HW).astype(np.intp), np.ceil(target_HW).astype(np.intp)):
        inside = column_HW >= 0
        np.maximum.at(right_HW, (rows_HW[inside], column_HW[inside]), disparity_HW[inside])
    known_HW = right_HW >= 0
    return fill_holes(right_HW, known_HW), known_HW


def _background_beside(right_HW: NDArray[np.float32], known_HW: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(H, W) for each hole the column of the nearest known pixel in its row, on the farther side."""
    width = right_HW.shape[1]
    column_W = np.arange(width)
    before_HW = np.maximum.accumulate(np.where(known_HW, column_W, -1), axis=1)
    after_HW = np.minimum.accumulate(np.where(known_HW, column_W, width)[:, ::-1], axis=1)[:, ::-1]
    left_HW, right_side_HW = (np.clip(side, 0, width - 1) for side in (before_HW, after_HW))
    left_is_far = np.take_along_axis(right_HW, left_HW, 1) <= np.take_along_axis(right_HW, right_side_HW, 1)
    use_left = (after_HW == width) | ((before_HW >= 0) & left_is_far)
    return np.where(use_left, left_HW, right_side_HW)
