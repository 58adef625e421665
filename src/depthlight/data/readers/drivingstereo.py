"""DrivingStereo and its four weathers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import DRIVINGSTEREO_FULL, KITTI, Truth, decode_png16
from .base import Entry, Reader, checked_root, choice, inner_name

WEATHERS = ("sunny", "cloudy", "foggy", "rainy")


class DrivingStereo(Reader):
    """Yang et al., "DrivingStereo" (CVPR 2019).

    Layout documented at drivingstereo-dataset.github.io. A folder named after the size may stand between, as in the
    test archives; without one the images are of half size, as in the training archives::

        train-left-image/[left-image-half-size/]<sequence>/*.jpg, train-right-image/…, train-disparity-map/…/*.png
        sunny/left-image-half-size/*.jpg, right-image-half-size/…, disparity-map-half-size/*.png

    The truth is scaled by 256 at half size and by 128 at full size.

    Args:
        root: the folder that holds those.
        split: train, test, or a weather: sunny, cloudy, foggy, rainy.
        size: half or full.
    """

    layout: ClassVar[str] = (
        "train-left-image/…, train-right-image/…, train-disparity-map/…, or <weather>/left-image-*-size"
    )

    def __init__(self, root: str | os.PathLike[str], split: str = "train", size: str = "half") -> None:
        choice("split", split, ("train", "test", *WEATHERS))
        self.size = choice("size", size, ("half", "full"))
        self.name = f"drivingstereo-{split}-{size}"
        base = checked_root(root, self.name, self.layout)
        top = base / split if split in WEATHERS else base / f"{split}-left-image"
        lefts = [path for path in top.rglob("*") if path.suffix.lower() in (".jpg", ".png") and self._wanted(path, top)]
        super().__init__(base, (self._entry(path, base) for path in lefts))

    def _wanted(self, path: Path, top: Path) -> bool:
        marks = [part for part in path.relative_to(top).parts[:-1] if part.endswith("-size")]
        if not marks:
            return self.size == "half" and top.name.endswith("-left-image")
        return marks == [f"left-image-{self.size}-size"]

    @staticmethod
    def _entry(left: Path, root: Path) -> Entry:
        inner = left.relative_to(root)

        def sibling(what: str, suffix: str) -> Path:
            parts = [part.replace("left-image", what) for part in inner.parts[:-1]]
            return root.joinpath(*parts, left.stem + suffix)

        return Entry(
            inner_name(left, root), left, sibling("right-image", left.suffix), sibling("disparity-map", ".png")
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_png16(path, KITTI if self.size == "half" else DRIVINGSTEREO_FULL)
