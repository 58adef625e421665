"""What a stereo network sees in a pair at reduced size: disparities beyond the range and below zero.

At half size the network's range reaches twice as far, so that the share of pixels beyond it at full size is measured,
not guessed from a pile-up at the limit. Columns are cut off the left of the right view and the right of the left
one: that adds as many px to every disparity, and what was a little below zero becomes visible.

Shape legend: H W image size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..prediction import StereoMatcher, StereoPrediction

Image = NDArray[np.uint8]
PIXELS = 400_000  # at most, of the reduced pair
SMALLEST = 64  # px: sides are not reduced below it
SURE = 0.5  # confidence of a pixel that is counted
SHIFT = 16  # px of the reduced pair
BELOW_ZERO = -2.0  # px of the full pair: more than the error of half a size


@dataclass(frozen=True)
class DenseAnswer:
    """Shares (0..1) of all pixels, and how well the pair and its exchange explain each other."""

    beyond: float  # disparity above the range asked about
    negative: float  # disparity below -2 px
    confidence: float  # mean, 0..1
    unlike: float  # median difference between the left view and the right one brought onto it, gray levels
    unlike_exchanged: float | None = None  # the same with the views exchanged, if that was asked for


def dense_answer(
    matcher: StereoMatcher, left_HW3: Image, right_HW3: Image, max_disp: int, *, exchanged: bool = False
) -> DenseAnswer | None:
    """The network's answer at half size or less about disparities above ``max_disp`` px; None for tiny images.

    ``exchanged``: ask about the exchanged pair too (twice the time).
    """
    height, width = left_HW3.shape[:2]
    factor = min(0.5, (PIXELS / (height * width)) ** 0.5)
    size = (round(width * factor), round(height * factor))
    if min(size) < SMALLEST:
        return None
    left, right = (
        np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA), np.uint8) for one in (left_HW3, right_HW3)
    )
    shift = min(SHIFT, size[0] // 8)
    left, right = np.ascontiguousarray(left[:, : size[0] - shift]), np.ascontiguousarray(right[:, shift:])
    found = matcher.predict(left, right)
    full_HW = (found.disparity - shift) * (width / size[0])
    sure_HW = found.confidence > SURE
    return DenseAnswer(
        beyond=float((sure_HW & (full_HW > max_disp)).mean()),
        negative=float((sure_HW & (full_HW < BELOW_ZERO)).mean()),
        confidence=float(found.confidence.mean()),
        unlike=_unlike(left, right, found),
        unlike_exchanged=_unlike(right, left, matcher.predict(right, left)) if exchanged else None,
    )


def _unlike(left_HW3: Image, right_HW3: Image, found: StereoPrediction) -> float:
    """Median absolute difference of gray, freed of each view's mean and contrast, where the match is inside."""
    left_HW, right_HW = _gray(left_HW3), _gray(right_HW3)
    columns = np.arange(left_HW.shape[1], dtype=np.float32)[None, :] - found.disparity
    rows = np.repeat(np.arange(left_HW.shape[0], dtype=np.float32)[:, None], left_HW.shape[1], axis=1)
    moved_HW = cv2.remap(right_HW, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside_HW = columns >= 0
    return float(np.median(np.abs(left_HW - moved_HW)[inside_HW])) if inside_HW.any() else 255.0


def _gray(image_HW3: Image) -> NDArray[np.float32]:
    gray_HW = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray((gray_HW - gray_HW.mean()) * (50 / max(1.0, float(gray_HW.std()))), np.float32)
