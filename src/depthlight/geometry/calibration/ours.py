"""Our own JSON; lengths in metres.

A rectified rig is the fields of :class:`~depthlight.geometry.rig.StereoRig` at the top level. Raw cameras are
``{"cameras": {"left": {…}, "right": {…}, "R": […], "T": […]}}``, with the fields of
:class:`~depthlight.geometry.cameras.StereoCameras`, and may have the rectified rig beside them as ``"rectified"``.
"""

from __future__ import annotations

import json
from typing import Any

from ...core.config import from_dict, to_dict
from ...core.errors import FileFormatError
from ..cameras import StereoCameras
from ..rig import StereoRig
from .exact import decimal
from .types import Calibration, Source

NAME = "json"
UNIT = "m"


def matches(content: str) -> bool:
    """Whether the text looks like this format."""
    return content.lstrip().startswith(("{", "["))


def read(source: Source) -> Calibration:
    """Parse; see :func:`depthlight.geometry.calibration.read_calibration` for what is raised."""
    try:
        values = json.loads(source.text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise FileFormatError(f"{source.path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FileFormatError(
            f"{source.path} does not hold a calibration", expected="a JSON object with fx, fy, cx, cy, baseline …"
        )
    where = f"{source.path.name}: "
    try:
        if "cameras" not in values:
            return Calibration(format=NAME, rig=_rig(values, source, where))
        extra = sorted(set(values) - {"cameras", "rectified"})
        if extra:
            raise FileFormatError(f"{where}{extra[0]!r} is not known", expected="cameras and rectified")
        cameras = _cameras(values["cameras"], source, f"{where}cameras.")
        rectified = values.get("rectified")
        rig = None if rectified is None else _rig(rectified, source, f"{where}rectified.")
        return Calibration(format=NAME, cameras=cameras, rig=rig)
    except OverflowError:
        raise FileFormatError(f"{source.path} holds a number beyond all bounds", expected="pixels and metres") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number")


def _mapping(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise FileFormatError(f"{where[:-1]} is not an object", expected="names and values in braces")
    return values


def _in_metres(value: Any, source: Source) -> Any:
    """A number in the unit the user states; what is no number is left for the check that follows."""
    if source.unit in (None, "m") or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return float(source.metres(decimal(value), UNIT))


def _rig(values: Any, source: Source, where: str) -> StereoRig:
    values = dict(_mapping(values, where))
    values["baseline"] = _in_metres(values.get("baseline"), source)
    if values["baseline"] is None:
        del values["baseline"]
    return from_dict(StereoRig, values, where=where)


def _cameras(values: Any, source: Source, where: str) -> StereoCameras:
    values = dict(_mapping(values, where))
    if isinstance(values.get("T"), list):
        values["T"] = [_in_metres(value, source) for value in values["T"]]
    return from_dict(StereoCameras, values, where=where)


def write(calibration: Calibration) -> dict[str, str]:
    """The file's text."""
    if calibration.cameras is None:
        values = to_dict(calibration.need_rig("this calibration"))
    else:
        values = {"cameras": to_dict(calibration.cameras)}
        if calibration.rig is not None:
            values["rectified"] = to_dict(calibration.rig)
    return {"calibration.json": json.dumps(values, indent=1, allow_nan=False) + "\n"}
