"""Calibration files: one module per format, found by content.

======================  =============================================================  ==========  ====================
format                  files                                                          unit        holds
======================  =============================================================  ==========  ====================
``middlebury``          ``calib.txt`` (2014, 2021, ETH3D two-view)                     mm          rectified
``kitti``               ``P0``–``P3`` lines (no image size); ``calib_cam_to_cam.txt``  m           rectified; raw
``kitti-gray``          the same, cameras 0 and 1                                      m           rectified; raw
``foundation``          FoundationStereo's ``K.txt`` (no image size)                   m           rectified
``eth3d``               ``cameras.txt`` with ``images.txt`` (COLMAP's layout)          asked for   rectified or raw
``opencv``              YAML of ``cv2.FileStorage``                                    asked for   raw, rectified
``ros``                 ``left.yaml`` with ``right.yaml``, or both in one              m           rectified, raw
``json``                ours                                                           m           rectified, raw
======================  =============================================================  ==========  ====================
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...core.errors import FileFormatError, InputError, UnknownNameError
from ...io.atomic import atomic_write_bytes
from ...io.text import read_text
from ..cameras import MODELS, StereoCameras
from ..rig import StereoRig
from . import eth3d, foundation, kitti, middlebury, opencv, ours, plausible, ros
from .types import Calibration, Source

__all__ = ["FORMATS", "Calibration", "file_of", "read_calibration", "write_calibration"]

FORMATS = ("middlebury", "kitti", "kitti-gray", "foundation", "eth3d", "opencv", "ros", "json")
_DETECTED: tuple[Any, ...] = (ours, opencv, middlebury, kitti, eth3d, ros, foundation)  # the surest sign first
_READERS: dict[str, Callable[[Source], Calibration]] = {
    "middlebury": middlebury.read,
    "kitti": kitti.read,
    "kitti-gray": partial(kitti.read, name=kitti.GRAY),
    "foundation": foundation.read,
    "eth3d": partial(eth3d.read, forced=True),
    "opencv": opencv.read,
    "ros": ros.read,
    "json": ours.read,
}
_WRITERS = {
    "middlebury": middlebury.write,
    "kitti": kitti.write,
    "foundation": foundation.write,
    "eth3d": eth3d.write,
    "opencv": opencv.write,
    "ros": ros.write,
    "json": ours.write,
}
_IN_FOLDERS = ("left.yaml", "left.yml", "cameras.txt", "calib.txt")


def read_calibration(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    unit: str | None = None,
    size: tuple[int, int] | None = None,
    lens: str | None = None,
    check: bool = True,
) -> Calibration:
    """Read a calibration file (or a folder that holds one under its usual name).

    Args:
        path: the file; of two-file formats the first or left one.
        format: one of :data:`FORMATS`; by default the content tells.
        unit: ``"mm"``, ``"cm"`` or ``"m"``: of the lengths in the file; by default what the format states.
        size: (width, height) of the images, for formats that do not state it.
        lens: ``"pinhole"`` or ``"fisheye"``, for OpenCV files with four coefficients.
        check: refuse focal lengths, principal points and baselines that no rig has.

    Raises:
        FileFormatError: missing, not text, no known format, or damaged: the line says what and where.
        InputError: implausible numbers, a unit, size or lens that must be given, or a unit that contradicts the format.
        LimitError: larger than 1 MiB.
    """
    for value, known, what in ((format, FORMATS, "calibration format"), (lens, MODELS, "lens")):
        if value is not None and value not in known:
            raise UnknownNameError(what, value, known)
    if unit not in (None, "mm", "cm", "m"):
        raise UnknownNameError("unit", str(unit), ("mm", "cm", "m"))
    path = file_of(path)
    source = Source(path=path, text=read_text(path, what="a calibration"), size=size, unit=unit, lens=lens)
    read = _READERS[format] if format else _detect(source)
    calibration = read(source)
    if check:
        plausible.check(calibration, path, unit_given=unit is not None)
        _check_unit(calibration, source, read)
    return calibration


def _check_unit(calibration: Calibration, source: Source, read: Callable[[Source], Calibration]) -> None:
    """Refuse a unit that makes an odd baseline of one that is good as the format states it."""
    problem = plausible.baseline_problem(calibration.need_cameras().baseline)
    if source.unit is None or not problem:
        return
    try:
        stated = read(replace(source, unit=None)).need_cameras().baseline
    except InputError:  # the format states none
        return
    if not plausible.baseline_problem(stated):
        raise InputError(
            f"{source.path}: {problem} with --unit {source.unit}",
            expected=f"the format's own unit, which gives {stated:g} m",
            hint="Leave --unit out",
        )


def file_of(path: str | os.PathLike[str]) -> Path:
    """The calibration file itself, or the one of a usual name in a folder.

    Raises:
        FileFormatError: the folder has none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in _IN_FOLDERS:
        if (path / name).is_file():
            return path / name
    raise FileFormatError(f"{path} is a folder without a calibration", expected="one of " + ", ".join(_IN_FOLDERS))


def _detect(source: Source) -> Callable[[Source], Calibration]:
    for module in _DETECTED:
        if module.matches(source.text):
            read: Callable[[Source], Calibration] = module.read
            return read
    raise FileFormatError(
        f"{source.path} is no calibration that we know",
        expected="one of " + ", ".join(FORMATS),
        hint="Name it with --calib-format if it is one all the same",
    )


def write_calibration(
    path: str | os.PathLike[str], calibration: Calibration | StereoRig | StereoCameras, format: str
) -> list[Path]:
    """Write a calibration; what is read back has the same floats.

    (Exceptions: rotations of raw cameras in ``ros`` and ``eth3d``, which store them in another form, to 1e-12.)

    Args:
        path: the file; of two-file formats (``ros``, ``eth3d``) the folder.
        calibration: what to write; a rig where the format holds rectified pairs only.
        format: one of :data:`FORMATS` but ``kitti-gray``.

    Returns:
        The files written.

    Raises:
        FileFormatError: the format cannot hold it (a lens, a ``doffs``): nothing is written.
        InputError: it holds no rectified rig and the format needs one.
        OutputError: the file cannot be written.
    """
    if format not in _WRITERS:
        raise UnknownNameError("calibration format", format, _WRITERS)
    if isinstance(calibration, StereoRig):
        calibration = Calibration(format=format, rig=calibration)
    elif isinstance(calibration, StereoCameras):
        calibration = Calibration(format=format, cameras=calibration)
    files = _WRITERS[format](replace(calibration, format=format))
    target = Path(path)
    if len(files) == 1:
        targets = [target]
    else:
        if target.suffix:
            raise InputError(f"{format} needs {' and '.join(files)}", expected="a folder", hint=f"Not {target.name}")
        targets = [target / name for name in files]
    for one, content in zip(targets, files.values(), strict=True):
        atomic_write_bytes(one, content.encode())
    return targets
