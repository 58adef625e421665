"""TartanAir, versions 1 and 2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import Truth, decode_depth_npy, decode_depth_rgba
from .base import Entry, Reader, checked_root, choice, inner_name

FOCAL_BASELINE = 80.0  # 320 px · 0.25 m, both versions


class TartanAir(Reader):
    """Wang et al., "TartanAir" (IROS 2020), and its second version.

    Layout documented in ``data_type.md`` of castacks/tartanair_tools (V1) and in castacks/tartanairpy (V2)::

        V1  <env>/Easy/P000/image_left/000000_left.png, image_right/…, depth_left/000000_left_depth.npy
        V2  <env>/Data_easy/P000/image_lcam_front/000000_lcam_front.png, image_rcam_front/…,
            depth_lcam_front/000000_lcam_front_depth.png

    The sky is far but finite in the files, and valid.

    Args:
        root: any folder above the trajectories.
        version: v1 or v2.
    """

    layout: ClassVar[str] = (
        "…/P000/image_left, image_right and depth_left (v1), or image_lcam_front, image_rcam_front and "
        "depth_lcam_front (v2)"
    )

    def __init__(self, root: str | os.PathLike[str], version: str = "v1") -> None:
        self.version = choice("version", version, ("v1", "v2"))
        self.name = f"tartanair-{version}"
        base = checked_root(root, self.name, self.layout)
        left = "left" if version == "v1" else "lcam_front"
        lefts = base.rglob(f"image_{left}/*_{left}.png")
        super().__init__(base, (self._entry(path, base) for path in lefts))

    def _entry(self, left: Path, root: Path) -> Entry:
        one, other, suffix = ("left", "right", ".npy") if self.version == "v1" else ("lcam_front", "rcam_front", ".png")
        trajectory = left.parents[1]
        stem = left.name.removesuffix(f"_{one}.png")
        return Entry(
            inner_name(trajectory / f"{stem}.png", root),
            left,
            trajectory / f"image_{other}" / f"{stem}_{other}.png",
            trajectory / f"depth_{one}" / f"{stem}_{one}_depth{suffix}",
            trajectory / f"depth_{other}" / f"{stem}_{other}_depth{suffix}",
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        decoder = decode_depth_npy if self.version == "v1" else decode_depth_rgba
        return decoder(path, FOCAL_BASELINE)
