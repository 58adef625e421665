"""FSD, the data set of FoundationStereo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import Truth, decode_rgb_packed
from .base import Entry, Reader, checked_root, inner_name


class FSD(Reader):
    """Wen et al., "FoundationStereo" (CVPR 2025).

    Layout documented by the repository's readme and its data viewer (``scripts/vis_dataset.py``)::

        <scene>/dataset/data/left/rgb/0000.jpg, right/rgb/0000.jpg, left/disparity/0000.png

    Args:
        root: any folder above ``left`` and ``right``.
    """

    name = "fsd"
    layout: ClassVar[str] = "<scene>/dataset/data/left/rgb/*.jpg, right/rgb/*.jpg and left/disparity/*.png"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = checked_root(root, self.name, self.layout)
        lefts = [p for p in base.rglob("left/rgb/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
        super().__init__(base, (self._entry(path, base) for path in lefts))

    @staticmethod
    def _entry(left: Path, root: Path) -> Entry:
        data = left.parents[2]
        truth = data / "left" / "disparity" / f"{left.stem}.png"
        return Entry(inner_name(data / left.name, root), left, data / "right" / "rgb" / left.name, truth)

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_rgb_packed(path)
