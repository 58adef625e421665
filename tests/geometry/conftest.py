"""Rigs and boards for the tests of calibration and rectification: rendered by exact rays through the lens model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from depthlight.geometry.cameras import Camera, StereoCameras, to_matrix, to_vector

WIDTH, HEIGHT = 400, 300
_SAMPLES = 2  # rays per pixel along each side


def make_rig(rng, kind="pinhole", width=WIDTH, height=HEIGHT):
    """A random rig: lens, rotation up to some degrees, baseline 5 to 50 cm."""

    def camera():
        share = rng.uniform(0.32, 0.5) if kind == "fisheye" else rng.uniform(0.6, 1.4)
        if kind == "fisheye":
            bent = rng.uniform([-0.02, -0.01, -0.002, -0.001], [0.03, 0.01, 0.002, 0.001])
        else:
            bent = rng.uniform([-0.25, -0.02, -0.001, -0.001, 0], [0.05, 0.08, 0.001, 0.001, 1e-12])
        focal = share * width
        return Camera(
            fx=focal,
            fy=focal * rng.uniform(0.99, 1.01),
            cx=width / 2 + rng.uniform(-0.03, 0.03) * width,
            cy=height / 2 + rng.uniform(-0.03, 0.03) * height,
            width=width,
            height=height,
            model="fisheye" if kind == "fisheye" else "pinhole",
            distortion=tuple(float(k) for k in bent),
        )

    rotation = cv2.Rodrigues(rng.uniform(-0.06, 0.06, 3))[0]
    translation = rng.uniform(0.05, 0.5) * np.array([-1, rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)])
    return StereoCameras(left=camera(), right=camera(), R=to_matrix(rotation), T=to_vector(translation))


@dataclass
class Renderer:
    """Draws flat boards as a rig sees them; rays are computed once per camera."""

    rig: StereoCameras

    def __post_init__(self):
        self.rays = [self._rays(camera) for camera in (self.rig.left, self.rig.right)]

    @staticmethod
    def _rays(camera):
        fine = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
        x = (np.arange(camera.width)[:, None] + fine).ravel()
        y = (np.arange(camera.height)[:, None] + fine).ravel()
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        return np.nan_to_num(camera.rays(grid), nan=1e6)

    def draw(self, paint, rotation, translation):
        """Both views of the plane z = 0 of a board at a pose in the left camera; ``paint(x, y)`` gives its gray."""
        images = []
        poses = (
            (rotation, translation),
            (self.rig.rotation() @ rotation, self.rig.rotation() @ translation + self.rig.translation()),
        )
        for rays, camera, (turn, shift) in zip(self.rays, (self.rig.left, self.rig.right), poses, strict=True):
            directions = np.column_stack([rays, np.ones(len(rays))]) @ turn  # in the board's axes
            origin = -turn.T @ shift
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = -origin[2] / directions[:, 2]
                x, y = (origin[:2, None] + directions[:, :2].T * reach).reshape(2, -1)
            gray = np.where(reach > 0, paint(np.nan_to_num(x, nan=1e9), np.nan_to_num(y, nan=1e9)), 90.0)
            shape = (camera.height, _SAMPLES, camera.width, _SAMPLES)
            images.append(gray.reshape(shape).mean(axis=(1, 3)))
        return [np.clip(np.round(cv2.GaussianBlur(image, (0, 0), 0.5)), 0, 255).astype(np.uint8) for image in images]


def chessboard(columns, rows, square):
    """Paint of a chessboard of ``columns`` × ``rows`` inner corners, the first one at the origin, on a white sheet."""

    def paint(x, y):
        i, j = np.floor(x / square).astype(np.int64), np.floor(y / square).astype(np.int64)
        inside = (i >= -1) & (i < columns) & (j >= -1) & (j < rows)
        sheet = (i >= -2) & (i < columns + 1) & (j >= -2) & (j < rows + 1)
        return np.where(inside, np.where((i + j) % 2 == 0, 235.0, 25.0), np.where(sheet, 235.0, 90.0))

    return paint


def board_poses(rng, rig, extent, count):
    """Poses of a board (width, height in metres) before the left camera that fill its image, tilted."""
    found = []
    half = np.array([extent[0] / 2, extent[1] / 2, 0])
    reach = rig.left.width / (2 * rig.left.fx)
    while len(found) < count:
        tilt = cv2.Rodrigues(rng.uniform([-0.55, -0.55, -0.35], [0.55, 0.55, 0.35]))[0]
        distance = rng.uniform(1.0, 1.9) * extent[0] / (2 * reach) * (1.5 if rig.left.model == "fisheye" else 1.2)
        centre = np.array([rng.uniform(-0.6, 0.6) * reach, rng.uniform(-0.55, 0.55) * reach * 0.75, 1]) * distance
        centre[0] += rig.baseline / 2
        shift = centre - tilt @ half
        corners = np.array([[0, 0, 0], [extent[0], 0, 0], [0, extent[1], 0], [*extent, 0]]) @ tilt.T + shift
        there = corners @ rig.rotation().T + rig.translation()
        seen = [camera.project(points) for camera, points in ((rig.left, corners), (rig.right, there))]
        margin = 0.06 * extent[0] / distance * rig.left.fx
        inside = [
            (p > margin).all()
            and (p[:, 0] < rig.left.width - margin).all()
            and (p[:, 1] < rig.left.height - margin).all()
            for p in seen
        ]
        if all(inside):
            found.append((tilt, shift))
    return found


@pytest.fixture(scope="session")
def rig_of():
    """A function (seed, kind) → random raw rig."""
    return lambda seed, kind="pinhole", **size: make_rig(np.random.default_rng(seed), kind, **size)


@pytest.fixture(scope="session")
def board_pairs():
    """A function (rig, count, columns, rows, square, seed) → pairs of images of a chessboard."""

    def make(rig, count, columns=9, rows=6, square=0.03, seed=0):
        rng = np.random.default_rng(seed)
        renderer = Renderer(rig)
        extent = ((columns - 1) * square, (rows - 1) * square)
        paint = chessboard(columns, rows, square)
        return [renderer.draw(paint, *pose) for pose in board_poses(rng, rig, extent, count)]

    return make


@pytest.fixture(scope="session")
def near_rig(rig_of):
    """A rig with a short baseline, so that a small board fits into both views."""

    def make(seed, kind="pinhole"):
        rig = rig_of(seed, kind)
        shift = np.array(rig.T) / rig.baseline * 0.08
        return replace(rig, T=to_vector(shift))

    return make
