"""Points that two views share, found without any knowledge of the cameras or their rows.

SIFT key points, described as RootSIFT (Arandjelović and Zisserman, CVPR 2012). A match must be the nearest in both
directions and clearly nearer than the second (Lowe, IJCV 2004).

Letters in names: H height, W width, N M points, 2 = (x, y) in px of the image as given, D a descriptor's numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .cameras import Floats

KEY_POINTS = 2000
CONTRAST = (0.03, 0.01)  # SIFT's contrast threshold; the second where the first finds too little
FEW_POINTS = 150
RATIO = 0.75
LARGEST = 1600  # px: larger images are searched reduced to this longest side


@dataclass(frozen=True)
class KeyPoints:
    """Distinct points of one view. ``angle_N`` is each one's own direction, degrees in 0..360."""

    points_N2: Floats
    angle_N: Floats
    descriptors_ND: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.points_N2)


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
    """Points of two images that choose each other. ``masks``: where to look in the two images, (H, W) bool."""
    of_left, of_right = masks or (None, None)
    one, other = key_points(left, mask_HW=of_left), key_points(right, mask_HW=of_right)
    index_left, index_right = mutual_nearest(one.descriptors_ND, other.descriptors_ND)
    return Matches(one.points_N2[index_left], other.points_N2[index_right])


def key_points(
    image: NDArray[Any], *, reduction: float | None = None, mask_HW: NDArray[np.bool_] | None = None
) -> KeyPoints:
    """The up to 2,000 strongest key points of an 8- or 16-bit gray or RGB image, where ``mask_HW`` is true.

    The image is searched ``reduction`` times smaller, by default as much as brings its longest side to 1600 px. Its 1st
    to 99th percentile is stretched to the whole range, so that a dark view has as many points.
    """
    gray_HW = gray_8_bit(image)
    height, width = gray_HW.shape
    factor = max(1.0, max(height, width) / LARGEST) if reduction is None else reduction
    where_HW = None if mask_HW is None else mask_HW.astype(np.uint8) * 255
    if factor > 1:
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        gray_HW = np.asarray(cv2.resize(gray_HW, size, interpolation=cv2.INTER_AREA), np.uint8)
        if where_HW is not None:
            where_HW = np.asarray(cv2.resize(where_HW, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    found, descriptors = _sift(_stretched(gray_HW), where_HW)
    scale = np.array([width / gray_HW.shape[1], height / gray_HW.shape[0]])
    points_N2 = np.array([one.pt for one in found], np.float64).reshape(-1, 2)
    # pixel centres have whole coordinates: reducing by r moves them by (r - 1) / 2
    return KeyPoints((points_N2 + 0.5) * scale - 0.5, np.array([one.angle for one in found], np.float64), descriptors)


def mutual_nearest(
    left_ND: NDArray[np.float32], right_MD: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of descriptors of length 1 that are each other's nearest and clearly nearer than the second, both ways."""
    if len(left_ND) < 2 or len(right_MD) < 2:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    likeness_NM = left_ND @ right_MD.T  # rows have length 1: squared distance = 2 - 2 · likeness
    best_N, clear_N = _nearest(likeness_NM)
    back_M, clear_M = _nearest(likeness_NM.T)
    index_N = np.arange(len(left_ND))
    keep_N = (back_M[best_N] == index_N) & clear_N & clear_M[best_N]
    return index_N[keep_N], best_N[keep_N]


def _nearest(likeness_NM: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    two_N2 = np.partition(likeness_NM, -2, axis=1)[:, -2:]
    first_N, second_N = (np.maximum(2 - 2 * two_N2[:, i], 0) for i in (1, 0))
    return likeness_NM.argmax(axis=1), first_N < RATIO**2 * second_N


def _stretched(gray_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    low, high = np.percentile(gray_HW, (1, 99))
    if high - low < 4:
        return gray_HW
    return np.asarray(np.clip((gray_HW.astype(np.float32) - low) * (255 / (high - low)), 0, 255), np.uint8)


def _sift(gray_HW: NDArray[np.uint8], mask_HW: NDArray[np.uint8] | None) -> tuple[list[Any], NDArray[np.float32]]:
    found: list[Any] = []
    make_sift: Any = getattr(cv2, "SIFT_create")  # noqa: B009 absent from OpenCV's type hints
    for threshold in CONTRAST:
        finder = make_sift(nfeatures=KEY_POINTS, contrastThreshold=threshold)
        points, descriptors = finder.detectAndCompute(gray_HW, mask_HW)
        found = list(points)
        if len(found) >= FEW_POINTS:
            break
    if not found or descriptors is None:
        return [], np.zeros((0, 128), np.float32)
    total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    return found, np.sqrt(descriptors / total).astype(np.float32)


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
