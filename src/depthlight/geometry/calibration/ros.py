"""ROS ``camera_info`` pairs as YAML: ``left.yaml`` and ``right.yaml``, or both in one file.

Keys are those of ``camera_calibration_parsers`` (``camera_matrix: {rows, cols, data}``) or of the message (``K``, or
``k``). Lengths are metres (REP 103). ``P[3]`` of the right camera is ``−fx · baseline``; the rectifying rotations ``R``
give the raw pair: ``R_stereo = R_rightᵀ R_left``, ``T = R_rightᵀ (−baseline, 0, 0)``.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np

from ...core.errors import FileFormatError
from ..cameras import Camera, Floats, StereoCameras, to_matrix, to_vector
from ..rig import StereoRig
from .exact import decimal, numbers, over, plus, text, times, whole
from .types import Calibration, Source, rig_of
from .yaml_text import documents, floats, matrix, value_of

NAME = "ros"
UNIT = "m"
_MODELS = {"plumb_bob": "pinhole", "rational_polynomial": "pinhole", "thin_prism_fisheye": None, "": "pinhole",
           "equidistant": "fisheye", "fisheye": "fisheye", "none": "pinhole"}  # fmt: skip
_KEYS = {
    "K": ("camera_matrix", "K", "k"),
    "D": ("distortion_coefficients", "D", "d"),
    "R": ("rectification_matrix", "R", "r"),
    "P": ("projection_matrix", "P", "p"),
    "width": ("image_width", "width"),
    "height": ("image_height", "height"),
}
_COUNTS = {"K": (9,), "D": (0, 4, 5, 8, 12, 14), "R": (9,), "P": (12,)}
_LOOKS = re.compile(r"^\s*(camera_matrix|projection_matrix|distortion_model|P|p)\s*:", re.MULTILINE)
_SIDES = ("left", "right")


def matches(content: str) -> bool:
    """Whether the text looks like this format."""
    return bool(_LOOKS.search(content)) and "distortion" in content


def read(source: Source) -> Calibration:
    """Parse; see :func:`depthlight.geometry.calibration.read_calibration` for what is raised."""
    infos = _both(source)
    cameras = [_camera(source, info, side) for info, side in zip(infos, _SIDES, strict=True)]
    rig = _rig(source, infos, cameras)
    rotations = [np.array(floats_of(source, info, "R", side)) for info, side in zip(infos, _SIDES, strict=True)]
    plain = all(np.array_equal(rotation, np.eye(3).ravel()) for rotation in rotations)
    pairs = ((cameras[0], rig.cameras().left), (cameras[1], rig.cameras().right))
    if plain and not any(camera.is_distorted for camera in cameras) and all(_alike(*pair) for pair in pairs):
        return Calibration(format=NAME, rig=rig)  # the driver rectified already
    raw = _raw(cameras, [rotation.reshape(3, 3) for rotation in rotations], rig.baseline)
    return Calibration(format=NAME, cameras=raw, rig=rig)


def _raw(cameras: list[Camera], rotations: list[Floats], baseline: float) -> StereoCameras:
    left, right = rotations
    shift = right.T @ np.array([-baseline, 0, 0])
    return StereoCameras(left=cameras[0], right=cameras[1], R=to_matrix(right.T @ left), T=to_vector(shift))


def _alike(one: Camera, other: Camera) -> bool:
    """K and P are the same to rounding."""
    return bool(np.allclose(one.matrix(), other.matrix(), rtol=1e-9, atol=1e-6))


def _both(source: Source) -> list[dict[str, Any]]:
    """The two ``camera_info`` mappings: two documents, ``left:`` and ``right:``, or a second file beside."""
    found = documents(source.text, source.path)
    if len(found) == 1 and isinstance(found[0], dict) and set(_SIDES) <= set(found[0]):
        found = [found[0][side] for side in _SIDES]
    if len(found) == 1:
        name = source.path.name
        if "left" not in name:
            raise FileFormatError(
                f"{source.path} holds one camera",
                expected="a pair: left.yaml beside right.yaml, or both in one file",
                hint="Give the left camera's file, with 'left' in its name",
            )
        other = name.replace("left", "right")
        found += documents(source.beside(other, f"the right camera of {name}"), source.path.parent / other)
    if len(found) != 2 or not all(isinstance(item, dict) for item in found):
        raise FileFormatError(
            f"{source.path} holds {len(found)} cameras", expected="camera_info of a left and a right one"
        )
    return [item.get("camera_info", item) if isinstance(item.get("camera_info", item), dict) else {} for item in found]


def floats_of(source: Source, info: dict[str, Any], key: str, side: str) -> list[float]:
    """A matrix of one camera by its short name, as floats.

    Raises:
        FileFormatError: missing, or not as many numbers as it must have.
    """
    return floats(_value(source, info, key, side), _where(source, key, side), _COUNTS[key])


def _where(source: Source, key: str, side: str) -> str:
    return f"{source.path}: {_KEYS[key][0]} of the {side} camera"


def _value(source: Source, info: dict[str, Any], key: str, side: str) -> Any:
    value = value_of(info, _KEYS[key])
    if value is None:
        raise FileFormatError(f"{_where(source, key, side)} is missing", expected="ROS camera_info as YAML")
    return value


def _side(source: Source, info: dict[str, Any], key: str, side: str) -> int:
    value = _value(source, info, key, side)
    if not isinstance(value, str):
        raise FileFormatError(f"{_where(source, key, side)} is no number", expected="a number of pixels")
    return whole(value, _where(source, key, side))


def _camera(source: Source, info: dict[str, Any], side: str) -> Camera:
    k = floats_of(source, info, "K", side)
    if any((k[1], k[3], k[6], k[7])) or k[8] != 1:
        raise FileFormatError(f"{_where(source, 'K', side)} has skew or a wrong last row", expected="no skew")
    stated = info.get("distortion_model", "")
    model = _MODELS.get(stated if isinstance(stated, str) else "?")
    if model is None:
        known = ", ".join(name for name, ours in _MODELS.items() if ours and name)
        raise FileFormatError(f"{source.path}: distortion_model is {str(stated)[:40]!r}", expected=f"one of {known}")
    bent = floats_of(source, info, "D", side)
    width, height = (_side(source, info, key, side) for key in ("width", "height"))
    coefficients = tuple(bent) if any(bent) or model == "fisheye" else ()
    return Camera(fx=k[0], fy=k[4], cx=k[2], cy=k[5], width=width, height=height, model=model, distortion=coefficients)


def _rig(source: Source, infos: list[dict[str, Any]], raw: list[Camera]) -> StereoRig:
    left, right = (
        numbers(matrix(_value(source, info, "P", side), _where(source, "P", side), (12,)), _where(source, "P", side))
        for info, side in zip(infos, _SIDES, strict=True)
    )
    width, height = raw[0].size
    cameras = (
        Camera(fx=float(p[0]), fy=float(p[5]), cx=float(p[2]), cy=float(p[6]), width=width, height=height)
        for p in (left, right)
    )
    offset = over(plus(left[3], -right[3]), left[0], f"{source.path}: the focal length in P")
    return rig_of(cameras, source.metres(offset, UNIT), source.path, plus(right[2], -left[2]))


def write(calibration: Calibration) -> dict[str, str]:
    """``left.yaml`` and ``right.yaml``; raw cameras need their rectified rig beside them.

    The rectified numbers come back exactly; ``R`` and ``T`` of raw cameras to rounding (1e-12), as the format stores
    the rectifying rotations instead.

    Raises:
        FileFormatError: raw and rectified images differ in size, which the format cannot say.
    """
    from ..rectify import rectifying_rotations

    rig = calibration.need_rig("this calibration")
    if calibration.cameras is None:
        cameras, rotations = rig.cameras(), (np.eye(3), np.eye(3))
    else:
        cameras, rotations = calibration.cameras, rectifying_rotations(calibration.cameras)
        if not cameras.left.size == cameras.right.size == (rig.width, rig.height):
            raise FileFormatError("raw and rectified images differ in size", expected="one size in camera_info")
    zero, fx = Decimal(0), decimal(rig.fx)
    columns = (
        (decimal(rig.cx), zero),
        (plus(decimal(rig.cx), decimal(rig.doffs)), -times(fx, decimal(rig.baseline))),
    )
    found = {}
    for side, camera, rotation, (cx, shift) in zip(
        _SIDES, (cameras.left, cameras.right), rotations, columns, strict=True
    ):
        p = [fx, zero, cx, shift, zero, decimal(rig.fy), decimal(rig.cy), zero, zero, zero, Decimal(1), zero]
        found[f"{side}.yaml"] = _document(side, camera, rotation, p)
    return found


def _document(side: str, camera: Camera, rotation: Floats, projection: list[Decimal]) -> str:
    bent = camera.distortion or (0.0,) * (4 if camera.model == "fisheye" else 5)
    name = "equidistant" if camera.model == "fisheye" else "plumb_bob" if len(bent) <= 5 else "rational_polynomial"
    lines = [f"image_width: {camera.width}", f"image_height: {camera.height}", f"camera_name: {side}"]
    lines += _matrix("camera_matrix", 3, camera.matrix().ravel())
    lines += [f"distortion_model: {name}", *_matrix("distortion_coefficients", 1, bent)]
    lines += _matrix("rectification_matrix", 3, rotation.ravel())
    lines += _matrix("projection_matrix", 3, projection)
    return "\n".join(lines) + "\n"


def _matrix(name: str, rows: int, values: Any) -> list[str]:
    data = [text(value if isinstance(value, Decimal) else float(value)) for value in values]
    return [f"{name}:", f"  rows: {rows}", f"  cols: {len(data) // rows}", f"  data: [{', '.join(data)}]"]
