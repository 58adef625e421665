"""Options that read a calibration file, for the verbs that take one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import DepthlightError, InputError
from ..core.registry import sha256_of
from ..geometry.calibration import file_of
from ..geometry.rig import StereoRig
from ..io.images import image_size

CalibFormatOption = Annotated[
    str | None,
    typer.Option(
        "--calib-format",
        help="middlebury, kitti, kitti-gray, foundation, eth3d, opencv, ros or json; by default the content tells.",
    ),
]
UnitOption = Annotated[str | None, typer.Option("--unit", help="Unit of the calibration's lengths: mm, cm or m.")]


def rig_for(
    calib: Path | None,
    image: Path,
    *,
    side_by_side: bool,
    size: tuple[int, int] | None = None,
    format: str | None = None,
    unit: str | None = None,
) -> StereoRig | None:
    """The rig of a rectified pair, None without a file.

    ``size`` (width, height), or ``image``, gives the size where the file states none.

    Raises:
        InputError, FileFormatError: see :meth:`depthlight.StereoRig.from_file`.
    """
    if calib is None:
        return None
    with contextlib.suppress(DepthlightError):  # a bad image is told where it is read; others may be good
        height, width = (0, 0) if size else image_size(image)
        size = size or (width // 2 if side_by_side else width, height)
    return StereoRig.from_file(calib, size=size, format=format, unit=unit)


def states_size(calib: Path | None, *, format: str | None = None, unit: str | None = None) -> bool:
    """Whether a file that :func:`rig_for` could read says itself for which image size it is."""
    if calib is not None:
        try:
            StereoRig.from_file(calib, format=format, unit=unit)
        except InputError:
            return False
    return True


def check_size(rig: StereoRig, width: int, height: int, *, one_size: bool) -> None:
    """Refuse a rig for images of another shape, or, if it is for ``one_size`` alone, of another size.

    Raises:
        InputError: says which sizes.
    """
    rig.resized(width, height)
    if one_size and (width, height) != (rig.width, rig.height):
        raise InputError(
            f"the calibration states no image size: it was taken for {rig.width}x{rig.height} as the first pair has, "
            f"and this one is {width}x{height}",
            expected="pairs of one size",
            hint="Give a calibration that states its size, such as our JSON",
        )


def calibration_hash(calib: Path) -> str:
    """SHA-256 of the file (of a folder: of its first one), to say which calibration it was."""
    return sha256_of(file_of(calib))
