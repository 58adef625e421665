"""ETH3D's ``cameras.txt`` with ``images.txt`` beside it: COLMAP's text layout (colmap.github.io/format.html).

Pixel centres are at halves there, and at whole coordinates here: the principal point moves by half a pixel. Poses are
world to camera, the quaternion w first. COLMAP has no unit; ETH3D's is the metre, so ask for the format by name or give
the unit. Of two images the one whose name sorts first (``im0``, ``left``) is the left one.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from ...core.errors import FileFormatError
from ..cameras import IDENTITY, Camera, Floats, StereoCameras, to_matrix, to_vector
from .exact import decimal, numbers, plus, text, whole
from .types import Calibration, Source, rig_of

NAME = "eth3d"
UNIT = "m"
_HALF = Decimal("0.5")
_STATED = "# unit: m"
# COLMAP's models: our model, and where fx, fy, cx, cy and the distortion stand among the parameters
_MODELS: dict[str, tuple[str, tuple[int, int, int, int], int]] = {
    "SIMPLE_PINHOLE": ("pinhole", (0, 0, 1, 2), 3),
    "PINHOLE": ("pinhole", (0, 1, 2, 3), 4),
    "SIMPLE_RADIAL": ("pinhole", (0, 0, 1, 2), 4),
    "RADIAL": ("pinhole", (0, 0, 1, 2), 5),
    "OPENCV": ("pinhole", (0, 1, 2, 3), 8),
    "FULL_OPENCV": ("pinhole", (0, 1, 2, 3), 12),
    "OPENCV_FISHEYE": ("fisheye", (0, 1, 2, 3), 8),
}


def _rows(content: str) -> list[list[str]]:
    return [line.split() for line in content.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def matches(content: str) -> bool:
    """Whether the text looks like this format."""
    rows = _rows(content)
    return bool(rows) and len(rows[0]) > 4 and rows[0][1].isupper()


def read(source: Source, *, forced: bool = False) -> Calibration:
    """Parse; see :func:`depthlight.geometry.calibration.read_calibration` for what is raised.

    ``forced``: the user named the format, so that it is ETH3D's, in metres.
    """
    stated = UNIT if forced or _STATED in source.text else None
    cameras = {row[0]: (row, _camera(source, row)) for row in _rows(source.text)}
    images = _images(source)
    for image in images:
        if image[8] not in cameras:
            raise FileFormatError(
                f"{source.path}: camera {image[8][:20]!r} is missing", expected="both images' cameras"
            )
    poses = [_pose(source, image, stated) for image in images]
    (left, (_, one)), (right, (_, other)) = ((image[8], cameras[image[8]]) for image in images)
    rotation = poses[1][0] @ poses[0][0].T
    plain = images[0][1:5] == images[1][1:5]
    baseline = plus(poses[0][1][0], -poses[1][1][0])
    apart = any(poses[0][1][axis] != poses[1][1][axis] for axis in (1, 2))
    if plain and not apart and np.array_equal(poses[0][0], np.eye(3)) and not (one.is_distorted or other.is_distorted):
        centres = [_centre(source, cameras[key][0]) for key in (left, right)]
        return Calibration(format=NAME, rig=rig_of((one, other), baseline, source.path, plus(centres[1], -centres[0])))
    shifts = [np.array([float(v) for v in pose[1]]) for pose in poses]
    shift = shifts[1] - rotation @ shifts[0]
    matrix = IDENTITY if plain else to_matrix(rotation)
    cameras_of = StereoCameras(left=one, right=other, R=matrix, T=to_vector(shift))
    return Calibration(format=NAME, cameras=cameras_of)


def _parameters(source: Source, row: list[str]) -> tuple[str, tuple[int, int, int, int], list[Decimal]]:
    if len(row) < 5 or row[1] not in _MODELS:
        known = ", ".join(_MODELS)
        what = row[1][:40] if len(row) > 1 else row[0][:40]
        raise FileFormatError(f"{source.path}: camera model {what!r}", expected=f"one of {known}")
    model, places, count = _MODELS[row[1]]
    return model, places, numbers(row[4:], f"{source.path}: camera {row[0][:20]}", count)


def _centre(source: Source, row: list[str]) -> Decimal:
    _, places, values = _parameters(source, row)
    return plus(values[places[2]], -_HALF)


def _camera(source: Source, row: list[str]) -> Camera:
    model, places, values = _parameters(source, row)
    fx, fy, cx, cy = (values[place] for place in places)
    bent = [float(value) for value in values[max(places) + 1 :]]
    if model == "pinhole" and bent:
        bent += [0.0] * (4 - len(bent) if len(bent) < 4 else 0)
    where = f"{source.path}: camera {row[0][:20]}"
    return Camera(
        fx=float(fx),
        fy=float(fy),
        cx=float(plus(cx, -_HALF)),
        cy=float(plus(cy, -_HALF)),
        width=whole(row[2], where),
        height=whole(row[3], where),
        model=model,
        distortion=tuple(bent) if any(bent) or model == "fisheye" else (),
    )


def _images(source: Source) -> list[list[str]]:
    """The two image lines, left first; the lines of points between them are not read."""
    rows = _rows(source.beside("images.txt", "the poses of the two cameras"))
    images = [row for row in rows if len(row) == 10 and not row[9].replace(".", "").replace("-", "").isdigit()]
    if len(images) != 2:
        raise FileFormatError(f"{source.path.parent / 'images.txt'} has {len(images)} images", expected="a pair")
    return sorted(images, key=lambda row: row[9])


def _pose(source: Source, row: list[str], stated: str | None) -> tuple[Floats, list[Decimal]]:
    where = f"{source.path.parent / 'images.txt'}: {row[9][:40]}"
    values = numbers(row[1:8], where, 7)
    q = np.array([float(v) for v in values[:4]])
    norm = float(np.linalg.norm(q))
    if abs(norm - 1) > 1e-2:
        raise FileFormatError(f"{where} has a quaternion of length {norm:.3g}", expected="length 1")
    w, x, y, z = q / norm
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return rotation, [source.metres(value, stated) for value in values[4:]]


def write(calibration: Calibration) -> dict[str, str]:
    """``cameras.txt`` and ``images.txt``, in metres, and they say so. Rotations come back to rounding (1e-12).

    Raises:
        FileFormatError: more distortion coefficients than COLMAP's models have.
    """
    cameras = calibration.need_rig("this calibration").cameras() if calibration.cameras is None else calibration.cameras
    doffs = calibration.rig.doffs if calibration.cameras is None and calibration.rig else None
    right_cx = decimal(cameras.right.cx)
    if doffs is not None:
        right_cx = plus(decimal(cameras.left.cx), decimal(doffs))
    lines = [
        _STATED,
        "# Camera list with one line of data per camera:",
        "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]",
    ]
    for index, camera, cx in ((0, cameras.left, decimal(cameras.left.cx)), (1, cameras.right, right_cx)):
        name, bent = _model(camera)
        values = [decimal(camera.fx), decimal(camera.fy), plus(cx, _HALF), plus(decimal(camera.cy), _HALF)]
        shown = " ".join([text(v) for v in values] + [text(v) for v in bent])
        lines.append(f"{index} {name} {camera.width} {camera.height} {shown}")
    quaternion = " ".join(repr(float(v)) for v in _quaternion(np.array(cameras.R, np.float64)))
    shift = " ".join(repr(v) for v in cameras.T)
    poses = [
        _STATED,
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "#   POINTS2D[] as (X, Y, POINT3D_ID)",
    ]
    poses += ["0 1.0 0.0 0.0 0.0 0.0 0.0 0.0 0 im0.png", "", f"1 {quaternion} {shift} 1 im1.png", ""]
    return {"cameras.txt": "\n".join(lines) + "\n", "images.txt": "\n".join(poses) + "\n"}


def _model(camera: Camera) -> tuple[str, tuple[float, ...]]:
    bent = camera.distortion
    if camera.model == "fisheye":
        return "OPENCV_FISHEYE", bent or (0.0,) * 4
    if not bent:
        return "PINHOLE", ()
    if len(bent) == 4:
        return "OPENCV", bent
    if len(bent) <= 8:
        return "FULL_OPENCV", bent + (0.0,) * (8 - len(bent))
    raise FileFormatError("COLMAP's models cannot hold this lens", expected="at most eight coefficients")


def _quaternion(rotation: Floats) -> Floats:
    """(w, x, y, z), w ≥ 0 (Bar-Itzhack 2000: the eigenvector of the largest eigenvalue, stable at any angle)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    if np.array_equal(rotation, np.eye(3)):
        return np.array([1.0, 0, 0, 0])
    k = np.array(
        [[a + e + i, h - f, c - g, d - b], [h - f, a - e - i, b + d, c + g],
         [c - g, b + d, e - a - i, f + h], [d - b, c + g, f + h, i - a - e]]
    )  # fmt: skip
    q = np.linalg.eigh(k)[1][:, -1]
    return np.asarray(q if q[0] >= 0 else -q, np.float64)
