"""Whether numbers can be a camera's: most "wrong model" reports are a K of another image size, or millimetres."""

from __future__ import annotations

from ...core.errors import InputError
from ..cameras import Camera, StereoCameras
from ..rig import StereoRig
from .types import Calibration

FOCAL = (0.2, 10.0)  # fx / width: 136° to 6° across
ASPECT = 2.0  # fx / fy, or the reverse
CENTRE = 0.5  # how far outside the image the principal point may lie, in image sides
OFF_CENTRE = 0.2  # of the image's side: a principal point farther from the middle is rare
BASELINE = (0.002, 3.0)  # metres


def intrinsics_problem(camera: Camera | StereoRig) -> str:
    """Why focal length and principal point cannot belong to the stated image size, in words; empty if they can."""
    width, height = camera.width, camera.height
    share = camera.fx / width
    if not FOCAL[0] <= share <= FOCAL[1]:
        return f"fx is {camera.fx:g} px and the image {width} px wide ({share:.3g} of it)"
    if not 1 / ASPECT <= camera.fx / camera.fy <= ASPECT:
        return f"fx is {camera.fx:g} px and fy {camera.fy:g} px"
    for name, centre, side in (("cx", camera.cx, width), ("cy", camera.cy, height)):
        if not -CENTRE * side <= centre <= (1 + CENTRE) * side:
            return f"{name} is {centre:g} px and the image {width}x{height}"
    return ""


def baseline_problem(baseline: float) -> str:
    """Why a baseline (metres) looks like another unit, in words; empty if it does not."""
    if BASELINE[0] <= baseline <= BASELINE[1]:
        return ""
    return f"the baseline would be {baseline:g} m"


def off_centre(camera: Camera | StereoRig) -> float:
    """How far the principal point is from the middle of the image, in image sides (the larger of x and y)."""
    return max(abs((camera.cx + 0.5) / camera.width - 0.5), abs((camera.cy + 0.5) / camera.height - 0.5))


def doubt(rig: StereoRig) -> str:
    """What is possible and rare, and mostly a mistake, in words; empty if there is nothing."""
    if off_centre(rig) > OFF_CENTRE:
        where = f"({rig.cx:.0f}, {rig.cy:.0f})"
        return f"the principal point {where} is far from the middle of {rig.width}x{rig.height} px: K of another size?"
    problem = baseline_problem(rig.baseline)  # only if the unit was stated; otherwise it is an error
    return f"{problem}: is the unit right?" if problem else ""


def check(calibration: Calibration, where: object, *, unit_given: bool) -> None:
    """Refuse what no camera has.

    Raises:
        InputError: see :func:`intrinsics_problem`; and :func:`baseline_problem`, unless the user stated the unit.
    """
    raw: StereoCameras | None = calibration.cameras
    parts: list[Camera | StereoRig] = [] if raw is None else [raw.left, raw.right]
    parts += [] if calibration.rig is None else [calibration.rig]
    for part in parts:
        problem = intrinsics_problem(part)
        if problem:
            raise InputError(
                f"{where}: {problem}",
                expected="K in px of the images the file states",
                hint="Was the image resized or cropped after the calibration?",
            )
    for owner in (raw, calibration.rig):
        problem = "" if owner is None or unit_given else baseline_problem(owner.baseline)
        if problem:
            raise InputError(
                f"{where}: {problem}",
                expected=f"{BASELINE[0]:g} to {BASELINE[1]:g} m",
                hint="State the unit with --unit mm or --unit m",
            )
