"""From measurements to findings. Every threshold is here.

Chosen on engine pairs with injected faults under one condition: no error on any real public pair, some of which are off
by up to 0.7 px (KITTI). ``tools/doctor_report.py`` measures both; docs/how-to/doctor.md shows the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from .findings import Finding, Severity
from .measure import ENOUGH_MATCHES, Disparities, Measurements
from .rows import RowFit

# px by which rows are off, at the image centre (offset) or at its edge (rotation, scale): notice, warning, error
OFFSET = (0.3, 0.9, 1.5)
EDGE = (1.0, 1.5, 2.0)
RELATED = 0.25  # share of matches that must follow one row fit
CHANCE = 0.6  # share that unrelated views do not reach
MANY_POINTS = 100
UNLIKE = 8.0  # gray levels, of views brought to a contrast of 50: what a wrong match leaves
TURNED = 12.0  # degrees
BLANK = 2.0  # gray levels
SAME = 0.25  # gray levels
STILL = 0.7  # share of matches that have not moved
GAIN = (1.10, 1.20)  # notice, warning
BLUR_DIFFERENCE = 0.7  # px
BLUR = 1.9  # px
NOISE = (4.0, 6.0)  # gray levels: notice, warning
CHANNELS = 0.7
BEYOND = (0.005, 0.2)  # share: warning, error
NEGATIVE = (0.01, 0.02, 0.3)  # share of matches: notice, warning, error
# Repeated patterns mislead matches, and reflections the network. Without the other's word, a share counts from here:
NEGATIVE_MATCHED_ALONE = 0.15
NEGATIVE_SEEN_ALONE = 0.1
BEYOND_ALONE = 0.1
NEGATIVE_SEEN = 0.06  # share of pixels below zero, by the network, if some matches agree: warning
AGREES = 0.004  # share by which one confirms the other
SWAPPED = 0.95  # share of negative disparities among those beyond 1 px


def judge(measured: Measurements) -> list[Finding]:
    """All findings on the images (for the calibration see :mod:`depthlight.infer.doctor.camera`), in no order."""
    found = list(_views(measured))
    if measured.difference is None:
        return [*_sizes(measured), *found]
    if any(finding.id == "blank" for finding in found):
        return found
    same = measured.difference <= SAME or _still(measured)
    if same:
        return [*found, _duplicate(measured)]
    return [*found, *_colours(measured), *_geometry(measured)]


def _finding(name: str, severity: Severity, value: float, unit: str, says: str, why: str, do: str) -> Finding:
    return Finding(name, severity, value, unit, says, why, do)


def _level(value: float, bounds: tuple[float, ...]) -> Severity | None:
    """Notice, warning and error bounds, as far as given from the left."""
    names: tuple[Severity, ...] = ("notice", "warning", "error")
    reached = [name for name, bound in zip(names, bounds, strict=False) if value >= bound]
    return reached[-1] if reached else None


def _sizes(measured: Measurements) -> Iterator[Finding]:
    left, right = measured.left, measured.right
    shape = (left.width / left.height) / (right.width / right.height)
    resized = abs(shape - 1) < 0.02
    yield _finding(
        "size-mismatch",
        "error",
        abs(left.width - right.width) + abs(left.height - right.height),
        "px",
        f"left is {left.width}×{left.height} and right {right.width}×{right.height} px",
        "rows of the two views cannot correspond, and no matcher takes such a pair",
        "resize the larger view to the smaller one's size, and the calibration with it"
        if resized
        else "give the two views of one shot, rectified and not cropped; nothing else was checked",
    )


def _views(measured: Measurements) -> Iterator[Finding]:
    """Contrast, sharpness and noise of each view."""
    views = {"left": measured.left, "right": measured.right}
    empty = [side for side, view in views.items() if view.contrast < BLANK]
    if empty:
        yield _finding(
            "blank",
            "error",
            min(view.contrast for view in views.values()),
            "gray levels",
            f"the {' and the '.join(empty)} view {'have' if len(empty) > 1 else 'has'} no content",
            "nothing can be matched in an empty image",
            "check lens cap, shutter, cable and file; take the picture again",
        )
        return
    sharpest = min(view.blur for view in views.values())
    if sharpest > BLUR:
        yield _finding(
            "blur",
            "warning",
            sharpest,
            "px",
            f"both views are soft: their sharper edges are blurred by σ = {sharpest:.1f} px",
            "matching cannot be finer than the image; thin things vanish",
            "focus, shorten the exposure, or reduce the images: no detail is lost then",
        )
    loud = max(view.noise for view in views.values())
    severity = _level(loud, NOISE)
    if severity:
        yield _finding(
            "noise",
            severity,
            loud,
            "gray levels",
            f"the noisier view has noise of σ = {loud:.0f} gray levels",
            "noise hides weak texture, and confidence falls there",
            "use more light or a longer exposure, or reduce the images to half their size",
        )


def _still(measured: Measurements) -> bool:
    seen = measured.disparities
    if seen is None or seen.count < ENOUGH_MATCHES:
        return False
    return seen.still > STILL and max(abs(seen.low), abs(seen.high)) < 1.5


def _duplicate(measured: Measurements) -> Finding:
    return _finding(
        "duplicate",
        "error",
        measured.difference or 0.0,
        "gray levels",
        "both views show the same picture: nothing moves between them",
        "without parallax there is no disparity and no depth",
        "give the two different views; if everything is that far away, use a longer baseline",
    )


def _colours(measured: Measurements) -> Iterator[Finding]:
    ratio = max(measured.gain, 1 / measured.gain)
    severity = _level(ratio, GAIN)
    if severity:
        brighter = "right" if measured.gain > 1 else "left"
        yield _finding(
            "exposure",
            severity,
            measured.gain,
            "right / left",
            f"the {brighter} view is {ratio:.2f} times as bright as the other",
            "networks bear some of it, classical matchers little, and what is clipped cannot be matched",
            "lock exposure and gain of both cameras to the same values",
        )
    apart = measured.right.blur - measured.left.blur
    if abs(apart) > BLUR_DIFFERENCE:
        yield _finding(
            "blur-difference",
            "warning",
            apart,
            "px",
            f"the {'right' if apart > 0 else 'left'} view is softer than the other, by about σ = {abs(apart):.1f} px",
            "detail that only one view shows cannot be matched",
            "focus both lenses alike; check for a finger mark, or for motion in one exposure",
        )
    if measured.channel_swap > CHANNELS:
        yield _finding(
            "channel-swap",
            "warning",
            measured.channel_swap,
            "share",
            "colours agree far better with red and blue exchanged in one view",
            "one file is BGR where RGB is expected, and colours mislead the matcher",
            "convert one view (cv2.cvtColor with COLOR_BGR2RGB) where it is read",
        )


def _geometry(measured: Measurements) -> Iterator[Finding]:
    if abs(measured.turn) > TURNED:
        yield _rotation("error", measured.turn)
        return
    rows = measured.rows
    if rows is None or rows.count < ENOUGH_MATCHES or rows.share < RELATED:
        yield from _without_matches(measured)
        return
    lines = list(_rows(measured, rows))
    yield from lines
    if any(finding.severity == "error" and finding.id != "vertical-offset" for finding in lines):
        measured = replace(measured, dense=None)  # a rolled or zoomed view has columns of its own
    signs = []
    if measured.disparities is not None and measured.disparities.count >= ENOUGH_MATCHES:
        signs = list(_signs(measured, measured.disparities))
        yield from signs
    if not any(finding.id == "swapped" for finding in signs):  # then the network answered the wrong question
        yield from _range(measured)


def _without_matches(measured: Measurements) -> Iterator[Finding]:
    matches, rows = measured.matches, measured.rows
    points = 0 if matches is None else min(matches.left_points, matches.right_points)
    followed = 0 if rows is None else rows.count
    unlike = measured.dense is None or measured.dense.unlike > UNLIKE
    by_chance = rows is None or rows.share < CHANCE
    if points >= MANY_POINTS and by_chance and unlike and not _exchange_fits(measured):
        yield _finding(
            "unrelated",
            "error",
            followed,
            "matches",
            f"of {points} points only {followed} agree on where the other view is",
            "the two files do not show the same scene, or not at the same time",
            "check that left and right belong to one shot",
        )
        return
    yield _finding(
        "few-matches",
        "warning",
        followed,
        "matches",
        f"only {followed} points could be matched, too few to check rows, order and range",
        "on blank surfaces disparity is a guess, and faults of the rig go unnoticed",
        "check the rig on a scene with texture; add light, texture or a pattern projector",
    )
    if _exchange_fits(measured):
        yield _swapped("warning", 0.0, "the exchanged pair explains itself far better than the pair as given")


def _exchange_fits(measured: Measurements) -> bool:
    """The network brings the exchanged views onto each other far better than the views as they are."""
    dense = measured.dense
    return (
        dense is not None
        and dense.unlike_exchanged is not None
        and dense.unlike > UNLIKE
        and dense.unlike_exchanged < 0.4 * dense.unlike
    )


def _rows(measured: Measurements, rows: RowFit) -> Iterator[Finding]:
    width, height = measured.left.width, measured.left.height
    roll, zoom = rows.by_column * width / 2, rows.by_row * height / 2
    trend = f"it changes by {2 * roll:+.1f} px across the width and {2 * zoom:+.1f} px across the height"
    severity = _level(abs(rows.offset), OFFSET)
    if severity:
        yield _finding(
            "vertical-offset",
            severity,
            rows.offset,
            "px",
            f"the right view is {abs(rows.offset):.1f} px too {'low' if rows.offset > 0 else 'high'}; {trend}",
            "matchers search along rows: beyond 1 px thin and horizontal structures go wrong, beyond 2 px most things",
            "rectify the pair (depthlight rectify) with a fresh calibration (depthlight calibrate)",
        )
    severity = _level(abs(roll), EDGE)
    if severity:
        yield _rotation(severity, math.degrees(math.atan(rows.by_column)), abs(roll))
    severity = _level(abs(zoom), EDGE)
    if severity:
        yield _finding(
            "scale",
            severity,
            100 * rows.by_row,
            "%",
            f"the right view is {100 * abs(rows.by_row):.1f} % {'larger' if zoom > 0 else 'smaller'}: "
            f"{abs(zoom):.1f} px at the upper and lower edge",
            "rows match in the middle only",
            "use the same focal length and size for both views, calibrate, and rectify (depthlight rectify)",
        )


def _rotation(severity: Severity, degrees: float, edge: float | None = None) -> Finding:
    reach = "" if edge is None else f": {edge:.1f} px at the left and right edge"
    return _finding(
        "rotation",
        severity,
        degrees,
        "degrees",
        f"the right view is rolled by {degrees:+.2f}° (clockwise is positive){reach}",
        "rows match in the middle only, and disparity gets a slope",
        "mount the cameras level, calibrate, and rectify (depthlight rectify)",
    )


def _signs(measured: Measurements, seen: Disparities) -> Iterator[Finding]:
    if seen.negative > NEGATIVE[1] and seen.negative > SWAPPED * (seen.negative + seen.positive):
        share = seen.negative / (seen.negative + seen.positive)
        yield _swapped("error", share, f"{100 * share:.0f} % of the matches that move, move to the wrong side")
        return
    share, severity = _negative(seen.negative, None if measured.dense is None else measured.dense.negative)
    if severity:
        reach = math.ceil(max(0.0, -seen.low)) + 2
        yield _finding(
            "negative-disparity",
            severity,
            share,
            "share",
            f"{100 * share:.1f} % have a negative disparity, matches down to {min(seen.low, 0.0):.1f} px",
            "unless told otherwise, matchers search from 0 upwards: everything farther than the plane of zero disparity"
            " is lost",
            f"search below 0 (--min-disp -{reach}, or --find-range), rectify for parallel views, or cut {reach} columns"
            " off the right view's left edge and the left view's right edge, and lower doffs by as much",
        )


def _negative(matched: float, network: float | None) -> tuple[float, Severity | None]:
    """The share below zero, from matches and network together, and how bad it is."""
    severity = _level(matched, NEGATIVE)
    if network is None:
        return matched, severity
    if matched < NEGATIVE_MATCHED_ALONE and network < 2 * AGREES:
        severity = None
    if severity in (None, "notice"):
        seen = network >= NEGATIVE_SEEN_ALONE or (network >= NEGATIVE_SEEN and matched >= AGREES)
        severity = "warning" if seen else severity
    return max(matched, network), severity


def _swapped(severity: Severity, share: float, says: str) -> Finding:
    return _finding(
        "swapped",
        severity,
        share,
        "share",
        says,
        "left and right are exchanged, or the views converge in front of the scene: all disparities are negative",
        "exchange the two files",
    )


def _range(measured: Measurements) -> Iterator[Finding]:
    seen, dense = measured.disparities, measured.dense
    matched = 0.0 if seen is None else seen.beyond
    share = matched if dense is None else dense.beyond  # matches crowd where texture is; the network counts pixels
    if share < BEYOND[0] and (share >= AGREES or matched >= BEYOND_ALONE):
        share = matched
    if share < BEYOND[0]:
        return
    confirmed = matched >= BEYOND[0]  # the network sees things in glare
    reduced = max(0.0 if seen is None else seen.high, measured.max_disp * 1.1)
    yield _finding(
        "range-saturation",
        "error" if share >= BEYOND[1] and confirmed else "warning",
        share,
        "share",
        f"{100 * share:.1f} % of the picture is nearer than the range of {measured.max_disp} px reaches",
        "what is beyond the range gets a wrong disparity, not a missing one",
        f"use a larger --max-disp, or images of {100 * measured.max_disp / reduced:.0f} % the size",
    )
