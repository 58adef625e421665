"""What a calibration file holds, and what a reader is given."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from ...core.errors import FileFormatError, InputError
from ...io.text import read_text
from ..cameras import Camera, StereoCameras
from ..rig import StereoRig
from .exact import in_metres


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """``cameras``: the raw pair; ``rig``: the rectified one. A file holds one of them, or both (KITTI raw, ROS)."""

    format: str
    cameras: StereoCameras | None = None
    rig: StereoRig | None = None

    def need_rig(self, path: str | os.PathLike[str]) -> StereoRig:
        """The rectified rig.

        Raises:
            InputError: the file holds raw cameras only.
        """
        if self.rig is None:
            raise InputError(
                f"{path} holds cameras that are not rectified",
                expected="the calibration of a rectified pair",
                hint="Rectify first: depthlight rectify LEFT RIGHT --calib FILE writes the pair and its rig.json",
            )
        return self.rig

    def need_cameras(self) -> StereoCameras:
        """The raw cameras; those of a rectified rig where the file holds nothing else."""
        if self.cameras is not None:
            return self.cameras
        if self.rig is None:
            raise InputError("a calibration without cameras", expected="raw cameras or a rectified rig")
        return self.rig.cameras()


@dataclass(frozen=True, kw_only=True)
class Source:
    """A calibration file being read, with what the user said about it.

    ``size``: (width, height) of the images; ``unit``: of lengths; ``lens``: the distortion model.
    """

    path: Path
    text: str
    size: tuple[int, int] | None = None
    unit: str | None = None
    lens: str | None = None

    def need_size(self) -> tuple[int, int]:
        """The image size.

        Raises:
            InputError: the file does not state it, and the user did not.
        """
        if self.size is None:
            raise InputError(
                f"{self.path} does not say for which image size it is",
                expected="the size of the images",
                hint="Give the size, or an image beside the calibration",
            )
        return self.size

    def metres(self, value: Decimal, stated: str | None) -> Decimal:
        """A length of the file in metres. ``stated``: the unit its format states, None where it states none.

        Raises:
            InputError: nobody says which unit it is.
        """
        unit = self.unit or stated
        if unit is None:
            raise InputError(
                f"{self.path} does not say in which unit its lengths are",
                expected="mm or m",
                hint="Give --unit mm or --unit m (OpenCV: the unit of the board's squares)",
            )
        return in_metres(value, unit)

    def beside(self, name: str, why: str) -> str:
        """The text of another file in the same folder.

        Raises:
            FileFormatError: it is missing or no text; ``why`` says what it is for.
        """
        return read_text(self.path.parent / name, what=why)


def rig_of(cameras: Iterable[Camera], baseline: Decimal, where: object, doffs: Decimal) -> StereoRig:
    """A rig from two rectified cameras (the right one's cx is not read: ``doffs`` is exact).

    Raises:
        FileFormatError: the right camera is on the left, or the two do not share focal length and rows.
    """
    left, right = cameras
    if baseline < 0:
        raise FileFormatError(
            f"{where}: the right camera stands left of the left one",
            expected="a positive baseline",
            hint="Swap the two cameras",
        )
    for name in ("fx", "fy", "cy"):
        one, other = getattr(left, name), getattr(right, name)
        if abs(one - other) > 1e-3 * abs(one) + 0.5:
            raise FileFormatError(
                f"{where}: {name} is {one} on the left and {other} on the right", expected="one value"
            )
    return StereoRig(
        fx=left.fx,
        fy=left.fy,
        cx=left.cx,
        cy=left.cy,
        baseline=float(baseline),
        doffs=float(doffs),
        width=left.width,
        height=left.height,
    )
