"""Results in the layout the benchmark servers take; zip the folder that ``root`` names and upload it.

- KITTI 2015 (stereo/flow/scene-flow development kit, readme): ``disp_0/000000_10.png``, 16-bit, round(d·256), every
  pixel at least 1 because 0 means "no estimate". KITTI 2012 wants the files of ``disp_0`` themselves in the root.
- Middlebury v3 (vision.middlebury.edu/stereo/submit3/upload-format.html): ``<set>/<scene>/disp0<METHOD>.pfm``, float
  px of the left view, and ``time<METHOD>.txt`` with nothing but the seconds.
- ETH3D two-view (eth3d.net/documentation, "Result submission"): ``low_res_two_view/<scene>.pfm``, and ``<scene>.txt``
  with the line ``runtime <seconds>``.

A disparity is (H, W) float32 px at the benchmark's own image size, dense, finite and not negative.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, UnknownNameError
from ..data.samples import StereoDataset
from ..infer.prediction import StereoMatcher, StereoPrediction
from ..io.atomic import atomic_write_bytes
from ..io.disparity_files import write_disparity

MIDDLEBURY_SETS = tuple(f"{part}{size}" for part in ("training", "test") for size in "QHF")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_FRAME = re.compile(r"[0-9]{6}_[0-9]{2}")


def submit(
    matcher: StereoMatcher,
    dataset: StereoDataset,
    root: str | os.PathLike[str],
    *,
    method: str,
    max_disp: int,
    on_scene: Callable[[str], None] = lambda name: None,
) -> int:
    """Predict every pair of a benchmark and write it in the benchmark's layout; returns how many.

    Args:
        matcher: what predicts.
        dataset: ``kitti2012``, ``kitti2015``, ``middlebury`` (from the folder that holds ``testH`` and so on) or
            ``eth3d`` of :func:`depthlight.data.readers.open_dataset`; truth is not needed.
        root: where to write.
        method: the name in Middlebury's files.
        max_disp: range to search, px.
        on_scene: told each name.

    Raises:
        InputError: the server of this set is not known here, a name is not of its form; also what predicting raises.
        LimitError, OutputError: as the writers.
    """
    if dataset.name not in SERVERS:
        raise InputError(f"there is no submission for {dataset.name}", expected=", ".join(SERVERS))
    for index in range(len(dataset)):
        name = dataset.sample_name(index)
        sample = dataset[index]
        found = matcher.predict(sample.left_HW3, sample.right_HW3, max_disp=max_disp)
        SERVERS[dataset.name](Path(root), name, method, found)
        on_scene(name)
    return len(dataset)


def _kitti(root: Path, name: str, method: str, found: StereoPrediction) -> None:
    write_kitti(root, name.rpartition("/")[2], found.disparity)


def _middlebury(root: Path, name: str, method: str, found: StereoPrediction) -> None:
    size_set, _, scene = name.rpartition("/")
    write_middlebury(root, size_set.rpartition("/")[2], scene, method, found.disparity, seconds=found.seconds)


def _eth3d(root: Path, name: str, method: str, found: StereoPrediction) -> None:
    write_eth3d(root, name.rpartition("/")[2], found.disparity, seconds=found.seconds)


SERVERS: dict[str, Callable[[Path, str, str, StereoPrediction], None]] = {
    "kitti2012": _kitti,
    "kitti2015": _kitti,
    "middlebury": _middlebury,
    "eth3d": _eth3d,
}


def write_kitti(root: str | os.PathLike[str], frame: str, disparity_HW: NDArray[np.float32]) -> Path:
    """Write frame ``"000000_10"`` and return its path.

    Raises:
        InputError: ``frame`` is not of that form, or the disparity is negative or of a wrong shape.
        NonFiniteError: the disparity is not finite everywhere.
        LimitError: a disparity above 255.99 px, which the format cannot hold.
        OutputError: it cannot be written.
    """
    if not _FRAME.fullmatch(frame):
        raise InputError(f"KITTI frame {frame!r}", expected="six digits, an underscore and two digits: 000000_10")
    path = Path(root) / "disp_0" / f"{frame}.png"
    write_disparity(path, disparity_HW, sidecar=False)
    return path


def write_middlebury(
    root: str | os.PathLike[str],
    size_set: str,
    scene: str,
    method: str,
    disparity_HW: NDArray[np.float32],
    *,
    seconds: float,
) -> Path:
    """Write one scene (such as ``"Adirondack"``) of a set (such as ``"trainingH"``); returns the path of the PFM.

    Raises:
        UnknownNameError: no such set.
        InputError: a name has characters a file name should not, ``seconds`` is not positive, or as in
            :func:`write_kitti`.
        NonFiniteError, OutputError: as :func:`write_kitti`.
    """
    if size_set not in MIDDLEBURY_SETS:
        raise UnknownNameError("Middlebury set", size_set, MIDDLEBURY_SETS)
    folder = Path(root) / size_set / _checked_name(scene, "scene")
    path = folder / f"disp0{_checked_name(method, 'method')}.pfm"
    text = f"{_checked_seconds(seconds):.6g}\n"
    write_disparity(path, disparity_HW, sidecar=False)
    atomic_write_bytes(folder / f"time{method}.txt", text.encode())
    return path


def write_eth3d(root: str | os.PathLike[str], scene: str, disparity_HW: NDArray[np.float32], *, seconds: float) -> Path:
    """Write one scene (such as ``"delivery_area_1l"``); returns the path of the PFM.

    Raises:
        InputError, NonFiniteError, OutputError: as :func:`write_middlebury`.
    """
    path = Path(root) / "low_res_two_view" / f"{_checked_name(scene, 'scene')}.pfm"
    text = f"runtime {_checked_seconds(seconds):.6g}\n"
    write_disparity(path, disparity_HW, sidecar=False)
    atomic_write_bytes(path.with_suffix(".txt"), text.encode())
    return path


def _checked_name(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} name {name!r}", expected="letters, digits and _ . + - only")
    return name


def _checked_seconds(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"seconds is {seconds}", expected="the positive run time of the pair")
    return seconds
