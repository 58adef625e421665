"""A z-buffer for triangles in numba: which triangle each sample sees, exactly.

Homogeneous rasterisation after Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates" (1997):
with the camera-space corners as columns of M, a ray r = (X, Y, 1) meets the triangle's plane at depth z with
barycentrics b = z · M⁻¹ r, and 1/z = 1ᵀ M⁻¹ r is linear in the image. No clipping of triangles is needed, and depth is
the plane equation at the sample's own ray, not an interpolation.

Shape legend: F triangles, H, W samples, N edges per triangle (3). Camera space: x right, y down, z forward; a sample
(column j, row i) of a grid lies at image position (x0 + j·step, y0 + i·step), pixel centres at integers.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# (numba infers the types of the functions it compiles)

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ...core.extras import require

numba = require("numba", extra="train", purpose="rendering meshes and rooms")

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function) -> Function:
    """Compile with numba, cached on disk: the first call on a machine takes seconds, later ones milliseconds."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))


def jit_fast(function: Function) -> Function:
    """The same with reordered arithmetic, for colours but not for truth; the function must not make arrays.

    Counting references to the two dozen arrays of a shading call would cost a third of its time.
    """
    return cast(Function, numba.njit(cache=True, error_model="numpy", fastmath=True, _nrt=False)(function))


@dataclass(frozen=True)
class Grid:
    """A regular grid of samples in the image plane."""

    width: int
    height: int
    x0: float = 0.0
    y0: float = 0.0
    step: float = 1.0

    @staticmethod
    def centres(width: int, height: int) -> Grid:
        """One sample at every pixel centre: where the truth is taken."""
        return Grid(width, height)

    @staticmethod
    def quarters(width: int, height: int) -> Grid:
        """2 × 2 samples in every pixel: what the colour is made of."""
        return Grid(2 * width, 2 * height, -0.25, -0.25, 0.5)


@dataclass(frozen=True)
class Prepared:
    """Triangles ready to be filled in.

    ``edges_F33[f, i]`` are (a, b, c) of a·x + b·y + c, which is barycentric i times the key (perspective) or
    barycentric i itself (orthographic); ``key_F3`` the same of the depth key: larger is nearer, 1/z for a perspective.
    ``box_F4`` is (x_min, y_min, x_max, y_max) in px, empty (x_min > x_max) for what cannot be seen.
    """

    edges_F33: Doubles
    key_F3: Doubles
    box_F4: Floats


def perspective(corners_F33: Floats, focal: float, cx: float, cy: float, near: float) -> Prepared:
    """Prepare triangles given in camera space (float32, scene units) for a pinhole; nearer than ``near`` is cut off."""
    count = len(corners_F33)
    edges_F33, key_F3 = np.zeros((count, 3, 3)), np.zeros((count, 3))
    box_F4 = np.empty((count, 4), np.float32)
    _prepare_perspective(corners_F33, focal, cx, cy, near, edges_F33, key_F3, box_F4)
    return Prepared(edges_F33, key_F3, box_F4)


def orthographic(corners_F33: Floats) -> Prepared:
    """Prepare triangles whose x, y are already in px and whose z grows away from the viewer (a shadow map)."""
    count = len(corners_F33)
    edges_F33, key_F3 = np.zeros((count, 3, 3)), np.zeros((count, 3))
    box_F4 = np.empty((count, 4), np.float32)
    _prepare_orthographic(corners_F33, edges_F33, key_F3, box_F4)
    return Prepared(edges_F33, key_F3, box_F4)


def buffers(grid: Grid, nothing: float = 0.0) -> tuple[Doubles, Ints]:
    """Empty (key, triangle) buffers: ``nothing`` is the key of empty space, -1 its triangle."""
    shape = (grid.height, grid.width)
    return np.full(shape, nothing), np.full(shape, -1, np.int32)


@dataclass(frozen=True)
class Cutout:
    """Holes in triangles: ``level_F`` indexes ``table`` (offset, height, width per texture level), -1 for none."""

    level_F: Ints
    uvs_F32: Floats
    table: NDArray[np.int64]
    texels: NDArray[np.uint8]


def fill(prepared: Prepared, grid: Grid, key_HW: Doubles, triangle_HW: Ints, max_key: float, cutout: Cutout) -> None:
    """Draw into the buffers; what has a key above ``max_key`` (nearer than the near plane) is not drawn."""
    _fill(
        prepared.edges_F33, prepared.key_F3, prepared.box_F4, grid.x0, grid.y0, grid.step, max_key,
        cutout.level_F, cutout.uvs_F32, cutout.table, cutout.texels, key_HW, triangle_HW,
    )  # fmt: skip


@jit
def _grow(box, x, y):
    box[0], box[1] = min(box[0], x), min(box[1], y)
    box[2], box[3] = max(box[2], x), max(box[3], y)


@jit
def _bound_perspective(corner, focal, cx, cy, near, box):
    """The image box of the part of a triangle that lies beyond the near plane."""
    box[0], box[1], box[2], box[3] = np.inf, np.inf, -np.inf, -np.inf
    for i in range(3):
        j = (i + 1) % 3
        zi, zj = corner[i, 2], corner[j, 2]
        if zi >= near:
            _grow(box, focal * corner[i, 0] / zi + cx, focal * corner[i, 1] / zi + cy)
        if (zi < near) != (zj < near):
            t = (near - zi) / (zj - zi)
            x = corner[i, 0] + t * (corner[j, 0] - corner[i, 0])
            y = corner[i, 1] + t * (corner[j, 1] - corner[i, 1])
            _grow(box, focal * x / near + cx, focal * y / near + cy)


@jit
def _prepare_perspective(corners_F33, focal, cx, cy, near, edges_F33, key_F3, box_F4):
    corner = np.empty((3, 3), np.float64)
    for f in range(corners_F33.shape[0]):
        for i in range(3):
            for k in range(3):
                corner[i, k] = corners_F33[f, i, k]
        _bound_perspective(corner, focal, cx, cy, near, box_F4[f])
        if box_F4[f, 0] > box_F4[f, 2]:
            continue
        volume = 0.0
        for i in range(3):
            p, q = corner[(i + 1) % 3], corner[(i + 2) % 3]
            nx = p[1] * q[2] - p[2] * q[1]
            ny = p[2] * q[0] - p[0] * q[2]
            nz = p[0] * q[1] - p[1] * q[0]
            volume = corner[i, 0] * nx + corner[i, 1] * ny + corner[i, 2] * nz
            edges_F33[f, i, 0] = nx / focal
            edges_F33[f, i, 1] = ny / focal
            edges_F33[f, i, 2] = nz - nx * cx / focal - ny * cy / focal
        if abs(volume) < 1e-15:
            box_F4[f, 0], box_F4[f, 2] = 1.0, -1.0  # seen edge-on
            continue
        for i in range(3):
            for k in range(3):
                edges_F33[f, i, k] /= volume
                key_F3[f, k] += edges_F33[f, i, k]


@jit
def _prepare_orthographic(corners_F33, edges_F33, key_F3, box_F4):
    for f in range(corners_F33.shape[0]):
        box = box_F4[f]
        box[0], box[1], box[2], box[3] = np.inf, np.inf, -np.inf, -np.inf
        x0, y0 = np.float64(corners_F33[f, 0, 0]), np.float64(corners_F33[f, 0, 1])
        x1, y1 = np.float64(corners_F33[f, 1, 0]), np.float64(corners_F33[f, 1, 1])
        x2, y2 = np.float64(corners_F33[f, 2, 0]), np.float64(corners_F33[f, 2, 1])
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            box[0], box[2] = 1.0, -1.0
            continue
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            px, py = np.float64(corners_F33[f, j, 0]), np.float64(corners_F33[f, j, 1])
            qx, qy = np.float64(corners_F33[f, k, 0]), np.float64(corners_F33[f, k, 1])
            edges_F33[f, i, 0] = (py - qy) / area
            edges_F33[f, i, 1] = (qx - px) / area
            edges_F33[f, i, 2] = (px * qy - qx * py) / area
            for n in range(3):
                key_F3[f, n] -= edges_F33[f, i, n] * corners_F33[f, i, 2]
            _grow(box, px, py)


@jit
def _span(edge, y, x_low, x_high):
    """Shorten [x_low, x_high] to where all three edge functions are ≥ 0 in the row at y."""
    for i in range(3):
        a, rest = edge[i, 0], edge[i, 1] * y + edge[i, 2]
        if a > 0.0:
            x_low = max(x_low, -rest / a)
        elif a < 0.0:
            x_high = min(x_high, -rest / a)
        elif rest < 0.0:
            return 1.0, -1.0
    return x_low, x_high


@jit
def _solid(edge, x, y, uv, row, texels):
    """Whether the texture's alpha at this sample is at least one half (nearest texel, mirrored repeat)."""
    weight, u, v = 0.0, 0.0, 0.0
    for i in range(3):
        e = edge[i, 0] * x + edge[i, 1] * y + edge[i, 2]
        weight += e
        u += e * uv[i, 0]
        v += e * uv[i, 1]
    height, width = row[1], row[2]
    u, v = abs(u / weight), abs(v / weight)
    u, v = u - 2.0 * math.floor(0.5 * u), v - 2.0 * math.floor(0.5 * v)
    u, v = min(u, 2.0 - u), min(v, 2.0 - v)
    column, line = min(int(u * width), width - 1), min(int(v * height), height - 1)
    return texels[row[0] + 4 * (line * width + column) + 3] >= 128


@jit
def _fill(edges_F33, key_F3, box_F4, x0, y0, step, max_key, level_F, uvs_F32, table, texels, key_HW, triangle_HW):
    height, width = key_HW.shape
    last_x, last_y = x0 + (width - 1) * step, y0 + (height - 1) * step
    for f in range(edges_F33.shape[0]):
        left, top, right, bottom = box_F4[f, 0], box_F4[f, 1], box_F4[f, 2], box_F4[f, 3]
        if left > right or right < x0 or left > last_x or bottom < y0 or top > last_y:
            continue
        i_low = max(0, math.ceil((top - y0) / step - 1e-3))
        i_high = min(height - 1, math.floor((min(bottom, last_y) - y0) / step + 1e-3))
        edge, level = edges_F33[f], level_F[f]
        a, b, c = key_F3[f, 0], key_F3[f, 1], key_F3[f, 2]
        for i in range(i_low, i_high + 1):
            y = y0 + i * step
            x_low, x_high = _span(edge, y, max(np.float64(left) - 1e-3, x0), min(np.float64(right) + 1e-3, last_x))
            for j in range(math.ceil((x_low - x0) / step), math.floor((x_high - x0) / step) + 1):
                x = x0 + j * step
                key = a * x + b * y + c
                if key > key_HW[i, j] and key <= max_key:
                    if level >= 0 and not _solid(edge, x, y, uvs_F32[f], table[level], texels):
                        continue
                    key_HW[i, j] = key
                    triangle_HW[i, j] = f
