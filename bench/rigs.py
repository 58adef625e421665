"""Random rigs and what they see, ray by ray: every pixel's exact ray through the lens model meets textured rectangles.

Lengths are metres, axes those of the left camera (x right, y down, z forward). Letters: H height, W width, N rays,
S samples per pixel side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from depthlight.geometry.cameras import Camera, Floats, StereoCameras, to_matrix, to_vector

SAMPLES = 3
NOISE = 1.0  # gray levels
BACKGROUND = 60.0
SIZE = (640, 480)


@dataclass(frozen=True)
class Patch:
    """A rectangle ``corner + u · across + v · down`` (0 ≤ u, v ≤ 1) with a picture (H, W, 3) on it."""

    corner: Floats
    across: Floats
    down: Floats
    picture: NDArray[np.float32]


def random_rig(rng: np.random.Generator, lens: str) -> StereoCameras:
    """Lens, rotation (to 3° about each axis) and baseline (6–25 cm) drawn at random."""
    width, height = SIZE

    def camera() -> Camera:
        if lens == "fisheye":
            share, bent = (
                rng.uniform(0.40, 0.50),
                rng.uniform([-0.03, -0.01, -0.004, -0.001], [0.04, 0.01, 0.004, 0.001]),
            )
        else:
            share, bent = rng.uniform(0.75, 1.1), rng.uniform([-0.30, 0.0, -0.001, -0.001], [-0.05, 0.10, 0.001, 0.001])
        return Camera(
            fx=share * width,
            fy=share * width * rng.uniform(0.995, 1.005),
            cx=width / 2 + rng.uniform(-12, 12),
            cy=height / 2 + rng.uniform(-12, 12),
            width=width,
            height=height,
            model=lens,
            distortion=tuple(float(k) for k in bent),
        )

    rotation = cv2.Rodrigues(np.radians(rng.uniform(-3, 3, 3)))[0]
    shift = rng.uniform(0.06, 0.25) * np.array([-1, rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05)])
    return StereoCameras(left=camera(), right=camera(), R=to_matrix(rotation), T=to_vector(shift))


@dataclass
class Eyes:
    """A rig that can look at patches; the rays of its pixels are computed once."""

    rig: StereoCameras

    @cached_property
    def _rays(self) -> list[tuple[Floats, Floats, Floats]]:
        """Per camera the rays (H, W, 2) of pixel centres, and how they change with x and y."""
        found = []
        for camera in (self.rig.left, self.rig.right):
            columns, rows = np.meshgrid(np.arange(-1.0, camera.width + 1), np.arange(-1.0, camera.height + 1))
            rays = camera.rays(np.column_stack([columns.ravel(), rows.ravel()])).reshape(*columns.shape, 2)
            along_y, along_x = np.gradient(rays, axis=(0, 1))
            inner = (slice(1, -1), slice(1, -1))
            found.append((rays[inner], along_x[inner], along_y[inner]))
        return found

    def look(self, patches: Sequence[Patch], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
        """Both raw views (H, W, 3) uint8: nine samples a pixel, then sensor noise."""
        images = []
        rotation, shift = self.rig.rotation(), self.rig.translation()
        poses = ((self.rig.left, np.eye(3), np.zeros(3)), (self.rig.right, rotation, shift))
        for (centre, along_x, along_y), (camera, turn, move) in zip(self._rays, poses, strict=True):
            windows = [_window(patch, camera, turn, move) for patch in patches]
            total = np.zeros((*centre.shape[:2], 3), np.float32)
            for offset in np.ndindex(SAMPLES, SAMPLES):
                dx, dy = (np.array(offset) + 0.5) / SAMPLES - 0.5
                nearest = np.full(centre.shape[:2], np.inf)
                colours = np.full_like(total, BACKGROUND)
                for patch, window in zip(patches, windows, strict=True):
                    rays = (centre[window] + dx * along_x[window] + dy * along_y[window]).reshape(-1, 2)
                    directions = np.column_stack([rays, np.ones(len(rays))]) @ turn
                    reach, colour = trace([patch], -turn.T @ move, directions)
                    shape = nearest[window].shape
                    first = reach.reshape(shape) < nearest[window]
                    nearest[window][first] = reach.reshape(shape)[first]
                    colours[window][first] = colour.reshape(*shape, 3)[first]
                total += colours
            noisy = total / SAMPLES**2 + rng.normal(0, NOISE, total.shape)
            images.append(np.clip(np.round(noisy), 0, 255).astype(np.uint8))
        return images


def _window(patch: Patch, camera: Camera, turn: Floats, move: Floats) -> tuple[slice, slice]:
    """Rows and columns of the image round a patch; all of it if some of the patch is not in front of the camera."""
    steps = np.linspace(0, 1, 12)
    sides = [(u, v) for u in steps for v in (0.0, 1.0)] + [(u, v) for u in (0.0, 1.0) for v in steps]
    outline = np.array([patch.corner + u * patch.across + v * patch.down for u, v in sides]) @ turn.T + move
    rays = np.abs(outline[:, :2]) / np.maximum(outline[:, 2:], 1e-9)
    if rays.max() > 1.2:  # wide: lens models may fold back out there
        return slice(None), slice(None)
    pixels = camera.project(outline)
    (x0, y0), (x1, y1) = np.floor(pixels.min(axis=0)).astype(int) - 4, np.ceil(pixels.max(axis=0)).astype(int) + 5
    return slice(max(y0, 0), max(y1, 0)), slice(max(x0, 0), max(x1, 0))


def trace(patches: Sequence[Patch], origin: Floats, directions_N3: Floats) -> tuple[Floats, NDArray[np.float32]]:
    """How far along its direction each ray meets the first patch (N,) (infinite: none), and the colour there (N, 3)."""
    nearest = np.full(len(directions_N3), np.inf)
    colours = np.full((len(directions_N3), 3), BACKGROUND, np.float32)
    for patch in patches:
        normal = np.cross(patch.across, patch.down)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = ((patch.corner - origin) @ normal) / (directions_N3 @ normal)
        ahead = np.flatnonzero((reach > 1e-6) & (reach < nearest))
        points = origin + directions_N3[ahead] * reach[ahead, None] - patch.corner
        u, v = (points @ side / (side @ side) for side in (patch.across, patch.down))
        hit = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        index = ahead[hit]
        nearest[index] = reach[index]
        colours[index] = _sample(patch.picture, u[hit], v[hit])
    return nearest, colours


def _sample(picture: NDArray[np.float32], u: Floats, v: Floats) -> NDArray[np.float32]:
    if not len(u):
        return np.zeros((0, 3), np.float32)
    height, width = picture.shape[:2]
    x = np.ascontiguousarray(u * width - 0.5, np.float32)  # a picture's edge is the edge of its outer pixels
    y = np.ascontiguousarray(v * height - 0.5, np.float32)
    pieces = [
        cv2.remap(
            picture, x[i : i + 30_000, None], y[i : i + 30_000, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )[:, 0]
        for i in range(0, len(x), 30_000)  # remap takes at most 32767 rows
    ]
    return np.concatenate(pieces).astype(np.float32)


def scene(
    rng: np.random.Generator, rig: StereoCameras, focal: float, pictures: Sequence[NDArray[np.uint8]]
) -> list[Patch]:
    """A slanted wall, a floor and eight boxes, for disparities of about 20 to 150 px at ``focal`` (px, rectified)."""
    reach = focal * rig.baseline
    far = reach / 27
    slant = 8 if rig.left.model == "pinhole" else 3

    def picture(across: float, down: float, z: float) -> NDArray[np.float32]:
        """A photo cut and scaled so that its pixels are about as large as the camera's at distance ``z``."""
        photo = pictures[rng.integers(len(pictures))]
        wanted = [max(8, round(side * rig.left.fx / z)) for side in (across, down)]
        rows, columns = (
            _mirrored(int(rng.integers(have)), want, have)
            for want, have in zip(wanted[::-1], photo.shape[:2], strict=True)
        )
        return np.ascontiguousarray(photo[rows][:, columns], np.float32)

    def patch(centre: Floats, turn: Floats, across: Floats, down: Floats) -> Patch:
        sides = [turn @ side for side in (across, down)]
        size = [float(np.linalg.norm(side)) for side in sides]
        return Patch(centre - sum(sides) / 2, sides[0], sides[1], picture(size[0], size[1], float(centre[2])))

    turn = cv2.Rodrigues(np.radians([rng.uniform(-4, 4), rng.uniform(-slant, slant), 0]))[0]
    patches = [patch(np.array([0, 0, far]), turn, np.array([6 * far, 0, 0]), np.array([0, 5 * far, 0]))]
    level = reach / 75
    floor = np.array([0, rng.uniform(0.16, 0.24) * far * 500 / focal, (level + far) / 2])
    patches.append(patch(floor, np.eye(3), np.array([6 * far, 0, 0]), np.array([0, 0, far * 1.1 - level])))
    for disparity in rng.permutation(np.geomspace(36, 125, 8)):
        z = reach / disparity
        width = rng.uniform(0.14, 0.28) * z * 640 / focal
        centre = np.array([rng.uniform(-0.42, 0.42) * 640 / focal * z, rng.uniform(-0.25, 0.25) * 480 / focal * z, z])
        patches += _box(centre, width, rng, patch)
    return patches


def _mirrored(first: int, count: int, period: int) -> NDArray[np.int64]:
    """``count`` indices from ``first`` on, to and fro over ``period`` of them."""
    place = np.arange(first, first + count) % (2 * period)
    return np.asarray(np.minimum(place, 2 * period - 1 - place), np.int64)


def _box(centre: Floats, width: float, rng: np.random.Generator, patch: object) -> list[Patch]:
    """The five faces of a turned box that can be seen from the front."""
    turn = cv2.Rodrigues(np.radians([rng.uniform(-15, 15), rng.uniform(-35, 35), rng.uniform(-10, 10)]))[0]
    half = np.array([width, rng.uniform(0.6, 1.4) * width, rng.uniform(0.3, 0.6) * width]) / 2
    x, y, z = np.diag(2 * half)
    faces = [(np.array([0, 0, -half[2]]), x, y)]
    faces += [(np.array([sign * half[0], 0, 0]), z, y) for sign in (-1, 1)]
    faces += [(np.array([0, sign * half[1], 0]), x, z) for sign in (-1, 1)]
    return [patch(centre + turn @ place, turn, across, down) for place, across, down in faces]  # type: ignore[operator]


def board_sheet(columns: int, rows: int, dots: int = 40) -> NDArray[np.float32]:
    """A chessboard of ``columns`` × ``rows`` inner corners with a white border of one square, ``dots`` px a square."""
    i, j = np.meshgrid(np.arange((columns + 3) * dots) // dots - 1, np.arange((rows + 3) * dots) // dots - 1)
    inside = (i >= 0) & (i <= columns) & (j >= 0) & (j <= rows)
    gray = np.where(inside & ((i + j) % 2 == 1), 25.0, 230.0)
    return np.repeat(gray[:, :, None], 3, axis=2).astype(np.float32)


def board_views(
    rng: np.random.Generator, eyes: Eyes, count: int, columns: int = 9, rows: int = 6
) -> tuple[float, list[list[NDArray[np.uint8]]]]:
    """The side of a square (m) and ``count`` pairs of views of a tilted chessboard that both cameras see whole."""
    rig = eyes.rig
    square = rig.baseline * 0.3
    sheet = board_sheet(columns, rows)
    size = np.array([(columns + 3) * square, (rows + 3) * square])
    spread = (size[0] / 2) / (0.5 * rig.left.width / rig.left.fx)  # where the sheet is as wide as the view
    found: list[list[NDArray[np.uint8]]] = []
    while len(found) < count:
        turn = cv2.Rodrigues(np.radians(rng.uniform([-35, -35, -20], [35, 35, 20])))[0]
        z = spread * rng.uniform(1.25, 2.6)
        reach = 0.5 * rig.left.width / rig.left.fx * z
        centre = np.array([rng.uniform(-0.75, 0.75) * reach + rig.baseline / 2, rng.uniform(-0.6, 0.6) * reach, z])
        across, down = turn[:, 0] * size[0], turn[:, 1] * size[1]
        corner = centre - across / 2 - down / 2
        outline = np.array([corner, corner + across, corner + down, corner + across + down])
        there = outline @ rig.rotation().T + rig.translation()
        seen = [camera.project(points) for camera, points in ((rig.left, outline), (rig.right, there))]
        if all((p > 2).all() and (p < np.array(SIZE) - 3).all() for p in seen):
            found.append(eyes.look([Patch(corner, across, down, sheet)], rng))
    return square, found


def true_depth(patches: Sequence[Patch], camera: Camera, pixels_N2: Floats, axis: Floats) -> Floats:
    """Distance (N,) along ``axis`` (a unit vector) of what the left camera's pixels show; NaN where unknown."""
    rays = camera.rays(pixels_N2)
    directions = np.column_stack([rays, np.ones(len(rays))])
    known = np.isfinite(rays).all(axis=1)
    reach = np.full(len(rays), np.nan)
    reach[known] = trace(patches, np.zeros(3), directions[known])[0]
    return np.asarray(reach * (directions @ axis), np.float64)
