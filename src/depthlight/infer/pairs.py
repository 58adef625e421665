"""Pairs of images: read, checked, and put together for one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..io.images import ImageSource, as_image

Image = NDArray[np.uint8]
Pair = tuple[Image, Image]
STACK = 4  # pairs of one size that go through a network together
STACK_PIXELS = 2**21  # of them all: larger images gain nothing by company and would need its memory


def read_pair(left: ImageSource, right: ImageSource) -> Pair:
    """Both views as (H, W, 3) uint8 RGB.

    Raises:
        InputError: one of them is not an image, or they differ in size.
        NonFiniteError: an array holds NaN or infinity.
    """
    pair = as_image(left, name="left"), as_image(right, name="right")
    if pair[0].shape != pair[1].shape:
        one, other = (f"{image.shape[1]}×{image.shape[0]}" for image in pair)
        raise InputError(f"left is {one} and right is {other}", expected="a rectified pair of one size")
    return pair


def stacks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Runs of neighbours of one size, at most :data:`STACK` pairs or :data:`STACK_PIXELS` pixels long."""
    group: list[Pair] = []
    for pair in pairs:
        height, width = pair[0].shape[:2]
        full = len(group) == STACK or (len(group) + 1) * height * width > STACK_PIXELS
        if group and (full or group[0][0].shape != pair[0].shape):
            yield group
            group = []
        group.append(pair)
    if group:
        yield group
