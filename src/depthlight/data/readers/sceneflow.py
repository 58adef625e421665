"""SceneFlow: FlyingThings3D, Driving, Monkaa."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ...core.errors import InputError
from ..decoders import Truth, decode_pfm
from .base import Entry, Reader, checked_root, choice, inner_name

SUBSETS = ("flyingthings3d", "driving", "monkaa")
_SUFFIXES = (".png", ".webp")


class SceneFlow(Reader):
    """The three full sets of Mayer et al., "A Large Dataset to Train Convolutional Networks …" (CVPR 2016).

    Layout documented at lmb.informatik.uni-freiburg.de/resources/datasets/SceneFlowDatasets.en.html and in
    torchvision's ``SceneFlowStereo``::

        [FlyingThings3D/]frames_cleanpass/TRAIN/A/0000/left/0006.png    (.webp also)
        [FlyingThings3D/]disparity/TRAIN/A/0000/left/0006.pfm

    Driving and Monkaa have other folders in the place of TRAIN/A/0000. Both views have truth; the sign of its numbers
    is dropped, as torchvision does.

    Args:
        root: the folder of the subset, or the one that holds it.
        subset: flyingthings3d, driving or monkaa.
        rendering: clean or final.
        split: train or test; FlyingThings3D alone has the latter.
    """

    layout: ClassVar[str] = "frames_cleanpass/…/left/*.png and disparity/…/left/*.pfm, or <subset>/frames_cleanpass/…"

    def __init__(
        self,
        root: str | os.PathLike[str],
        subset: str = "flyingthings3d",
        rendering: str = "clean",
        split: str = "train",
    ) -> None:
        choice("subset", subset, SUBSETS)
        choice("rendering", rendering, ("clean", "final"))
        choice("split", split, ("train", "test") if subset == "flyingthings3d" else ("train",))
        self.name = f"sceneflow-{subset}-{rendering}"
        base = self._base(checked_root(root, self.name, self.layout), subset, f"frames_{rendering}pass")
        frames, truth = base / f"frames_{rendering}pass", base / "disparity"
        below = frames / split.upper() if subset == "flyingthings3d" else frames
        lefts = [path for path in below.rglob("left/*") if path.suffix.lower() in _SUFFIXES]
        super().__init__(base, (self._entry(path, frames, truth) for path in lefts))

    def _base(self, root: Path, subset: str, frames: str) -> Path:
        inner = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() == subset)
        for base in (*inner, root):
            if (base / frames).is_dir():
                return base
        raise InputError(f"{root} has no {frames} of {subset}", expected=self.layout, path=str(root))

    @staticmethod
    def _entry(left: Path, frames: Path, truth: Path) -> Entry:
        inner = left.relative_to(frames).with_suffix(".pfm")
        other = inner.parent.parent / "right" / inner.name
        right = left.parent.parent / "right" / left.name
        return Entry(inner_name(left, frames), left, right, truth / inner, truth / other)

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_pfm(path, signed=True)
