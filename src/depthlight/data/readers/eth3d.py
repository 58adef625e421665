"""ETH3D's low-resolution two-view set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import Truth, decode_pfm
from .base import Entry, Reader, checked_root, choice


class ETH3D(Reader):
    """Schöps et al., "A Multi-View Stereo Benchmark …" (CVPR 2017), low-res two-view: 27 training and 20 test pairs.

    Layout documented at eth3d.net/datasets (images and truth unpacked side by side, or into the same folders)::

        two_view_training/<scene>/im0.png, im1.png, calib.txt
        two_view_training_gt/<scene>/disp0GT.pfm, mask0nocc.png

    ``visible`` is where the mask is 255.

    Args:
        root: the folder that holds ``two_view_training``.
        split: training or testing (also called two_view_test); the latter has no truth.
    """

    name = "eth3d"
    layout: ClassVar[str] = "two_view_training/<scene>/im0.png, im1.png and two_view_training_gt/<scene>/disp0GT.pfm"

    def __init__(self, root: str | os.PathLike[str], split: str = "training") -> None:
        choice("split", split, ("training", "testing"))
        base = checked_root(root, self.name, self.layout)
        folders = ("two_view_training",) if split == "training" else ("two_view_testing", "two_view_test")
        lefts = [path for folder in folders for path in (base / folder).glob("*/im0.png")]
        super().__init__(base, (self._entry(path, base, split == "training") for path in lefts))

    @staticmethod
    def _entry(left: Path, root: Path, labelled: bool) -> Entry:
        scene = left.parent
        apart = root / "two_view_training_gt" / scene.name
        truth = apart if apart.is_dir() else scene
        calib = scene / "calib.txt"
        return Entry(
            scene.relative_to(root).as_posix(),
            left,
            scene / "im1.png",
            truth / "disp0GT.pfm" if labelled else None,
            visible=truth / "mask0nocc.png" if labelled else None,
            extra={"calib": calib} if calib.is_file() else {},
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_pfm(path)
