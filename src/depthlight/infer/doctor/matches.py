"""What the doctor reads from points that both views share: where they are, and how they are turned.

Shape legend: H W image size, N matches, 2 = (x, y) in px of the images as given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry.matches import key_points, mutual_nearest

FloatArray = NDArray[np.float32]
WORKING_SIDE = 800  # px: larger images are reduced to this longest side before key points are sought


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
    left, right = (key_points(image, reduction=reduction) for image in (left_HW3, right_HW3))
    index_left, index_right = mutual_nearest(left.descriptors_ND, right.descriptors_ND)
    turn_N = (right.angle_N[index_right] - left.angle_N[index_left] + 180) % 360 - 180
    return Matches(
        left.points_N2[index_left].astype(np.float32),
        right.points_N2[index_right].astype(np.float32),
        turn_N.astype(np.float32),
        len(left),
        len(right),
        reduction,
    )
