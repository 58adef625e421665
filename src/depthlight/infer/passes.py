"""Further passes of one network over a pair, enlarged and upside down, and the middle of their answers. No torch.

Shapes: H × W the pair, N passes. Disparity in px of the left view at input size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .prediction import StereoMatcher, StereoPrediction

Image = NDArray[np.uint8]
FloatMap = NDArray[np.float32]
Pass = tuple[FloatMap, FloatMap]  # disparity and confidence
SCALES = (1.0, 1.5, 2.0)
LARGEST = 1_200_000  # px of an enlarged image
_RANGE_STEP = 32  # px: what ranges are multiples of
_LEAST_STEP = 1.1  # between two scales; less is not worth a pass
_SURE = 2  # power of the confidence that weighs a pass
_FLOOR = 1e-3  # so that a pixel where no pass is confident still has a middle


def passes(
    matcher: StereoMatcher,
    left_HW3: Image,
    right_HW3: Image,
    plain: StereoPrediction,
    *,
    scales: Sequence[float] = SCALES,
    largest: int = LARGEST,
    check: Callable[[], object] = lambda: None,
) -> Iterator[Pass]:
    """Disparity and confidence of the plain pass, and of the pair at every scale, upright and upside down.

    Args:
        scales: 1 or more, rising; of a large pair those of :func:`fitting_scales`.
        check: called before every pass; may raise to stop.

    Raises:
        LimitError: an enlarged pass needs more memory than is free.
    """
    yield plain.disparity, plain.confidence
    for factor in fitting_scales(left_HW3.shape[0], left_HW3.shape[1], scales, largest):
        for upside_down in (False, True):
            if factor > 1 or upside_down:  # else it is the plain one
                check()
                yield run_pass(matcher, left_HW3, right_HW3, factor, upside_down, plain.max_disp)


def fitting_scales(height: int, width: int, scales: Sequence[float], largest: int = LARGEST) -> tuple[float, ...]:
    """The scales, cut to what ``largest`` (px) allows a pair of this size; rising by a tenth or more."""
    most = max(1.0, math.sqrt(largest / (height * width)))
    kept: list[float] = []
    for scale in (min(scale, most) for scale in scales):
        if not kept or scale >= _LEAST_STEP * kept[-1]:
            kept.append(scale)
    return tuple(kept)


def middle(answers: Sequence[Pass]) -> tuple[FloatMap, FloatMap]:
    """:func:`confident_median` of some passes."""
    disparity_NHW, confidence_NHW = (np.stack(maps) for maps in zip(*answers, strict=True))
    return confident_median(disparity_NHW, confidence_NHW)


def confident_median(disparity_NHW: FloatMap, confidence_NHW: FloatMap) -> tuple[FloatMap, FloatMap]:
    """Median over N weighted by squared confidence, and the mean distance from it under the same weights; (H, W) px."""
    weight_NHW = np.maximum(confidence_NHW, _FLOOR) ** _SURE
    order_NHW = np.argsort(disparity_NHW, axis=0, kind="stable")
    sorted_NHW = np.take_along_axis(disparity_NHW, order_NHW, 0)
    mass_NHW = np.cumsum(np.take_along_axis(weight_NHW, order_NHW, 0), axis=0)
    middle_1HW = (2 * mass_NHW >= mass_NHW[-1:]).argmax(0)[None]
    median_HW = np.take_along_axis(sorted_NHW, middle_1HW, 0)[0]
    spread_HW = (weight_NHW * np.abs(disparity_NHW - median_HW)).sum(0) / weight_NHW.sum(0)
    return np.ascontiguousarray(median_HW, np.float32), np.asarray(spread_HW, np.float32)


def run_pass(
    matcher: StereoMatcher, left_HW3: Image, right_HW3: Image, factor: float, upside_down: bool, max_disp: int
) -> tuple[FloatMap, FloatMap]:
    """Disparity (px of the input) and confidence of one pass over the pair enlarged by ``factor``, at input size."""
    height, width = left_HW3.shape[:2]
    enlarged = factor > 1
    pair = [left_HW3[::-1] if upside_down else left_HW3, right_HW3[::-1] if upside_down else right_HW3]
    range_px = max_disp
    if enlarged:
        size = round(width * factor), round(height * factor)
        pair = [_enlarged(image, size) for image in pair]
        range_px = math.ceil(max_disp * size[0] / width / _RANGE_STEP) * _RANGE_STEP
    answer = matcher.predict(np.ascontiguousarray(pair[0]), np.ascontiguousarray(pair[1]), max_disp=range_px)
    disparity_HW, confidence_HW = answer.disparity, answer.confidence
    if enlarged:
        scale = np.float32(width / disparity_HW.shape[1])
        disparity_HW, confidence_HW = (
            np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
            for values in (disparity_HW * scale, confidence_HW)
        )
    if upside_down:
        disparity_HW, confidence_HW = disparity_HW[::-1], confidence_HW[::-1]
    return np.ascontiguousarray(disparity_HW, np.float32), np.ascontiguousarray(confidence_HW, np.float32)


def _enlarged(image_HW3: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(np.ascontiguousarray(image_HW3), size, interpolation=cv2.INTER_CUBIC), np.uint8)
