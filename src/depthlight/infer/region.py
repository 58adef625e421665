"""A part of the picture: a rectangle, a mask, or both. Only what it needs is computed; maps keep the full size.

Outside the region a prediction says "unknown" in the way of every format: disparity 0, confidence 0, not
valid. Pixel indices and calibration stay those of the whole image, as with OpenCV's and ROS's valid windows.

The network sees the same rows and columns of both views, so that disparity keeps its meaning: the rectangle, widened to
the left by the range (the match of column x lies between x - range and x), to the right where the range reaches below
0, and by some context on all sides.

Shape legend: H W image size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..io.images import ImageSource, as_mask
from .pairs import read_pair

if TYPE_CHECKING:
    from .prediction import StereoMatcher, StereoPrediction

CONTEXT = 64  # px on every side of the rectangle that the matcher sees as well: enough to be as good as the whole
Mask = NDArray[np.bool_]
T = TypeVar("T", np.float32, np.bool_)


@dataclass(frozen=True)
class Box:
    """A rectangle in px of the left image: first column, first row, width, height."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise InputError(f"the region is {self}", expected="x,y,width,height with x, y >= 0 and at least one pixel")

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    @classmethod
    def parse(cls, text: str) -> Box:
        """From ``"x,y,width,height"``.

        Raises:
            InputError: not four whole numbers, or not a rectangle.
        """
        try:
            x, y, width, height = (int(part) for part in text.split(","))
        except ValueError:
            raise InputError(f"the region is {text!r}", expected="x,y,width,height in px, as 100,50,320,240") from None
        return cls(x, y, width, height)

    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


@dataclass(frozen=True)
class Region:
    """What is wanted of a picture: ``box``, ``mask`` (H, W bool), or where both are."""

    box: Box | None = None
    mask: Mask | None = None

    def wanted(self, height: int, width: int) -> tuple[Box, Mask]:
        """The wanted pixels (H, W) of an image of that size, and the rectangle round them.

        Raises:
            InputError: the box leaves the image, the mask has another size, or nothing is left.
        """
        wanted_HW: Mask = np.ones((height, width), bool)
        if self.mask is not None:
            if self.mask.shape != (height, width):
                raise InputError(
                    f"the mask is {self.mask.shape[1]}×{self.mask.shape[0]} and the images are {width}×{height}",
                    expected="a mask of the images' size",
                )
            wanted_HW = self.mask.copy()
        if self.box is not None:
            box = self.box
            if box.x + box.width > width or box.y + box.height > height:
                raise InputError(f"the region {box} leaves the image", expected=f"a part of {width}×{height}")
            inside_HW = np.zeros_like(wanted_HW)
            inside_HW[box.slices()] = True
            wanted_HW[~inside_HW] = False
        if not wanted_HW.any():
            raise InputError("no pixel is wanted", expected="a mask with pixels above 0, inside the region")
        rows, columns = (np.nonzero(wanted_HW.any(axis=axis))[0] for axis in (1, 0))
        low = int(columns[0]), int(rows[0])
        return Box(*low, int(columns[-1]) + 1 - low[0], int(rows[-1]) + 1 - low[1]), wanted_HW


def read_mask(source: ImageSource) -> Mask:
    """A mask (H, W) from an image: true where any colour is above 0, be it 1 of 65535, as in OpenCV.

    Raises:
        InputError: not an image.
    """
    return as_mask(source)


def predict_region(
    matcher: StereoMatcher,
    left: ImageSource,
    right: ImageSource,
    region: Region,
    *,
    max_disp: int | None = None,
    min_disp: int = 0,
    left_right: bool = False,
) -> StereoPrediction:
    """As :meth:`StereoModel.predict`, of a region of the left view only; see the head of this file.

    ``region`` of the result holds the wanted pixels. ``saturated`` and ``density`` are of what was computed;
    ``disparity_right`` is 0 outside it, which ``region_right`` says.

    Raises:
        InputError: as there, or the region does not fit the images.
    """
    left_HW3, right_HW3 = read_pair(left, right)
    height, width = left_HW3.shape[:2]
    box, wanted_HW = region.wanted(height, width)
    reach = matcher.max_disp + max(0, min_disp) if max_disp is None else max_disp
    window = _window(box, width, height, reach, min_disp)
    how: dict[str, Any] = {"max_disp": max_disp, "left_right": left_right} | (
        {"min_disp": min_disp} if min_disp else {}
    )
    found = matcher.predict(left_HW3[window.slices()], right_HW3[window.slices()], **how)
    return _placed(found, window, wanted_HW)


def _window(box: Box, width: int, height: int, max_disp: int, min_disp: int) -> Box:
    x = max(0, box.x - max(0, max_disp) - CONTEXT)
    y = max(0, box.y - CONTEXT)
    right, bottom = (
        min(width, box.x + box.width + max(0, -min_disp) + CONTEXT),
        min(height, box.y + box.height + CONTEXT),
    )
    return Box(x, y, right - x, bottom - y)


def _placed(found: StereoPrediction, window: Box, wanted_HW: Mask) -> StereoPrediction:
    """The window's maps in maps of the full size, unknown where nothing is wanted."""
    keep_HW = wanted_HW[window.slices()]
    computed_HW = np.zeros_like(wanted_HW)
    computed_HW[window.slices()] = True

    def full(part_HW: NDArray[T], mask_HW: Mask | None = None) -> NDArray[T]:
        whole_HW = np.zeros(wanted_HW.shape, part_HW.dtype)
        whole_HW[window.slices()] = part_HW if mask_HW is None else part_HW * mask_HW
        return whole_HW

    return replace(
        found,
        disparity=full(found.disparity, keep_HW),
        confidence=full(found.confidence, keep_HW),
        valid=full(found.valid, keep_HW),
        estimated=None if found.estimated is None else full(found.estimated, keep_HW),
        disparity_right=None if found.disparity_right is None else full(found.disparity_right),
        region=wanted_HW,
        region_right=computed_HW,
    )
