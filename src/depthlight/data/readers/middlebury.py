"""Middlebury: the data sets of 2001, 2003, 2005, 2006, 2014 and 2021, and the evaluation sets (version 3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...io.images import image_size
from ..decoders import Truth, decode_gray8, decode_pfm
from .base import Entry, Reader, checked_root, choice

_GRAY = (".png", ".pgm", ".ppm")
SIZES = ("q", "h", "f")  # of the evaluation sets: trainingQ, testQ …


@dataclass(frozen=True)
class _Style:
    """The files of a scene in one year; gray files may be .png, .pgm or .ppm. ``truths`` are tried in order."""

    left: str
    right: str
    truths: tuple[str, ...]
    right_truths: tuple[str, ...]
    kind: str


_STYLES = (
    _Style("im0.png", "im1.png", ("disp0GT.pfm", "disp0.pfm"), ("disp1GT.pfm", "disp1.pfm"), "pfm"),  # 2014 and later
    _Style("view1", "view5", ("disp1",), ("disp5",), "2006"),  # 2005, 2006
    _Style("im2", "im6", ("disp2",), ("disp6",), "2003"),  # 2001 (but for the next two), 2003
    _Style("im0", "im1", ("disp0",), ("disp1",), "map"),
    _Style("scene1.row3.col3", "scene1.row3.col4", ("truedisp.row3.col3",), (), "tsukuba"),
)


class Middlebury(Reader):
    """Scharstein et al., vision.middlebury.edu/stereo/data; the year is told by the files of each scene.

    ::

        2014, 2021, MiddEval3   <scene>/im0.png, im1.png, disp0.pfm or disp0GT.pfm[, mask0nocc.png][, calib.txt]
        2005, 2006              <scene>/view1.png, view5.png, disp1.png, disp5.png
        2003                    <scene>/im2.png, im6.png, disp2.png, disp6.png
        2001                    <scene>/im2.ppm, im6.ppm, disp2.pgm, disp6.pgm; map: im0, im1; tsukuba: scene1.row3.col3

    The 8-bit maps of 2001 to 2006 are scaled, as the pages of their years say: 2001 by 8 (tsukuba 16); 2003 by 4 at
    quarter, 2 at half and 1 at full size; 2005 and 2006 by 3 at third, 2 at half and 1 at full size. Year and size are
    told by the width of the left image, unique among the published ones. ``visible`` is ``mask0nocc.png`` = 255.

    Args:
        root: a folder of scenes, or one above it.
        need_truth: False takes scenes without truth, too (the test sets).
        size: q, h or f leaves out the scenes of MiddEval3's folders of another size; all takes every scene.
    """

    name = "middlebury"
    layout: ClassVar[str] = "<scene>/im0.png, im1.png, disp0.pfm (2014 on), or view1.png …, or im2 …, in any subfolder"

    def __init__(self, root: str | os.PathLike[str], need_truth: bool = True, size: str = "all") -> None:
        choice("size", size, ("all", *SIZES))
        base = checked_root(root, self.name, self.layout)
        folders = [base, *(path for path in base.rglob("*") if path.is_dir())]
        folders = [path for path in folders if size == "all" or _size_of(path) in (size, None)]
        entries = (entry for folder in folders for entry in self._scene(folder, base))
        super().__init__(base, (entry for entry in entries if entry.truth is not None or not need_truth))

    @staticmethod
    def _scene(folder: Path, root: Path) -> Iterator[Entry]:
        found = []
        for style in _STYLES:
            left, right = _find(folder, (style.left,)), _find(folder, (style.right,))
            if left is not None and right is not None:
                found.append((style, left, right, _find(folder, style.truths)))
        if not found:
            return
        # 2003's scenes hold more views than two, named as those of other years: the truth tells which ones it is for.
        style, left, right, truth = next((match for match in found if match[3] is not None), found[0])
        name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
        calib = folder / "calib.txt"
        extra = {"kind": style.kind} | ({"calib": calib} if calib.is_file() else {})
        yield Entry(name, left, right, truth, _find(folder, style.right_truths), folder / "mask0nocc.png", extra)

    def decode(self, path: Path, entry: Entry) -> Truth:
        if path.suffix == ".pfm":
            return decode_pfm(path)
        return decode_gray8(path, _scale(entry))


def _size_of(scene: Path) -> str | None:
    """The size that a folder of MiddEval3 above the scene is named after."""
    for part in scene.resolve().parts:
        if part[:-1] in ("training", "test") and part[-1].lower() in SIZES:
            return part[-1].lower()
    return None


def _find(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = [folder / name for name in names if name.endswith((".pfm", ".png"))]
    candidates += [
        folder / f"{name}{suffix}" for name in names if not name.endswith((".pfm", ".png")) for suffix in _GRAY
    ]
    return next((path for path in candidates if path.is_file()), None)


def _scale(entry: Entry) -> float:
    """The factor of an 8-bit map; widths are those of the published images."""
    kind, width = entry.extra["kind"], image_size(entry.left)[1]
    if kind == "tsukuba":
        return 16.0
    if kind == "map" or (kind == "2003" and width < 442):  # 2001: 430-435
        return 8.0
    if kind == "2003":  # 450, 900, 1800
        return 4.0 if width <= 600 else 2.0 if width <= 1200 else 1.0
    return 3.0 if width <= 540 else 2.0 if width <= 1000 else 1.0  # 413-465, 620-698, 1240-1396
