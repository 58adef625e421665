"""Disparity over time: steady where nothing moves, untouched where something does.

Shape legend: H W image size, 3 RGB.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from ..io.disparity_files import rounded_to_png
from .pairs import Image

Map: TypeAlias = NDArray[np.float32]


class TemporalFilter:
    """Steadies what does not move: there each disparity moves only a share of the way from the last to the new one.

    A pixel moves where the low-passed left view differs from what was there before, or that happens nearby.
    """

    SHARE = 0.3  # noise falls to sqrt(share / (2 - share))
    STILL, MOVING = 1.5, 4.0  # gray levels of difference at which movement begins and is certain
    BLUR, REACH = 2.0, 15  # px: of the low pass; side of the square within which a moving pixel counts

    def __init__(self) -> None:
        self._gray_HW: Map | None = None
        self._disparity_HW: Map | None = None

    def __call__(self, left_HW3: Image, disparity_HW: Map, *, signed: bool = False) -> Map:
        """The steadied disparity (H, W) float32 px of the next frame, rounded as a (``signed``) PNG holds it."""
        share_HW = self._share(left_HW3)
        if self._disparity_HW is not None:
            disparity_HW = self._disparity_HW + share_HW * (disparity_HW - self._disparity_HW)
        self._disparity_HW = rounded_to_png(disparity_HW, signed=signed)
        return self._disparity_HW

    def remember(self, left_HW3: Image, steadied_HW: Map) -> None:
        """Take the result of an earlier run for the next frame, so that the frames after it come out as they would."""
        self._share(left_HW3)
        self._disparity_HW = steadied_HW

    def _share(self, left_HW3: Image) -> Map:
        """(H, W) how far to go to the new disparity, after looking at the next frame."""
        small_HW = cv2.cvtColor(left_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32)
        gray_HW = np.asarray(cv2.GaussianBlur(small_HW, (0, 0), self.BLUR), np.float32)
        if self._gray_HW is None:
            self._gray_HW = gray_HW
            return np.ones_like(gray_HW)
        change_HW = cv2.dilate(np.abs(gray_HW - self._gray_HW), np.ones((self.REACH, self.REACH), np.uint8))
        moving_HW = np.clip((change_HW - self.STILL) / (self.MOVING - self.STILL), 0, 1)
        share_HW = np.asarray(self.SHARE + (1 - self.SHARE) * moving_HW, np.float32)
        self._gray_HW = self._gray_HW + share_HW * (gray_HW - self._gray_HW)  # slow movement adds up
        return share_HW
