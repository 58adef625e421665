"""Booster: specular and transparent surfaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import Truth, decode_npy
from .base import Entry, Reader, checked_root, inner_name


class Booster(Reader):
    """Zama Ramirez et al., "Open Challenges in Deep Stereo: the Booster Dataset" (CVPR 2022), balanced training pairs.

    Layout documented at cvlab-unibo.github.io/booster-web. A scene has one truth and several lightings, each a sample::

        train/balanced/<scene>/camera_00/im0.png …, camera_02/im0.png …, disp_00.npy[, disp_02.npy][, mask_00.png]

    ``visible`` is where ``mask_00.png`` is 255.

    Args:
        root: the folder that holds ``train/balanced``, or ``balanced``'s scenes themselves.
    """

    name = "booster"
    layout: ClassVar[str] = "train/balanced/<scene>/camera_00/im*.png, camera_02/im*.png and disp_00.npy"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = checked_root(root, self.name, self.layout)
        inner = base / "train" / "balanced"
        folder = inner if inner.is_dir() else base
        super().__init__(base, (self._entry(path, base) for path in folder.glob("*/camera_00/im*.png")))

    @staticmethod
    def _entry(left: Path, root: Path) -> Entry:
        scene = left.parents[1]
        return Entry(
            inner_name(scene / left.name, root),
            left,
            scene / "camera_02" / left.name,
            scene / "disp_00.npy",
            scene / "disp_02.npy",
            scene / "mask_00.png",
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_npy(path)
