"""The doctor: what is wrong with a pair, before anybody trusts its depth."""

from __future__ import annotations

import os
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...geometry.rig import StereoRig
from ...io.images import ImageSource, as_image
from ..load import load
from ..prediction import StereoMatcher
from .camera import judge_rig
from .findings import SEVERITIES, Diagnosis, Finding
from .measure import measure
from .rules import judge

RANGE = 192  # px
GLANCE_SIDE = 480  # px


@cache
def _bundled() -> StereoMatcher:
    return load()


def diagnose(
    left: ImageSource,
    right: ImageSource,
    rig: StereoRig | str | os.PathLike[str] | None = None,
    *,
    max_disp: int = RANGE,
) -> Diagnosis:
    """Look for the usual faults of a stereo pair and its calibration; needs no torch.

    Sparse matches, made without any assumption about rows, tell order, rows, roll, scale and exposure; the bundled
    network at half size tells what is beyond the range. Takes about a second per megapixel.

    Args:
        left, right: path, PIL image or array, see :func:`depthlight.io.images.as_image`; sizes may differ (a finding).
        rig: calibration of the rectified pair, or its file; adds the findings about K and baseline. A file is read
            without the checks that would refuse it: they become findings.
        max_disp: px, the range that will be searched.

    Raises:
        InputError: an image cannot be read.
        FileFormatError: the calibration cannot be read.
    """
    left_HW3, right_HW3 = as_image(left, name="left"), as_image(right, name="right")
    if rig is not None and not isinstance(rig, StereoRig):
        rig = read_rig(rig, (left_HW3.shape[1], left_HW3.shape[0]))
    measured = measure(left_HW3, right_HW3, _bundled(), max_disp)
    found = judge(measured)
    if rig is not None:
        found += judge_rig(rig, measured)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis(tuple(found), measured)


def glance(left_HW3: NDArray[np.uint8], right_HW3: NDArray[np.uint8], max_disp: int = RANGE) -> Finding | None:
    """The first error that a tenth of the work shows, for hints: matches on small images, no network."""
    measured = measure(left_HW3, right_HW3, None, max_disp, side=GLANCE_SIDE)
    return next((finding for finding in judge(measured) if finding.severity == "error"), None)


def read_rig(
    path: str | os.PathLike[str], size: tuple[int, int], *, format: str | None = None, unit: str | None = None
) -> StereoRig:
    """The calibration of a rectified pair of ``size`` (width, height), however implausible its numbers are.

    ``format`` and ``unit`` as in :func:`depthlight.geometry.calibration.read_calibration`.
    """
    from ...geometry.calibration import read_calibration

    return read_calibration(path, size=size, format=format, unit=unit, check=False).need_rig(path)
