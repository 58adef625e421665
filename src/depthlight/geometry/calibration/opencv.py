"""OpenCV's YAML (``cv2.FileStorage``), as its samples and their many copies write it.

``K1 D1 K2 D2 R T`` (or ``M1``, ``cameraMatrix1`` …), and for the rectified pair ``P1 P2``. The sample programs split it
into ``intrinsics.yml`` and ``extrinsics.yml``: give either. Neither unit nor lens model is part of the format: the unit
of ``T`` is that of the board's squares. Files we write state both (``unit``, ``distortion_model``).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ...core.errors import FileFormatError, InputError
from ..cameras import Camera, StereoCameras, to_matrix, to_vector
from ..rig import StereoRig
from .exact import decimal, number, numbers, over, plus, text, times, whole
from .types import Calibration, Source, rig_of
from .yaml_text import documents, floats, matrix, value_of

NAME = "opencv"
_K = (
    ("K1", "M1", "cameraMatrix1", "camera_matrix_1", "camera_matrix_left", "K_left", "left_camera_matrix"),
    ("K2", "M2", "cameraMatrix2", "camera_matrix_2", "camera_matrix_right", "K_right", "right_camera_matrix"),
)
_D = (
    ("D1", "distCoeffs1", "dist_coeffs_1", "dist_coeffs_left", "D_left", "left_distortion_coefficients"),
    ("D2", "distCoeffs2", "dist_coeffs_2", "dist_coeffs_right", "D_right", "right_distortion_coefficients"),
)
_P = (("P1", "P_left"), ("P2", "P_right"))
_SIZE = ("size", "imageSize", "image_size", "img_size", "Size")
_LENS = ("distortion_model", "camera_model", "model")
_LENS_NAMES = {"fisheye": "fisheye", "equidistant": "fisheye", "pinhole": "pinhole", "plumb_bob": "pinhole",
               "rational_polynomial": "pinhole", "radtan": "pinhole"}  # fmt: skip
_SIDES = ("left", "right")
_PARTNER = {"intrinsics": "extrinsics", "extrinsics": "intrinsics"}


def matches(content: str) -> bool:
    """Whether the text looks like this format."""
    head = content.lstrip("\ufeff \r\n")
    return head.startswith("%YAML:") or "!!opencv-matrix" in content


def read(source: Source) -> Calibration:
    """Parse; see :func:`depthlight.geometry.calibration.read_calibration` for what is raised."""
    values = _values(source.text, source)
    stem = source.path.stem
    partner = _PARTNER.get(stem)
    if partner and (value_of(values, _K[0]) is None or "T" not in values):
        other = f"{partner}{source.path.suffix}"
        values = {**_values(source.beside(other, f"the other half of {source.path.name}"), source), **values}
    stated = values.get("unit")
    if stated is not None and stated not in ("m", "mm", "cm"):
        raise FileFormatError(f"{source.path}: unit is {str(stated)[:40]!r}", expected="m, cm or mm")
    cameras = _cameras(source, values, stated) if value_of(values, _K[0]) is not None else None
    rig = _rig(source, values, stated) if value_of(values, _P[0]) is not None else None
    if cameras is None and rig is None:
        raise FileFormatError(f"{source.path}: K1 is missing", expected="OpenCV's K1, D1, K2, D2, R and T (or M1 …)")
    return Calibration(format=NAME, cameras=cameras, rig=rig)


def _values(content: str, source: Source) -> dict[str, Any]:
    found = documents(content, source.path)
    if len(found) != 1 or not isinstance(found[0], dict):
        raise FileFormatError(f"{source.path} is no OpenCV calibration", expected="one document with K1, D1 …")
    return found[0]


def _need(source: Source, values: dict[str, Any], names: tuple[str, ...]) -> Any:
    value = value_of(values, names)
    if value is None:
        raise FileFormatError(f"{source.path}: {names[0]} is missing", expected="OpenCV's K1, D1, K2, D2, R and T")
    return value


def _size(source: Source, values: dict[str, Any]) -> tuple[int, int]:
    stated = value_of(values, _SIZE)
    where = f"{source.path}: the image size"
    if isinstance(stated, dict):
        stated = stated.get("data")
    if isinstance(stated, list):
        if len(stated) != 2 or not all(isinstance(item, str) for item in stated):
            raise FileFormatError(f"{where} has {len(stated)} entries", expected="width and height")
        return whole(stated[0], where), whole(stated[1], where)
    sides = [value_of(values, names) for names in (("image_width", "width"), ("image_height", "height"))]
    if all(isinstance(side, str) for side in sides):
        return whole(sides[0], where), whole(sides[1], where)
    return source.need_size()


def _cameras(source: Source, values: dict[str, Any], stated: str | None) -> StereoCameras:
    width, height = _size(source, values)
    cameras = []
    for side, k_names, d_names in zip(_SIDES, _K, _D, strict=True):
        k = floats(_need(source, values, k_names), f"{source.path}: {k_names[0]}", (9,))
        bent: list[float] = []
        if value_of(values, d_names) is not None:
            bent = floats(value_of(values, d_names), f"{source.path}: {d_names[0]}", (4, 5, 8, 12, 14))
        model = _lens(source, values, bent, f"{source.path}: {side}")
        if any((k[1], k[3], k[6], k[7])) or k[8] != 1:
            raise FileFormatError(f"{source.path}: {k_names[0]} has skew or a wrong last row", expected="no skew")
        coefficients = tuple(bent) if any(bent) else ()
        cameras.append(
            Camera(fx=k[0], fy=k[4], cx=k[2], cy=k[5], width=width, height=height, model=model, distortion=coefficients)
        )
    rotation = floats(_need(source, values, ("R",)), f"{source.path}: R", (9,))
    shift = numbers(matrix(_need(source, values, ("T", "t")), f"{source.path}: T", (3,)), f"{source.path}: T")
    metres = [float(source.metres(value, stated)) for value in shift]
    return StereoCameras(left=cameras[0], right=cameras[1], R=to_matrix(rotation), T=to_vector(metres))


def _lens(source: Source, values: dict[str, Any], bent: list[float], where: str) -> str:
    """The distortion model: what the user says, what the file says, what the number of coefficients says."""
    stated = value_of(values, _LENS)
    if stated is not None and stated not in _LENS_NAMES:
        raise FileFormatError(f"{where}: the lens model is {str(stated)[:40]!r}", expected="pinhole or fisheye")
    model = source.lens or (None if stated is None else _LENS_NAMES[stated])
    if model is None and len(bent) == 4 and any(bent):
        raise InputError(
            f"{where}: four coefficients can be k1 k2 p1 p2 or a fisheye's k1–k4",
            expected="the lens model",
            hint="Give --lens pinhole or --lens fisheye",
        )
    return model or "pinhole"


def _rig(source: Source, values: dict[str, Any], stated: str | None) -> StereoRig:
    """The rectified pair from OpenCV's P1 and P2 (P2[3] = −fx · baseline)."""
    left, right = (
        numbers(matrix(_need(source, values, names), f"{source.path}: {names[0]}", (12,)), f"{source.path}: {names[0]}")
        for names in _P
    )
    width, height = _size(source, values)
    cameras = (
        Camera(fx=float(p[0]), fy=float(p[5]), cx=float(p[2]), cy=float(p[6]), width=width, height=height)
        for p in (left, right)
    )
    offset = over(plus(left[3], -right[3]), left[0], f"{source.path}: the focal length of P1")
    return rig_of(cameras, source.metres(offset, stated), source.path, plus(right[2], -left[2]))


def write(calibration: Calibration) -> dict[str, str]:
    """The file's text; lengths in metres, and it says so."""
    lines = ["%YAML:1.0", "---", "unit: m"]
    cameras, rig = calibration.cameras, calibration.rig
    if cameras is not None:
        if cameras.left.model != cameras.right.model or cameras.left.size != cameras.right.size:
            raise FileFormatError("OpenCV's file holds one lens model and one size", expected="two cameras of one kind")
        lines += [f"distortion_model: {cameras.left.model}", *_sizes(*cameras.left.size)]
        for index, camera in (("1", cameras.left), ("2", cameras.right)):
            lines += _matrix(f"K{index}", 3, 3, camera.matrix().ravel())
            bent = camera.distortion or (0.0,) * 4
            lines += _matrix(f"D{index}", 1, len(bent), bent)
        lines += _matrix("R", 3, 3, [value for row in cameras.R for value in row])
        lines += _matrix("T", 3, 1, cameras.T)
    if rig is not None:
        if cameras is None:
            lines += _sizes(rig.width, rig.height)
        elif cameras.left.size != (rig.width, rig.height):
            raise FileFormatError("raw and rectified images differ in size", expected="one size in an OpenCV file")
        fx, zero = decimal(rig.fx), Decimal(0)
        shift = -times(fx, decimal(rig.baseline))
        right_cx = plus(decimal(rig.cx), decimal(rig.doffs))
        for name, cx, offset in (("P1", decimal(rig.cx), zero), ("P2", right_cx, shift)):
            lines += _matrix(name, 3, 4, [rig.fx, 0, cx, offset, 0, rig.fy, rig.cy, 0, 0, 0, 1, 0])
    return {"calibration.yml": "\n".join(lines) + "\n"}


def _sizes(width: int, height: int) -> list[str]:
    return [f"image_width: {width}", f"image_height: {height}"]


def _matrix(name: str, rows: int, cols: int, values: Any) -> list[str]:
    data = ", ".join(text(value if isinstance(value, Decimal) else float(value)) for value in values)
    number_of = [number(item, name) for item in data.split(", ")]  # nothing is written that would not be read
    if len(number_of) != rows * cols:
        raise FileFormatError(f"{name} has {len(number_of)} numbers", expected=f"{rows * cols}")
    return [f"{name}: !!opencv-matrix", f"   rows: {rows}", f"   cols: {cols}", "   dt: d", f"   data: [ {data} ]"]
