"""Points that two views share, found without any knowledge of the cameras.

Letters in names: H height, W width, N matches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .cameras import Floats

_FEATURES = 3000
_RATIO = 0.75  # Lowe 2004: nearest against second nearest descriptor
_LARGEST = 1600  # px: larger images are searched smaller


@dataclass(frozen=True)
class Matches:
    """``left`` and ``right``: (N, 2) float64 px, row for row the same scene points (as far as looks can tell)."""

    left: Floats
    right: Floats

    def __len__(self) -> int:
        return len(self.left)

    def of(self, keep_N: NDArray[np.bool_]) -> Matches:
        """Some of them."""
        return Matches(self.left[keep_N], self.right[keep_N])


def gray_8_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Gray uint8 (H, W) of an 8- or 16-bit gray or RGB image."""
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    pixels = np.ascontiguousarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.asarray(pixels.reshape(pixels.shape[:2]), np.uint8)


def match_points(
    left: NDArray[Any], right: NDArray[Any], masks: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
) -> Matches:
    """SIFT points (Lowe 2004) that choose each other and clearly prefer each other to the next best.

    ``masks``: where to look in the two images, (H, W) bool.
    """
    found = [
        _features(gray_8_bit(image), None if masks is None else masks[index])
        for index, image in enumerate((left, right))
    ]
    (points_l, words_l), (points_r, words_r) = found
    if words_l is None or words_r is None or min(len(words_l), len(words_r)) < 2:
        return Matches(np.zeros((0, 2)), np.zeros((0, 2)))
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    forth, back = matcher.knnMatch(words_l, words_r, k=2), matcher.knnMatch(words_r, words_l, k=2)
    best_back = {one.queryIdx: one.trainIdx for one, two in back if one.distance < _RATIO * two.distance}
    pairs = [
        (one.queryIdx, one.trainIdx)
        for one, two in forth
        if one.distance < _RATIO * two.distance and best_back.get(one.trainIdx) == one.queryIdx
    ]
    index = np.array(pairs, np.int64).reshape(-1, 2)
    return Matches(points_l[index[:, 0]], points_r[index[:, 1]])


def _features(gray_HW: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> tuple[Floats, Any]:
    height, width = gray_HW.shape
    factor = min(1.0, _LARGEST / max(height, width))
    where = None if mask is None else mask.astype(np.uint8) * 255
    if factor < 1:
        size = (round(width * factor), round(height * factor))
        gray_HW = np.asarray(cv2.resize(gray_HW, size, interpolation=cv2.INTER_AREA), np.uint8)
        if where is not None:
            where = np.asarray(cv2.resize(where, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    scale = np.array([width / gray_HW.shape[1], height / gray_HW.shape[0]])
    make_sift: Any = getattr(cv2, "SIFT_create")  # noqa: B009 absent from OpenCV's type hints
    keypoints, words = make_sift(nfeatures=_FEATURES).detectAndCompute(gray_HW, where)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float64).reshape(-1, 2)
    return (points + 0.5) * scale - 0.5, words


@dataclass(frozen=True)
class VerticalError:
    """What is left of the difference in rows (right − left), px: of ``matches`` points that lie on common rows."""

    matches: int
    median: float
    median_absolute: float
    p90_absolute: float


_FEW = 20
_GROSS = 5.0  # px from the median: a wrong match


def vertical_error(left: NDArray[Any], right: NDArray[Any], masks: Any = None) -> VerticalError | None:
    """Measured on a rectified pair by its matches; None if there are fewer than 20 to trust."""
    found = match_points(left, right, masks)
    if len(found) < _FEW:
        return None
    rows = found.right[:, 1] - found.left[:, 1]
    rows = rows[np.abs(rows - np.median(rows)) < _GROSS]
    if len(rows) < _FEW:
        return None
    size = np.abs(rows)
    return VerticalError(len(rows), float(np.median(rows)), float(np.median(size)), float(np.percentile(size, 90)))
