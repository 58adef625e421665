"""A rectified stereo rig: what turns disparity into metres."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import InputError

if TYPE_CHECKING:
    from .cameras import Camera, StereoCameras

POSITIVE = ("fx", "fy", "baseline", "width", "height")

AnyCamera = TypeVar("AnyCamera", "Camera", "StereoRig")


def is_finite(value: Any) -> bool:
    """Whether ``value`` is a finite number; never raises."""
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError):  # an integer beyond all floats; not a number at all
        return False


def resized_intrinsics(camera: AnyCamera, width: int, height: int) -> AnyCamera:
    """The camera, or rig, of the same images at another size; pixel centres are at whole coordinates.

    Raises:
        InputError: the two sizes do not have the same shape (to 1 %).
    """
    if (width, height) == (camera.width, camera.height):
        return camera
    sx, sy = width / camera.width, height / camera.height
    if min(sx, sy) <= 0 or abs(sx / sy - 1) > 0.01:
        known, given = ("rig", "pair") if isinstance(camera, StereoRig) else ("camera", "image")
        raise InputError(
            f"the {known} is for {camera.width}x{camera.height} images and the {given} is {width}x{height}",
            expected="the same shape",
            hint="Give the calibration of these images; a crop needs its own principal point",
        )
    return replace(
        camera,
        fx=camera.fx * sx,
        fy=camera.fy * sy,
        cx=(camera.cx + 0.5) * sx - 0.5,
        cy=(camera.cy + 0.5) * sy - 0.5,
        width=width,
        height=height,
    )


@dataclass(frozen=True, kw_only=True)
class StereoRig:
    """Intrinsics of a rectified pair at a stated image size.

    ``fx fy cx cy`` are px of the left camera, ``baseline`` is metres, ``doffs = cx_right - cx_left`` px.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    baseline: float
    width: int
    height: int
    doffs: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not is_finite(value):
                raise InputError(f"stereo rig: {field.name} is {str(value)[:40]}", expected="a finite number")
            if field.name in POSITIVE and value <= 0:
                raise InputError(f"stereo rig: {field.name} is {value}", expected="a positive number")

    def resized(self, width: int, height: int) -> StereoRig:
        """The rig of the same pair at another size.

        Pixel centres are at whole coordinates, so the principal point moves by half a pixel's change too.

        Raises:
            InputError: the two sizes do not have the same shape (to 1 %).
        """
        return replace(resized_intrinsics(self, width, height), doffs=self.doffs * width / self.width)

    def cropped(self, x: int, y: int, width: int, height: int, *, x_right: int | None = None) -> StereoRig:
        """The rig of the part of both images that begins at column ``x`` and row ``y``.

        ``x_right``: the first column in the right image, where it is another one; ``doffs`` takes up the difference,
        and disparities become smaller by ``x - x_right``. The part may reach beyond the image (padding).
        """
        moved = 0 if x_right is None else x - x_right
        return replace(self, cx=self.cx - x, cy=self.cy - y, doffs=self.doffs + moved, width=width, height=height)

    def cameras(self) -> StereoCameras:
        """The same rig as two cameras without distortion, side by side."""
        from .cameras import Camera, StereoCameras

        left = Camera(fx=self.fx, fy=self.fy, cx=self.cx, cy=self.cy, width=self.width, height=self.height)
        right = replace(left, cx=self.cx + self.doffs)
        return StereoCameras(left=left, right=right, T=(-self.baseline, 0.0, 0.0))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int] | None = None,
        format: str | None = None,
        unit: str | None = None,
    ) -> StereoRig:
        """Read the calibration of a rectified pair in any format of :mod:`depthlight.geometry.calibration`.

        Args:
            path: file, or a folder with ``left.yaml`` and ``right.yaml`` (ROS).
            size: (width, height) of the images, for formats that do not state it (KITTI's P2/P3, K.txt).
            format: one of :data:`depthlight.geometry.calibration.FORMATS`; by default the content tells.
            unit: ``"mm"`` or ``"m"``, of the lengths in the file; by default what the format states.

        Raises:
            FileFormatError: missing, not a regular file, not UTF-8, a key is absent or not a number, no known format.
            InputError: a number that no camera has, an implausible focal length or baseline, a unit or size that must
                be given, or the file holds only cameras that are not rectified.
            LimitError: larger than 1 MiB.
        """
        from .calibration import read_calibration

        # a lens model, which some files do not state, is the raw cameras' and does not matter here
        return read_calibration(path, size=size, format=format, unit=unit, lens="pinhole").need_rig(path)
