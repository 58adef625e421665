"""Virtual KITTI 2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from ..decoders import Truth, decode_depth_png16
from .base import Entry, Reader, checked_root, inner_name

FOCAL_LENGTH = 725.0087  # px
BASELINE = 53.2725  # cm, the unit of the depth files


class VKITTI2(Reader):
    """Cabon et al., "Virtual KITTI 2" (arXiv 2001.10773).

    Layout, camera and baseline documented on the set's page at europe.naverlabs.com (rgb and depth archives in one
    folder)::

        Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg, rgb/Camera_1/…, depth/Camera_0/depth_00000.png

    Depth beyond 655.35 m (the sky) is clipped in the files and therefore not valid here.

    Args:
        root: the folder that holds ``Scene01`` …
        variation: one of clone, fog, morning, overcast, rain, sunset, 15-deg-left …; by default all.
    """

    layout: ClassVar[str] = "Scene*/<variation>/frames/rgb/Camera_0/rgb_*.jpg and frames/depth/Camera_0/depth_*.png"

    def __init__(self, root: str | os.PathLike[str], variation: str = "all") -> None:
        self.name = f"vkitti2-{variation}"
        base = checked_root(root, self.name, self.layout)
        middle = "*" if variation == "all" else variation
        lefts = base.glob(f"Scene*/{middle}/frames/rgb/Camera_0/rgb_*.jpg")
        super().__init__(base, (self._entry(path, base) for path in lefts))

    @staticmethod
    def _entry(left: Path, root: Path) -> Entry:
        frames = left.parents[2]
        depth = f"{left.stem.replace('rgb_', 'depth_')}.png"
        return Entry(
            inner_name(frames.parent / left.name, root),
            left,
            frames / "rgb" / "Camera_1" / left.name,
            frames / "depth" / "Camera_0" / depth,
            frames / "depth" / "Camera_1" / depth,
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_depth_png16(path, FOCAL_LENGTH * BASELINE)
