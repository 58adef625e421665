"""Falling Things (FAT)."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from ...core.errors import FileFormatError
from ..decoders import Truth, decode_depth_png16
from .base import Entry, Reader, checked_root, choice, inner_name

BASELINE = 600.0  # 6 cm in the unit of the depth files, 0.1 mm


class FallingThings(Reader):
    """Tremblay et al., "Falling Things" (CVPRW 2018).

    Layout and units documented in the set's ``readme_0.txt`` and torchvision's ``FallingThingsStereo``::

        mixed/<scene>/000000.left.jpg, .right.jpg, .left.depth.png, .right.depth.png, _camera_settings.json
        single/<object>/<scene>/…

    Args:
        root: the folder that holds ``single`` and ``mixed``.
        variant: single, mixed or both.
    """

    layout: ClassVar[str] = "mixed/<scene>/*.left.jpg with *.left.depth.png and _camera_settings.json, or single/…"

    def __init__(self, root: str | os.PathLike[str], variant: str = "both") -> None:
        choice("variant", variant, ("single", "mixed", "both"))
        self.name = f"fallingthings-{variant}"
        base = checked_root(root, self.name, self.layout)
        parts = ("single", "mixed") if variant == "both" else (variant,)
        lefts = [path for part in parts for path in (base / part).rglob("*.left.jpg")]
        super().__init__(base, (self._entry(path, base) for path in lefts))

    @staticmethod
    def _entry(left: Path, root: Path) -> Entry:
        stem = left.name.removesuffix(".left.jpg")
        folder = left.parent
        return Entry(
            inner_name(folder / f"{stem}.jpg", root),
            left,
            folder / f"{stem}.right.jpg",
            folder / f"{stem}.left.depth.png",
            folder / f"{stem}.right.depth.png",
        )

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_depth_png16(path, BASELINE * _focal_length(path.parent / "_camera_settings.json"))


@lru_cache(maxsize=256)
def _focal_length(path: Path) -> float:
    """fx in px of the left camera."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        focal = float(settings["camera_settings"][0]["intrinsic_settings"]["fx"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise FileFormatError(
            f"{path} cannot be read ({type(error).__name__}: {error})",
            expected="JSON with camera_settings[0].intrinsic_settings.fx",
            path=str(path),
        ) from None
    if not 0 < focal < float("inf"):
        raise FileFormatError(f"{path} states fx = {focal}", expected="a positive number", path=str(path))
    return focal
