"""KITTI (cvlibs.net/datasets/kitti): ``key: numbers`` lines, lengths in metres.

``kitti``: rectified projection matrices ``P0 P1 P2 P3`` (object and odometry sets), or ``P_rect_02`` …; the colour pair
is 2 and 3. ``calib_cam_to_cam.txt`` (raw and stereo sets) holds the raw cameras besides (``S K D R T`` per camera, with
``X_i = R_i X_0 + T_i``) and states the size. ``kitti-gray`` reads the gray pair, 0 and 1: its baseline is another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from ...core.errors import FileFormatError
from ..cameras import Camera, StereoCameras, to_matrix, to_vector
from ..rig import StereoRig
from .exact import decimal, numbers, over, plus, text, times, whole
from .types import Calibration, Source, rig_of

NAME = "kitti"
GRAY = "kitti-gray"
UNIT = "m"
_PAIRS = {NAME: ("2", "3"), GRAY: ("0", "1")}
Rows = Mapping[str, list[str]]


def matches(content: str) -> bool:
    """Whether the text looks like this format."""
    keys = {line.split(":")[0].strip() for line in content.splitlines() if ":" in line}
    return bool(keys & {"P0", "P1", "P2", "P3", "P_rect_00", "P_rect_02", "K_00", "K_02"})


def read(source: Source, name: str = NAME) -> Calibration:
    """Parse; see :func:`depthlight.geometry.calibration.read_calibration` for what is raised."""
    lines = (line.split(":", 1) for line in source.text.splitlines() if ":" in line)
    rows: Rows = {key.strip(): value.split() for key, value in lines}
    one, other = _PAIRS[name]
    raw = f"K_0{one}" in rows and f"R_0{one}" in rows
    cameras = _raw(source, rows, one, other) if raw else None
    rig = None
    if f"P{one}" in rows or f"P_rect_0{one}" in rows:
        rig = _rectified(source, rows, one, other)
    if cameras is None and rig is None:
        raise FileFormatError(
            f"{source.path}: neither P{one} nor K_0{one} is there",
            expected="KITTI's P2 and P3, or calib_cam_to_cam.txt",
        )
    return Calibration(format=name, cameras=cameras, rig=rig)


def _row(source: Source, rows: Rows, key: str, count: int) -> list[Decimal]:
    if key not in rows:
        raise FileFormatError(f"{source.path}: {key} is missing", expected="KITTI's layout")
    return numbers(rows[key], f"{source.path}: {key}", count)


def _size(source: Source, rows: Rows, key: str) -> tuple[int, int]:
    if key not in rows:
        return source.need_size()
    if len(rows[key]) != 2:
        raise FileFormatError(f"{source.path}: {key} has {len(rows[key])} numbers", expected="width and height")
    width, height = (whole(item, f"{source.path}: {key}") for item in rows[key])
    return width, height


def _rectified(source: Source, rows: Rows, one: str, other: str) -> StereoRig:
    prefix = "P" if f"P{one}" in rows else "P_rect_0"
    left, right = (_row(source, rows, f"{prefix}{index}", 12) for index in (one, other))
    width, height = _size(source, rows, f"S_rect_0{one}")
    offset = over(plus(left[3], -right[3]), left[0], f"{source.path}: the focal length of {prefix}{one}")
    cameras = (
        Camera(fx=float(p[0]), fy=float(p[5]), cx=float(p[2]), cy=float(p[6]), width=width, height=height)
        for p in (left, right)
    )
    return rig_of(cameras, source.metres(offset, UNIT), source.path, plus(right[2], -left[2]))


def _raw(source: Source, rows: Rows, one: str, other: str) -> StereoCameras:
    cameras, rotations, translations = [], [], []
    for index in (one, other):
        width, height = _size(source, rows, f"S_0{index}")
        k = [float(v) for v in _row(source, rows, f"K_0{index}", 9)]
        bent = [float(v) for v in _row(source, rows, f"D_0{index}", 5)] if f"D_0{index}" in rows else []
        cameras.append(
            Camera(
                fx=k[0],
                fy=k[4],
                cx=k[2],
                cy=k[5],
                width=width,
                height=height,
                distortion=tuple(bent) if any(bent) else (),
            )
        )
        rotations.append(np.array([float(v) for v in _row(source, rows, f"R_0{index}", 9)]).reshape(3, 3))
        shift = [source.metres(v, UNIT) for v in _row(source, rows, f"T_0{index}", 3)]
        translations.append(np.array([float(v) for v in shift]))
    plain = np.array_equal(rotations[0], np.eye(3))
    rotation = rotations[1] if plain else rotations[1] @ rotations[0].T  # the former exactly as stored
    translation = translations[1] - rotation @ translations[0]
    return StereoCameras(left=cameras[0], right=cameras[1], R=to_matrix(rotation), T=to_vector(translation))


def write(calibration: Calibration) -> dict[str, str]:
    """``calib.txt`` with P0–P3 of a rectified rig, or ``calib_cam_to_cam.txt`` of raw cameras (with P_rect, if known).

    Raises:
        FileFormatError: a fisheye lens, or a number of coefficients that KITTI's five cannot hold.
    """
    rig = calibration.rig
    if calibration.cameras is None:
        matrices = _projections(calibration.need_rig("this calibration"))
        return {"calib.txt": "".join(f"P{i}: {' '.join(matrices[i % 2])}\n" for i in range(4))}
    lines = ["corner_dist: 0.0"]
    cameras = calibration.cameras
    poses = ((np.eye(3), np.zeros(3)), (np.array(cameras.R), np.array(cameras.T)))
    for index, camera, (rotation, translation) in zip("23", (cameras.left, cameras.right), poses, strict=True):
        if camera.model != "pinhole" or len(camera.distortion) > 5:
            raise FileFormatError("KITTI's layout cannot hold this lens", expected="at most k1 k2 p1 p2 k3")
        bent = (*camera.distortion, *(0.0,) * (5 - len(camera.distortion)))
        lines += [
            f"S_0{index}: {camera.width} {camera.height}",
            f"K_0{index}: {_join(camera.matrix().ravel())}",
            f"D_0{index}: {_join(bent)}",
            f"R_0{index}: {_join(rotation.ravel())}",
            f"T_0{index}: {_join(translation)}",
        ]
        if rig is not None:
            matrix = " ".join(_projections(rig)[int(index) - 2])
            lines += [f"S_rect_0{index}: {rig.width} {rig.height}", f"P_rect_0{index}: {matrix}"]
    return {"calib_cam_to_cam.txt": "\n".join(lines) + "\n"}


def _join(values: object) -> str:
    return " ".join(repr(float(value)) for value in values)  # type: ignore[attr-defined]


def _projections(rig: StereoRig) -> list[list[str]]:
    """The twelve numbers of the left and the right projection matrix."""
    fx, baseline = decimal(rig.fx), decimal(rig.baseline)
    found = []
    for cx, shift in (
        (decimal(rig.cx), Decimal(0)),
        (plus(decimal(rig.cx), decimal(rig.doffs)), -times(fx, baseline)),
    ):
        found.append([text(v) for v in (fx, 0.0, cx, shift, 0.0, rig.fy, rig.cy, 0.0, 0.0, 0.0, 1.0, 0.0)])
    return found
