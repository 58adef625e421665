"""Sparse matches of two views without any assumption about their rows: SIFT, nearest both ways, distinct.

Descriptors are compared as RootSIFT (Arandjelović and Zisserman, CVPR 2012); a match must be the nearest in both
directions and clearly nearer than the second (Lowe, IJCV 2004).

Shape legend: H W image size, N matches, 2 = (x, y) in px of the images as given.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
WORKING_SIDE = 800  # px: larger images are reduced to this longest side before key points are sought
KEY_POINTS = 2000
CONTRAST = (0.03, 0.01)  # SIFT's contrast threshold; the second where the first finds too little
FEW_POINTS = 150
RATIO = 0.8


@dataclass(frozen=True)
class Matches:
    """Points seen in both views, and how many key points each view had.

    ``turn_N`` is how far each key point's own direction differs between the views, degrees in -180..180.
    """

    left_N2: FloatArray
    right_N2: FloatArray
    turn_N: FloatArray
    left_points: int
    right_points: int
    reduction: float  # px of the image per px in which points were sought, at least 1

    def __len__(self) -> int:
        return len(self.left_N2)


def find_matches(left_HW3: NDArray[np.uint8], right_HW3: NDArray[np.uint8], side: int = WORKING_SIDE) -> Matches:
    """Matches of two RGB uint8 images, in no order; images longer than ``side`` px are searched at that size."""
    reduction = max(1.0, max(left_HW3.shape[:2]) / side)
    left, right = (_key_points(_working(image, reduction)) for image in (left_HW3, right_HW3))
    pairs = _mutual(left[1], right[1])
    points = [
        np.array([one[0][i].pt for i in index], np.float32).reshape(-1, 2)
        for one, index in ((left, pairs[0]), (right, pairs[1]))
    ]
    angles = [
        np.array([one[0][i].angle for i in index], np.float32) for one, index in ((left, pairs[0]), (right, pairs[1]))
    ]
    # pixel centres have whole coordinates: reducing by r moves them by (r - 1) / 2
    restored = [(found + 0.5) * np.float32(reduction) - np.float32(0.5) for found in points]
    turn_N = ((angles[1] - angles[0] + 180) % 360 - 180).astype(np.float32)
    return Matches(restored[0], restored[1], turn_N, len(left[0]), len(right[0]), reduction)


def _working(image_HW3: NDArray[np.uint8], reduction: float) -> NDArray[np.uint8]:
    """Gray, reduced, its 1st to 99th percentile stretched to 0..255, so that a dark view has as many points."""
    gray = cv2.cvtColor(np.ascontiguousarray(image_HW3), cv2.COLOR_RGB2GRAY)
    if reduction > 1:
        size = (max(1, round(gray.shape[1] / reduction)), max(1, round(gray.shape[0] / reduction)))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(gray, (1, 99))
    if high - low < 4:
        return np.asarray(gray, np.uint8)
    return np.asarray(np.clip((gray.astype(np.float32) - low) * (255 / (high - low)), 0, 255), np.uint8)


def _key_points(gray_HW: NDArray[np.uint8]) -> tuple[list[cv2.KeyPoint], FloatArray]:
    points: list[cv2.KeyPoint] = []
    for threshold in CONTRAST:
        finder = cv2.SIFT.create(nfeatures=KEY_POINTS, contrastThreshold=threshold)
        found, descriptors = finder.detectAndCompute(gray_HW, None)
        points = list(found)
        if len(points) >= FEW_POINTS:
            break
    if not points or descriptors is None:
        return [], np.zeros((0, 128), np.float32)
    total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    return points, np.sqrt(descriptors / total).astype(np.float32)


def _mutual(left_ND: FloatArray, right_MD: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of rows that are each other's nearest and pass Lowe's ratio test."""
    if len(left_ND) < 2 or len(right_MD) < 2:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    likeness_NM = left_ND @ right_MD.T  # rows have length 1: squared distance = 2 - 2 · likeness
    best_N = likeness_NM.argmax(axis=1)
    back_M = likeness_NM.argmax(axis=0)
    two_N2 = np.partition(likeness_NM, -2, axis=1)[:, -2:]
    first_N, second_N = (np.maximum(2 - 2 * two_N2[:, i], 0) for i in (1, 0))
    index_N = np.arange(len(left_ND))
    keep_N = (back_M[best_N] == index_N) & (first_N < RATIO**2 * second_N)
    return index_N[keep_N], best_N[keep_N]
