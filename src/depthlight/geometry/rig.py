"""A rectified stereo rig: what turns disparity into metres."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..core.config import from_dict
from ..core.errors import FileFormatError, InputError
from ..io.text import read_text

POSITIVE = ("fx", "fy", "baseline", "width", "height")
MIDDLEBURY_KEYS = ("cam0", "cam1", "doffs", "baseline", "width", "height")


@dataclass(frozen=True, kw_only=True)
class StereoRig:
    """Intrinsics of a rectified pair at a stated image size.

    ``fx fy cx cy`` are px of the left camera, ``baseline`` is metres, ``doffs = cx_right - cx_left`` px.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    baseline: float
    width: int
    height: int
    doffs: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not _is_finite(value):
                raise InputError(f"stereo rig: {field.name} is {str(value)[:40]}", expected="a finite number")
            if field.name in POSITIVE and value <= 0:
                raise InputError(f"stereo rig: {field.name} is {value}", expected="a positive number")

    def resized(self, width: int, height: int) -> StereoRig:
        """The rig of the same pair at another size.

        Pixel centres are at whole coordinates, so the principal point moves by half a pixel's change too.

        Raises:
            InputError: the two sizes do not have the same shape (to 1 %).
        """
        if (width, height) == (self.width, self.height):
            return self
        sx, sy = width / self.width, height / self.height
        if abs(sx / sy - 1) > 0.01:
            raise InputError(
                f"the rig is for {self.width}x{self.height} images and the pair is {width}x{height}",
                expected="the same shape",
                hint="Give the calibration of these images; a crop needs its own principal point",
            )
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            doffs=self.doffs * sx,
            width=width,
            height=height,
        )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> StereoRig:
        """Read Middlebury's ``calib.txt`` (baseline in mm) or our own JSON (baseline in metres).

        Raises:
            FileFormatError: missing, not a regular file, not UTF-8, or a key is absent or not a number.
            InputError: a number that no camera has (zero focal length, infinity).
            LimitError: larger than 1 MiB.
        """
        path = Path(path)
        text = read_text(path, what="a calibration")
        if path.suffix.lower() == ".json":
            return _from_json(text, path)
        return _from_middlebury(text, path)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError):  # an integer beyond all floats; not a number at all
        return False


def _from_json(text: str, path: Path) -> StereoRig:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise FileFormatError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FileFormatError(
            f"{path} does not hold a calibration", expected="a JSON object with fx, fy, cx, cy, baseline …"
        )
    try:
        return from_dict(StereoRig, values, where=f"{path.name}: ")
    except OverflowError:
        raise FileFormatError(f"{path} holds a number beyond all bounds", expected="pixels and metres") from None


def _from_middlebury(text: str, path: Path) -> StereoRig:
    """Middlebury 2014 layout (vision.middlebury.edu/stereo/data/scenes2014): ``key=value`` lines, matrices in []."""
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    values: dict[str, Any] = {key.strip(): value.strip() for key, value in lines.items()}
    missing = [key for key in MIDDLEBURY_KEYS if key not in values]
    if missing:
        raise FileFormatError(
            f"{path}: {missing[0]} is missing",
            expected="Middlebury's calib.txt (cam0, cam1, doffs, baseline, width, height)",
        )
    try:
        rows = [[float(x) for x in row.split()] for row in values["cam0"].strip("[]").split(";")]
        (fx, _, cx), (_, fy, cy), _ = rows
        return StereoRig(
            fx=fx,
            fy=fy,
            cx=cx,
            cy=cy,
            baseline=float(values["baseline"]) / 1000,
            doffs=float(values["doffs"]),
            width=int(values["width"]),
            height=int(values["height"]),
        )
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}", expected="numbers in Middlebury's calib.txt layout") from None
