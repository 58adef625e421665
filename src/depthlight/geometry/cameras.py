"""Raw cameras, as they come from a calibration and before any rectification.

Camera axes: x right, y down, z forward. Pixel centres have whole coordinates. A point ``X`` in the left camera's axes
is ``R X + T`` in the right camera's, in metres: the usual pair has ``T`` near ``(-baseline, 0, 0)``.

Letters in names: N points.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from .rig import is_finite, resized_intrinsics

Floats: TypeAlias = NDArray[np.float64]
Vector: TypeAlias = tuple[float, float, float]
Matrix: TypeAlias = tuple[Vector, Vector, Vector]

MODELS = ("pinhole", "fisheye")
COEFFICIENTS = {"pinhole": (0, 4, 5, 8, 12, 14), "fisheye": (0, 4)}
IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_NEWTON_STEPS = 30
_STEP = 1e-7  # of the numerical derivative, in units of the focal length
_CONVERGED = 1e-8  # px


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One lens: ``fx fy cx cy`` in px at a stated image size, and its distortion.

    ``model`` is ``pinhole`` (Brown–Conrady: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1–s4 [τx τy]]]], OpenCV's order; eight and more
    are the rational model) or ``fisheye`` (equidistant, Kannala–Brandt: k1–k4). No coefficients: no distortion.

    Raises:
        InputError: a number no camera has, or a number of coefficients the model does not know.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    model: str = "pinhole"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise InputError(f"camera model {self.model!r} is not known", expected="one of " + ", ".join(MODELS))
        for field in fields(self)[:6]:
            value = getattr(self, field.name)
            if not is_finite(value):
                raise InputError(f"camera: {field.name} is {str(value)[:40]}", expected="a finite number")
            if field.name not in ("cx", "cy") and value <= 0:
                raise InputError(f"camera: {field.name} is {value}", expected="a positive number")
        if not all(is_finite(k) for k in self.distortion):
            raise InputError("camera: a distortion coefficient is not finite", expected="finite numbers")
        if len(self.distortion) not in COEFFICIENTS[self.model]:
            raise InputError(
                f"camera: {len(self.distortion)} distortion coefficients",
                expected=f"{' or '.join(map(str, COEFFICIENTS[self.model]))} for the {self.model} model",
            )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), px."""
        return self.width, self.height

    @property
    def is_distorted(self) -> bool:
        """Whether straight lines may come out bent."""
        return self.model == "fisheye" or any(self.distortion)

    def matrix(self) -> Floats:
        """K, (3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    def coefficients(self) -> Floats:
        """Distortion as OpenCV takes it: at least four numbers."""
        return np.array(self.distortion or (0.0,) * 4, np.float64)

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same images scaled to another size; the distortion does not change.

        Raises:
            InputError: the two sizes do not have the same shape (to 1 %).
        """
        return resized_intrinsics(self, width, height)

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The camera of the part that begins at column ``x`` and row ``y``; it may reach beyond the image (padding)."""
        return replace(self, cx=self.cx - x, cy=self.cy - y, width=width, height=height)

    def project(self, points_N3: Floats) -> Floats:
        """Points in this camera's axes to px (N, 2). Points that are not in front of it come out as NaN."""
        points_N3 = np.asarray(points_N3, np.float64).reshape(-1, 3)
        pixels_N2 = np.full((len(points_N3), 2), np.nan)
        front = points_N3[:, 2] > 0
        if front.any():
            pixels_N2[front] = self._distorted(points_N3[front, :2] / points_N3[front, 2:])
        return pixels_N2

    def _distorted(self, rays_N2: Floats) -> Floats:
        bend = _fisheye if self.model == "fisheye" else _brown_conrady
        bent_N2 = bend(rays_N2, self.coefficients()) if self.is_distorted else rays_N2
        return np.asarray(bent_N2 * [self.fx, self.fy] + [self.cx, self.cy], np.float64)

    def rays(self, pixels_N2: Floats) -> Floats:
        """Px to ``(x/z, y/z)`` (N, 2) of their rays: the inverse of :meth:`project` to 1e-8 px.

        Newton's method on the forward model, as OpenCV's own inverse stops after a few steps. A pixel that no ray
        within 89° of the axis meets comes out as NaN.
        """
        target_N2 = np.asarray(pixels_N2, np.float64).reshape(-1, 2)
        flat_N2: Floats = (target_N2 - [self.cx, self.cy]) / [self.fx, self.fy]
        if not self.is_distorted:
            return flat_N2
        rays_N2 = self._first_guess(flat_N2)
        for _ in range(_NEWTON_STEPS):
            seen_N2 = self._distorted(rays_N2)
            missed_N = np.abs(seen_N2 - target_N2).max(axis=1) > _CONVERGED
            if not missed_N.any():
                break
            rays_N2 = rays_N2 - self._newton_step(rays_N2, seen_N2, target_N2)
        else:
            missed_N = np.abs(self._distorted(rays_N2) - target_N2).max(axis=1) > _CONVERGED
        rays_N2[missed_N | (np.abs(rays_N2) > 57).any(axis=1)] = np.nan  # 57: the tangent of 89°
        return rays_N2

    def _first_guess(self, flat_N2: Floats) -> Floats:
        if self.model == "pinhole":
            return flat_N2.copy()
        radius = np.linalg.norm(flat_N2, axis=1)  # θ + k1 θ³ + …; the angle itself first
        angle = np.minimum(radius, 1.4)
        return np.asarray(flat_N2 * (np.tan(angle) / np.maximum(radius, 1e-12))[:, None], np.float64)

    def _newton_step(self, rays_N2: Floats, seen_N2: Floats, target_N2: Floats) -> Floats:
        """J⁻¹ · error per point, J by differences; steps longer than 0.2 of the ray are cut."""
        step_N = _STEP * (1 + np.abs(rays_N2).max(axis=1))
        (a, c), (b, d) = (
            ((self._distorted(rays_N2 + step_N[:, None] * axis) - seen_N2) / step_N[:, None]).T for axis in np.eye(2)
        )
        determinant = a * d - b * c
        determinant = np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)
        x, y = (seen_N2 - target_N2).T
        move_N2 = np.column_stack([d * x - b * y, a * y - c * x]) / determinant[:, None]
        length = np.linalg.norm(move_N2, axis=1, keepdims=True)
        most = 0.2 * (1 + np.linalg.norm(rays_N2, axis=1, keepdims=True))
        return np.asarray(move_N2 * np.minimum(1, most / np.maximum(length, 1e-300)), np.float64)


def _fisheye(rays_N2: Floats, k: Floats) -> Floats:
    """Kannala & Brandt 2006, as OpenCV has it: the radius is θ(1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸), θ the angle."""
    radius = np.linalg.norm(rays_N2, axis=1)
    angle = np.arctan(radius)
    square = angle * angle
    bent = angle * (1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3]))))
    scale = np.where(radius > 1e-12, bent / np.maximum(radius, 1e-12), 1.0)
    return np.asarray(rays_N2 * scale[:, None], np.float64)


def _brown_conrady(rays_N2: Floats, coefficients: Floats) -> Floats:
    """OpenCV's model: radial (rational), tangential, thin prism, tilted sensor; absent coefficients are 0."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tilt_x, tilt_y = np.pad(coefficients, (0, 14 - len(coefficients)))
    x, y = rays_N2.T
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    if k4 or k5 or k6:
        radial = radial / (1 + square * (k4 + square * (k5 + square * k6)))
    xy2 = 2 * x * y
    bent_x = x * radial + p1 * xy2 + p2 * (square + 2 * x * x) + square * (s1 + square * s2)
    bent_y = y * radial + p1 * (square + 2 * y * y) + p2 * xy2 + square * (s3 + square * s4)
    if tilt_x or tilt_y:
        turn = cv2.Rodrigues(np.array([0, tilt_y, 0]))[0].T @ cv2.Rodrigues(np.array([tilt_x, 0, 0]))[0].T
        level = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
        moved = np.column_stack([bent_x, bent_y, np.ones(len(x))]) @ (level @ turn).T
        return np.asarray(moved[:, :2] / moved[:, 2:], np.float64)
    return np.column_stack([bent_x, bent_y])


@dataclass(frozen=True, kw_only=True)
class StereoCameras:
    """Two raw cameras and where the right one stands: ``X_right = R X_left + T``, ``T`` in metres.

    Raises:
        InputError: ``R`` is not a rotation (to 1e-3), ``T`` is zero or not finite.
    """

    left: Camera
    right: Camera
    R: Matrix = IDENTITY
    T: Vector

    def __post_init__(self) -> None:
        rotation, translation = np.array(self.R, np.float64), np.array(self.T, np.float64)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise InputError("stereo cameras: R or T has the wrong shape", expected="R of 3×3 and T of 3 numbers")
        if not np.isfinite(rotation).all() or not np.isfinite(translation).all():
            raise InputError("stereo cameras: R or T is not finite", expected="finite numbers")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise InputError("stereo cameras: R is not a rotation", expected="R·Rᵀ = 1 and a determinant of 1")
        if not np.abs(translation).any():
            raise InputError("stereo cameras: T is zero", expected="two cameras at two places")

    @property
    def baseline(self) -> float:
        """Distance of the two cameras, metres."""
        return float(np.linalg.norm(self.T))

    def rotation(self) -> Floats:
        """R, (3, 3) float64, the nearest exact rotation to the stored digits."""
        u, _, vt = np.linalg.svd(np.array(self.R, np.float64))
        return np.asarray(u @ vt, np.float64)

    def translation(self) -> Floats:
        """T, (3,) float64, metres."""
        return np.array(self.T, np.float64)

    def resized(self, width: int, height: int) -> StereoCameras:
        """The same rig for images scaled to another size (InputError for another shape)."""
        return replace(self, left=self.left.resized(width, height), right=self.right.resized(width, height))

    def cropped(self, x: int, y: int, width: int, height: int) -> StereoCameras:
        """The same rig for the same part of both images."""
        return replace(self, left=self.left.cropped(x, y, width, height), right=self.right.cropped(x, y, width, height))


def to_matrix(values: Any) -> Matrix:
    """Nine numbers, in any shape, as a :data:`Matrix`."""
    a, b, c, d, e, f, g, h, i = (float(value) for value in np.asarray(values, np.float64).ravel())
    return ((a, b, c), (d, e, f), (g, h, i))


def to_vector(values: Any) -> Vector:
    """Three numbers as a :data:`Vector`."""
    x, y, z = (float(value) for value in np.asarray(values, np.float64).ravel())
    return (x, y, z)
