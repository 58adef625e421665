"""InStereo2K."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import INSTEREO2K, Truth, decode_png16
from .base import Entry, Reader, checked_root, choice


class InStereo2K(Reader):
    """Bao et al., "InStereo2K" (SCIS 2020): 2000 training and 50 test pairs of indoor scenes.

    Layout documented in torchvision's ``InStereo2k``, the scale of 100 in the Readme of YuhuaXu/StereoDataset
    (torchvision divides by 1024, against that Readme)::

        train/[part1/]000000/left.png, right.png, left_disp.png, right_disp.png

    Args:
        root: the folder that holds ``train`` and ``test``.
        split: train or test.
    """

    layout: ClassVar[str] = "train/[part*/]<scene>/left.png, right.png, left_disp.png"

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        choice("split", split, ("train", "test"))
        self.name = f"instereo2k-{split}"
        base = checked_root(root, self.name, self.layout)
        super().__init__(base, (self._entry(path, base) for path in (base / split).rglob("left.png")))

    @staticmethod
    def _entry(left: Path, root: Path) -> Entry:
        scene = left.parent
        return Entry(
            scene.relative_to(root).as_posix(),
            left,
            scene / "right.png",
            scene / "left_disp.png",
            scene / "right_disp.png",
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_png16(path, INSTEREO2K)
