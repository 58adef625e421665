"""The synthetic set of CREStereo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import CRESTEREO, Truth, decode_png16
from .base import Entry, Reader, checked_root, choice, inner_name

SUBSETS = ("tree", "shapenet", "reflective", "hole")


class CREStereo(Reader):
    """Li et al., "Practical Stereo Matching via Cascaded Recurrent Network …" (CVPR 2022).

    Layout documented in torchvision's ``CREStereo``, the scale of the truth in the repository's README::

        tree|shapenet|reflective|hole/NAME_left.jpg, NAME_right.jpg, NAME_left.disp.png, NAME_right.disp.png

    Args:
        root: the folder that holds those four.
        subset: one of them, or all.
    """

    layout: ClassVar[str] = "tree, shapenet, reflective or hole, each with *_left.jpg, *_right.jpg, *_left.disp.png"

    def __init__(self, root: str | os.PathLike[str], subset: str = "all") -> None:
        choice("subset", subset, (*SUBSETS, "all"))
        self.name = f"crestereo-{subset}"
        base = checked_root(root, self.name, self.layout)
        parts = SUBSETS if subset == "all" else (subset,)
        lefts = [path for part in parts for path in (base / part).rglob("*_left.jpg")]
        super().__init__(base, (self._entry(path, base) for path in lefts))

    @staticmethod
    def _entry(left: Path, root: Path) -> Entry:
        stem = left.name.removesuffix("_left.jpg")
        folder = left.parent
        return Entry(
            inner_name(folder / f"{stem}.jpg", root),
            left,
            folder / f"{stem}_right.jpg",
            folder / f"{stem}_left.disp.png",
            folder / f"{stem}_right.disp.png",
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_png16(path, CRESTEREO)
