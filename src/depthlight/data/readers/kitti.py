"""KITTI 2012 and 2015."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..decoders import KITTI, Truth, decode_png16
from .base import Entry, Reader, checked_root, choice, inner_name


class _Kitti(Reader):
    """Both years: images in two folders, truth and truth without occlusions in two more; only the frames ``*_10``."""

    views: ClassVar[tuple[str, str]]
    truths: ClassVar[tuple[str, str]]  # all pixels, non-occluded pixels

    def __init__(self, root: str | os.PathLike[str], split: str = "training") -> None:
        choice("split", split, ("training", "testing"))
        base = checked_root(root, self.name, self.layout)
        folder = base / split
        labelled = split == "training"
        lefts = (folder / self.views[0]).glob("*_10.png")
        super().__init__(base, (self._entry(path, folder, base, labelled) for path in lefts))

    def _entry(self, left: Path, folder: Path, root: Path, labelled: bool) -> Entry:
        return Entry(
            inner_name(folder / left.name, root),
            left,
            folder / self.views[1] / left.name,
            folder / self.truths[0] / left.name if labelled else None,
            visible=folder / self.truths[1] / left.name if labelled else None,
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_png16(path, KITTI)

    def decode_visible(self, path: Path) -> NDArray[np.bool_]:
        return decode_png16(path, KITTI).valid_HW


class KITTI2012(_Kitti):
    """Geiger et al., "Are we ready for Autonomous Driving?" (CVPR 2012): 194 training and 195 test pairs, in colour.

    Layout documented in the readme of the development kit (cvlibs.net/datasets/kitti/eval_stereo_flow.php)::

        training/colored_0/000000_10.png, colored_1/…, disp_occ/…, disp_noc/…

    ``visible`` is where ``disp_noc`` has truth.

    Args:
        root: the folder that holds ``training`` and ``testing``.
        split: training or testing; the latter has no truth.
    """

    name = "kitti2012"
    views = ("colored_0", "colored_1")
    truths = ("disp_occ", "disp_noc")
    layout: ClassVar[str] = "training/colored_0, colored_1, disp_occ with *_10.png"


class KITTI2015(_Kitti):
    """Menze and Geiger, "Object Scene Flow for Autonomous Vehicles" (CVPR 2015): 200 training and 200 test pairs.

    Layout documented in the readme of the development kit (cvlibs.net/datasets/kitti/eval_scene_flow.php)::

        training/image_2/000000_10.png, image_3/…, disp_occ_0/…, disp_noc_0/…

    ``visible`` is where ``disp_noc_0`` has truth. (``disp_occ_1`` belongs to the next frame, not to the right view.)

    Args:
        root: the folder that holds ``training`` and ``testing``.
        split: training or testing; the latter has no truth.
    """

    name = "kitti2015"
    views = ("image_2", "image_3")
    truths = ("disp_occ_0", "disp_noc_0")
    layout: ClassVar[str] = "training/image_2, image_3, disp_occ_0 with *_10.png"
