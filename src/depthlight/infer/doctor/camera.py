"""Whether a calibration can belong to a pair: image size, focal length, principal point, baseline, depths."""

from __future__ import annotations

from collections.abc import Iterator

from ...geometry.calibration.plausible import OFF_CENTRE, baseline_problem, intrinsics_problem, off_centre
from ...geometry.rig import StereoRig
from .findings import Finding
from .measure import Disparities, Measurements

NOTHING = 1.0  # px of disparity
DEPTHS = (0.02, 3000.0)  # metres, of the median match


def judge_rig(rig: StereoRig, measured: Measurements) -> Iterator[Finding]:
    """Findings on the calibration of a pair, rectified."""
    yield from _size(rig, measured)
    yield from _intrinsics(rig)
    problem = baseline_problem(rig.baseline)
    if problem:
        yield Finding(
            "baseline-unit",
            "error",
            rig.baseline,
            "m",
            problem,
            "all depths scale with the baseline; millimetres taken for metres make them 1000 times too large",
            "state the unit where the calibration is read (--unit mm or --unit m), or correct the file",
        )
    elif measured.disparities is not None:
        yield from _depths(rig, measured.disparities, measured.left.width)


def _size(rig: StereoRig, measured: Measurements) -> Iterator[Finding]:
    width, height = measured.left.width, measured.left.height
    if (rig.width, rig.height) == (width, height):
        return
    stretch = (width / rig.width) / (height / rig.height)
    same_shape = abs(stretch - 1) <= 0.01
    yield Finding(
        "calibration-size",
        "notice" if same_shape else "error",
        width / rig.width,
        "image / calibration",
        f"the calibration is for {rig.width}×{rig.height} px and the pair is {width}×{height}",
        "K is in px of one image size"
        + (
            "; it is rescaled for you" if same_shape else "; a crop moves the principal point in a way nobody can guess"
        ),
        "nothing, if the images were resized as a whole"
        if same_shape
        else "give the calibration of these images, or crop it as the images were",
    )


def _intrinsics(rig: StereoRig) -> Iterator[Finding]:
    problem = intrinsics_problem(rig)
    aside = off_centre(rig)
    if not problem and aside <= OFF_CENTRE:
        return
    yield Finding(
        "intrinsics",
        "error" if problem or aside > 0.5 else "warning",
        aside,
        "image sides",
        problem
        or f"the principal point ({rig.cx:.0f}, {rig.cy:.0f}) is far from the middle of {rig.width}×{rig.height} px",
        "K looks like this when the images were resized or cropped after the calibration; depth is wrong by that",
        "scale fx, fy, cx and cy with the images, or give the size for which K is",
    )


def _depths(rig: StereoRig, seen: Disparities, width: int) -> Iterator[Finding]:
    factor = width / rig.width
    total = seen.median + rig.doffs * factor
    if abs(total) <= NOTHING:
        return  # a scene so far away says nothing about its calibration
    depth = rig.fx * factor * rig.baseline / total
    if DEPTHS[0] <= depth <= DEPTHS[1]:
        return
    yield Finding(
        "depth",
        "warning",
        depth,
        "m",
        f"the median match would be {depth:.3g} m away"
        if total > 0
        else "half of the matches would be behind the camera",
        "focal length, baseline or doffs do not go with this pair",
        "check the unit of the baseline, the image size of K and the sign of doffs (cx_right - cx_left)",
    )
