"""Middlebury 2014/2021 ``calib.txt`` (vision.middlebury.edu/stereo/data/scenes2014), also of ETH3D's two-view scenes.

``cam0=[fx 0 cx; 0 fy cy; 0 0 1]``, ``cam1`` likewise, ``doffs`` px, ``baseline`` mm, ``width``, ``height``; rectified.
Further keys (``ndisp``, ``vmin`` …) are left alone.
"""

from __future__ import annotations

from decimal import Decimal

from ...core.errors import FileFormatError
from ..cameras import Camera
from .exact import decimal, from_metres, number, numbers, plus, text, whole
from .types import Calibration, Source, rig_of

NAME = "middlebury"
UNIT = "mm"
KEYS = ("cam0", "cam1", "doffs", "baseline", "width", "height")


def matches(content: str) -> bool:
    """Whether the text looks like this format."""
    return any(
        line.split("=")[0].strip() in ("cam0", "baseline", "doffs") for line in content.splitlines() if "=" in line
    )


def read(source: Source) -> Calibration:
    """Parse; see :func:`depthlight.geometry.calibration.read_calibration` for what is raised."""
    pairs = (line.split("=", 1) for line in source.text.splitlines() if "=" in line)
    values = {key.strip(): value.strip() for key, value in pairs}
    missing = [key for key in KEYS if key not in values]
    if missing:
        raise FileFormatError(
            f"{source.path}: {missing[0]} is missing",
            expected=f"Middlebury's calib.txt ({', '.join(KEYS)})",
        )
    size = tuple(whole(values[key], f"{source.path}: {key}") for key in ("width", "height"))
    left, right = (_matrix(values[key], f"{source.path}: {key}") for key in ("cam0", "cam1"))
    doffs = number(values["doffs"], f"{source.path}: doffs")
    if abs(right[2] - left[2] - doffs) > Decimal("0.5"):
        raise FileFormatError(
            f"{source.path}: doffs is {doffs} and the principal points differ by {right[2] - left[2]}",
            expected="doffs = cx1 - cx0",
            hint="One of them belongs to another image size",
        )
    baseline = source.metres(number(values["baseline"], f"{source.path}: baseline"), UNIT)
    cameras = (_camera(values_of, size[0], size[1]) for values_of in (left, right))
    return Calibration(format=NAME, rig=rig_of(cameras, baseline, source.path, doffs))


def _matrix(content: str, where: str) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """fx, fy, cx, cy."""
    rows = [row.split() for row in content.strip("[]").split(";")]
    if [len(row) for row in rows] != [3, 3, 3]:
        raise FileFormatError(f"{where} is {content[:40]!r}", expected="[fx 0 cx; 0 fy cy; 0 0 1]")
    fx, skew, cx, zero, fy, cy, *last = numbers([item for row in rows for item in row], where)
    if skew or zero or last != [0, 0, 1]:
        raise FileFormatError(f"{where} has skew or a wrong last row", expected="[fx 0 cx; 0 fy cy; 0 0 1]")
    return fx, fy, cx, cy


def _camera(values: tuple[Decimal, Decimal, Decimal, Decimal], width: int, height: int) -> Camera:
    fx, fy, cx, cy = map(float, values)
    return Camera(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)


def write(calibration: Calibration) -> dict[str, str]:
    """The file's text; lengths in mm."""
    rig = calibration.need_rig("this calibration")
    right_cx = text(plus(decimal(rig.cx), decimal(rig.doffs)))
    lines = [
        f"cam0=[{rig.fx!r} 0 {rig.cx!r}; 0 {rig.fy!r} {rig.cy!r}; 0 0 1]",
        f"cam1=[{rig.fx!r} 0 {right_cx}; 0 {rig.fy!r} {rig.cy!r}; 0 0 1]",
        f"doffs={rig.doffs!r}",
        f"baseline={text(from_metres(rig.baseline, UNIT))}",
        f"width={rig.width}",
        f"height={rig.height}",
    ]
    return {"calib.txt": "\n".join(lines) + "\n"}
