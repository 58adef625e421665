"""FoundationStereo's ``K.txt``: nine numbers of K in one line, the baseline in metres in the next; rectified.

It states neither the image size nor different principal points of the two cameras.
"""

from __future__ import annotations

from ...core.errors import FileFormatError
from ..cameras import Camera
from .exact import decimal, number, numbers
from .types import Calibration, Source, rig_of

NAME = "foundation"
UNIT = "m"


def _lines(content: str) -> list[str]:
    return [line.strip() for line in content.splitlines() if line.strip()]


def matches(content: str) -> bool:
    """Whether the text looks like this format."""
    lines = _lines(content)
    return len(lines) == 2 and len(lines[0].split()) == 9 and len(lines[1].split()) == 1


def read(source: Source) -> Calibration:
    """Parse; see :func:`depthlight.geometry.calibration.read_calibration` for what is raised."""
    lines = _lines(source.text)
    if len(lines) != 2:
        raise FileFormatError(f"{source.path} has {len(lines)} lines", expected="nine numbers of K, then the baseline")
    fx, skew, cx, zero, fy, cy, *last = numbers(lines[0].split(), f"{source.path}: K", 9)
    if skew or zero or last != [0, 0, 1]:
        raise FileFormatError(f"{source.path}: K has skew or a wrong last row", expected="fx 0 cx 0 fy cy 0 0 1")
    baseline = source.metres(number(lines[1], f"{source.path}: the baseline"), UNIT)
    width, height = source.need_size()
    camera = Camera(fx=float(fx), fy=float(fy), cx=float(cx), cy=float(cy), width=width, height=height)
    return Calibration(format=NAME, rig=rig_of((camera, camera), baseline, source.path, decimal(0)))


def write(calibration: Calibration) -> dict[str, str]:
    """The file's text.

    Raises:
        FileFormatError: the rig has a ``doffs``, which the format cannot hold.
    """
    rig = calibration.need_rig("this calibration")
    if rig.doffs:
        raise FileFormatError(
            f"K.txt cannot hold doffs ({rig.doffs} px)", expected="doffs 0", hint="Write Middlebury's calib.txt instead"
        )
    k = " ".join(repr(float(v)) for v in (rig.fx, 0, rig.cx, 0, rig.fy, rig.cy, 0, 0, 1))
    return {"K.txt": f"{k}\n{rig.baseline!r}\n"}
