"""Raw pairs to rectified ones: rows of the two images correspond, and disparity is along x.

Both views are turned by half of the rotation between them, then together so that x runs along the baseline (Bouguet's
method, as in J.-Y. Bouguet's calibration toolbox). The same code serves pinhole and fisheye lenses: all it needs of a
lens is where a ray lands.

Letters in names: H height, W width, C channels, N points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from .cameras import Camera, Floats, StereoCameras
from .rig import StereoRig

_EDGE_POINTS = 40  # sampled along each side of an image
_RIM = 0.05  # px beyond the centre of the last pixel that still count as inside
MAX_FIELD = 120.0  # degrees across: beyond it, a flat picture is mostly stretched border

Rectangle = tuple[int, int, int, int]  # x, y, width, height


def rectifying_rotations(cameras: StereoCameras) -> tuple[Floats, Floats]:
    """The two rotations (3, 3) that turn the left and the right camera's axes into the rectified ones.

    Raises:
        InputError: the right camera stands left of, above, below or in front of the left one.
    """
    half = cv2.Rodrigues(cameras.rotation())[0] / 2
    left, right = cv2.Rodrigues(half)[0], cv2.Rodrigues(-half)[0]
    towards = -(right @ cameras.translation())  # from the left camera to the right one, in the common axes
    if towards[0] <= 0 or abs(towards[0]) < np.linalg.norm(towards[1:]):
        x, y, z = towards
        raise InputError(
            f"the right camera stands at ({x:.3g}, {y:.3g}, {z:.3g}) m of the left one (right, down, forward)",
            expected="a camera mostly to the right",
            hint="Swap the two cameras if x is negative; turn both images if they stand one above the other",
        )
    x_axis = towards / np.linalg.norm(towards)
    y_axis = np.cross([0.0, 0.0, 1.0], x_axis)
    y_axis /= np.linalg.norm(y_axis)
    turn = np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)])
    return np.asarray(turn @ left, np.float64), np.asarray(turn @ right, np.float64)


@dataclass(frozen=True)
class RectifiedView:
    """One camera's way from rectified pixels to raw ones.

    ``rotation``: raw axes to rectified axes; ``matrix``: K of the rectified view (3, 3), at ``size`` (width, height).
    """

    camera: Camera
    rotation: Floats
    matrix: Floats
    size: tuple[int, int]

    def points(self, pixels_N2: Floats) -> Floats:
        """Raw px to rectified px (N, 2); NaN where a pixel's ray does not meet the rectified plane."""
        return _project(self.matrix, _turned(self.camera.rays(pixels_N2), self.rotation))

    @cached_property
    def maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For each rectified pixel the raw column and row (H, W) float32, as ``cv2.remap`` takes them."""
        width, height = self.size
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        rays = np.stack([columns.ravel(), rows.ravel(), np.ones(width * height)])
        directions = (np.linalg.inv(self.matrix) @ rays).T @ self.rotation  # rotationᵀ, for rows
        pixels = self.camera.project(directions)
        raw = np.where(np.isfinite(pixels), pixels, -1e6).astype(np.float32).reshape(height, width, 2)
        return np.ascontiguousarray(raw[..., 0]), np.ascontiguousarray(raw[..., 1])

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool: the pixel shows what the raw image has.

        A strong lens polynomial folds back far outside the image: only the largest piece counts, and only where the map
        keeps its orientation.
        """
        columns, rows = self.maps
        known = (columns >= -_RIM) & (columns <= self.camera.width - 1 + _RIM)
        known &= (rows >= -_RIM) & (rows <= self.camera.height - 1 + _RIM)
        (dx_dy, dx_dx), (dy_dy, dy_dx) = np.gradient(columns), np.gradient(rows)
        known &= dx_dx * dy_dy - dx_dy * dy_dx > 0
        count, labels = cv2.connectedComponents(known.astype(np.uint8), connectivity=4)
        if count <= 2:
            return np.asarray(known)
        sizes = np.bincount(labels.ravel(), minlength=count)
        sizes[0] = 0
        return np.asarray(labels == int(sizes.argmax()))

    def remap(self, image: NDArray[Any]) -> NDArray[Any]:
        """The rectified image: of the raw image's type and channels, bicubic; black outside ``mask``.

        Raises:
            InputError: the image is not of the camera's size.
        """
        height, width = image.shape[:2]
        if (width, height) != self.camera.size:
            raise InputError(
                f"the image is {width}x{height} and the calibration for {self.camera.width}x{self.camera.height}",
                expected="images as they were calibrated",
                hint="Resized images: StereoCameras.resized; the command line does it for equal shapes",
            )
        columns, rows = self.maps
        made = cv2.remap(np.ascontiguousarray(image), columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        made[~self.mask] = 0
        return np.asarray(made)


@dataclass(frozen=True)
class Rectification:
    """Both views' maps and the rig of the rectified pair. Made by :func:`rectification`."""

    left: RectifiedView
    right: RectifiedView
    rig: StereoRig

    @cached_property
    def rectangle(self) -> Rectangle:
        """(x, y, width, height) of the largest part whose pixels both views know."""
        return largest_rectangle(self.left.mask & self.right.mask)

    def __call__(self, left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rectify a pair of raw images: (H, W) or (H, W, C), 8 or 16 bits, kept as they are."""
        return self.left.remap(left), self.right.remap(right)

    def vertical_error(self, left_N2: Floats, right_N2: Floats) -> Floats:
        """Difference in rows (N,), px, of matching raw points after rectification (right − left)."""
        return np.asarray(self.right.points(right_N2)[:, 1] - self.left.points(left_N2)[:, 1], np.float64)


def rectification(
    cameras: StereoCameras,
    *,
    alpha: float = 0.0,
    size: tuple[int, int] | None = None,
    shift: int = 0,
    max_field: float = MAX_FIELD,
) -> Rectification:
    """Choose the rectified pair of a rig.

    Args:
        cameras: the raw rig.
        alpha: 0 zooms in until every pixel of both views is known; 1 keeps every pixel of the raw images, with black
            borders; values between are between.
        size: (width, height) of the rectified images, by default the raw size.
        shift: the right view is moved by so many px (``doffs``), which makes all disparities that much smaller: for
            near scenes whose disparities are beyond a matcher's range. Far things then get negative disparities.
        max_field: largest field of view across the result, degrees below 180 (fisheye lenses see more than a flat image
            can hold).

    Raises:
        InputError: ``alpha`` or ``max_field`` out of range, a rig not side by side, views that share nothing.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}", expected="0 (no black borders) to 1 (all pixels kept)")
    if not 1 <= max_field < 180:
        raise InputError(f"the field of view is {max_field}", expected="1 to 179 degrees")
    width, height = size or cameras.left.size
    rotations = rectifying_rotations(cameras)
    pair = (cameras.left, cameras.right)
    limit = float(np.tan(np.radians(max_field / 2)))
    fields = [_fields(camera, rotation, limit) for camera, rotation in zip(pair, rotations, strict=True)]
    inner, outer = (np.array([one[kind] for one in fields]) for kind in (0, 1))
    inside = np.concatenate([inner[:, :2].max(axis=0), inner[:, 2:].min(axis=0)])  # what both views know
    around = np.concatenate([outer[:, :2].min(axis=0), outer[:, 2:].max(axis=0)])  # what one of them knows
    if (inside[2:] <= inside[:2]).any():
        raise InputError(
            "the two views share no rectangle of the scene",
            expected="cameras that look the same way",
            hint="Check R and T: they take points from the left camera's axes to the right one's",
        )
    zoomed, whole = _matrix(inside, width, height, max), _matrix(around, width, height, min)
    matrix = (1 - alpha) * zoomed + alpha * whole
    moved = matrix.copy()
    moved[0, 2] += shift
    views = [
        RectifiedView(camera, rotation, k, (width, height))
        for camera, rotation, k in zip(pair, rotations, (matrix, moved), strict=True)
    ]
    rig = StereoRig(
        fx=float(matrix[0, 0]),
        fy=float(matrix[1, 1]),
        cx=float(matrix[0, 2]),
        cy=float(matrix[1, 2]),
        baseline=cameras.baseline,
        doffs=float(shift),
        width=width,
        height=height,
    )
    return Rectification(views[0], views[1], rig)


def _turned(rays_N2: Floats, rotation: Floats) -> Floats:
    """``(x/z, y/z)`` after a rotation; NaN behind the plane."""
    turned = np.column_stack([rays_N2, np.ones(len(rays_N2))]) @ rotation.T
    z = np.where(turned[:, 2:] > 1e-9, turned[:, 2:], np.nan)
    return np.asarray(turned[:, :2] / z, np.float64)


def _project(matrix: Floats, rays_N2: Floats) -> Floats:
    return np.asarray(rays_N2 * [matrix[0, 0], matrix[1, 1]] + [matrix[0, 2], matrix[1, 2]], np.float64)


def _fields(camera: Camera, rotation: Floats, limit: float) -> tuple[Floats, Floats]:
    """(x0, y0, x1, y1) in rectified rays: a rectangle inside the image's outline, and one around it."""
    outline = _outline(camera, rotation)
    edges = [
        np.where(np.isfinite(edge), edge, sign * limit) for edge, sign in zip(outline, (-1, -1, 1, 1), strict=True)
    ]
    left, top, right, bottom = edges
    inner = np.array([left[:, 0].max(), top[:, 1].max(), right[:, 0].min(), bottom[:, 1].min()])
    around = np.array([left[:, 0].min(), top[:, 1].min(), right[:, 0].max(), bottom[:, 1].max()])
    rows = np.concatenate([left[:, 1], right[:, 1]])
    columns = np.concatenate([top[:, 0], bottom[:, 0]])
    around = np.array([min(around[0], columns.min()), min(around[1], rows.min()),
                       max(around[2], columns.max()), max(around[3], rows.max())])  # fmt: skip
    return np.clip(inner, -limit, limit), np.clip(around, -limit, limit)


def _outline(camera: Camera, rotation: Floats) -> list[Floats]:
    """The image's left, top, right and bottom side as rectified rays."""
    x = np.linspace(0, camera.width - 1, _EDGE_POINTS)
    y = np.linspace(0, camera.height - 1, _EDGE_POINTS)
    sides = (
        np.column_stack([np.zeros_like(y), y]),
        np.column_stack([x, np.zeros_like(x)]),
        np.column_stack([np.full_like(y, camera.width - 1), y]),
        np.column_stack([x, np.full_like(x, camera.height - 1)]),
    )
    rays = _turned(camera.rays(np.concatenate(sides)), rotation)
    return np.split(rays, 4)


def _matrix(bounds: Floats, width: int, height: int, choose: Any) -> Floats:
    """K with square pixels and ``bounds`` in the middle: filled by it (``max``) or holding all of it (``min``)."""
    x0, y0, x1, y1 = bounds
    focal = choose((width - 1) / (x1 - x0), (height - 1) / (y1 - y0))
    cx = (width - 1) / 2 - focal * (x0 + x1) / 2
    cy = (height - 1) / 2 - focal * (y0 + y1) / 2
    return np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]], np.float64)


def largest_rectangle(mask_HW: NDArray[np.bool_], step: int = 4) -> Rectangle:
    """(x, y, width, height) of the largest rectangle of true pixels, on a grid of ``step`` px; zeros if there is none.

    Heights of columns, row by row, with a stack (the usual algorithm for the largest rectangle below a skyline).
    """
    height, width = mask_HW.shape
    if mask_HW.all():
        return 0, 0, width, height
    cells = mask_HW[: height // step * step, : width // step * step]
    grid = cells.reshape(height // step, step, width // step, step).all(axis=(1, 3))
    heights = np.zeros(grid.shape[1], np.int64)
    best, found = 0, (0, 0, 0, 0)
    for y, row in enumerate(np.asarray(grid)):
        heights = np.where(row, heights + 1, 0)
        area, x, wide, high = _below_skyline(heights.tolist())
        if area > best:
            best, found = area, (x * step, (y - high + 1) * step, wide * step, high * step)
    return found


def _below_skyline(heights: list[int]) -> tuple[int, int, int, int]:
    """(area, first column, width, height) of the largest rectangle below a skyline."""
    best = (0, 0, 0, 0)
    stack: list[tuple[int, int]] = []  # first column, height
    for x, high in enumerate([*heights, 0]):
        start = x
        while stack and stack[-1][1] >= high:
            start, tall = stack.pop()
            best = max(best, (tall * (x - start), start, x - start, tall))
        stack.append((start, high))
    return best
