"""Built-in solids and surfaces as triangle soups, at their true size.

Shape legend: F triangles, N, M points of a grid. Object space: x right, y up, z away; lengths in metres. Texture
coordinates are lengths on the surface too, so that a material says how many metres its texture covers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .scene import FloatImage as Floats

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """Triangles that share nothing: corner positions, unit normals, texture coordinates, and a slot per triangle.

    A slot is an index into the list of materials the mesh is placed with.
    """

    positions_F33: Floats
    normals_F33: Floats
    uvs_F32: Floats
    slot_F: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.positions_F33)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """Shifted by metres."""
        return replace(self, positions_F33=self.positions_F33 + np.array([x, y, z], np.float32))

    def transformed(self, matrix_33: ArrayLike) -> Mesh:
        """Under any invertible linear map; normals by its inverse transpose."""
        matrix = np.asarray(matrix_33, np.float64)
        normals_F33 = self.normals_F33 @ np.linalg.inv(matrix)
        normals_F33 /= np.linalg.norm(normals_F33, axis=-1, keepdims=True) + 1e-12
        positions_F33 = self.positions_F33 @ matrix.T
        return replace(self, positions_F33=positions_F33.astype(np.float32), normals_F33=normals_F33.astype(np.float32))

    def turned(self, yaw: float) -> Mesh:
        """Turned about the vertical by ``yaw`` radians."""
        return self.transformed(rotation(yaw))

    def in_slot(self, slot: int) -> Mesh:
        """With all triangles in one slot."""
        return replace(self, slot_F=np.full(len(self), slot, np.int32))


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Doubles:
    """The 3 × 3 rotation about y (yaw), then x (pitch), then z (roll), radians."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles in one soup; slots stay as they are."""
    return Mesh(
        np.concatenate([mesh.positions_F33 for mesh in meshes]),
        np.concatenate([mesh.normals_F33 for mesh in meshes]),
        np.concatenate([mesh.uvs_F32 for mesh in meshes]),
        np.concatenate([mesh.slot_F for mesh in meshes]),
    )


def soup(positions_F33: NDArray[Any], normals_F33: NDArray[Any], uvs_F32: NDArray[Any]) -> Mesh:
    """A mesh in slot 0 without the triangles that have no area; normals need not be unit."""
    edge, other = positions_F33[:, 1] - positions_F33[:, 0], positions_F33[:, 2] - positions_F33[:, 0]
    keep_F = np.linalg.norm(np.cross(edge, other), axis=-1) > 1e-10
    normals_F33 = normals_F33[keep_F] / (np.linalg.norm(normals_F33[keep_F], axis=-1, keepdims=True) + 1e-12)
    positions, normals, uvs = (
        np.ascontiguousarray(array, np.float32) for array in (positions_F33[keep_F], normals_F33, uvs_F32[keep_F])
    )
    return Mesh(positions, normals, uvs, np.zeros(len(positions), np.int32))


def _corners(grid_NMk: NDArray[Any]) -> NDArray[Any]:
    """The two triangles of every cell of a grid: (F, 3, k)."""
    a, b, c, d = grid_NMk[:-1, :-1], grid_NMk[:-1, 1:], grid_NMk[1:, 1:], grid_NMk[1:, :-1]
    return np.stack([np.stack([a, b, c], 2), np.stack([a, c, d], 2)], 2).reshape(-1, 3, grid_NMk.shape[-1])


def surface(points_NM3: ArrayLike, *, closed: bool = False) -> Mesh:
    """A smooth skin over a grid of points; ``closed`` if the last column repeats the first."""
    points = np.asarray(points_NM3, np.float64)
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    cell = np.cross(c - a, d - b)
    normal = np.zeros_like(points)
    low, high = np.s_[:-1], np.s_[1:]
    for rows, columns in ((low, low), (low, high), (high, high), (high, low)):
        normal[rows, columns] += cell
    if closed:
        normal[:, 0] = normal[:, -1] = normal[:, 0] + normal[:, -1]
    for row in (0, -1):  # a row drawn together to one point (a pole) has one normal
        if np.ptp(points[row], axis=0).max() < 1e-9:
            normal[row] = normal[row].sum(axis=0)
    uvs = np.stack([_arc_lengths(points, 1), _arc_lengths(points, 0)], axis=-1)
    return soup(_corners(points), _corners(normal), _corners(uvs))


def _arc_lengths(points_NM3: Doubles, axis: int) -> Doubles:
    """Length travelled along an axis of a grid (of its longest line), as a grid."""
    step = np.linalg.norm(np.diff(points_NM3, axis=axis), axis=-1).max(axis=1 - axis)
    travelled = np.concatenate([[0.0], np.cumsum(step)])
    return np.broadcast_to(travelled[None, :] if axis == 1 else travelled[:, None], points_NM3.shape[:2])


def quad(corner_3: ArrayLike, along_3: ArrayLike, up_3: ArrayLike, cells: int = 1) -> Mesh:
    """A parallelogram with one corner and two sides, cut into ``cells`` × ``cells``."""
    corner, along, up = (np.asarray(v, np.float64) for v in (corner_3, along_3, up_3))
    t = np.linspace(0.0, 1.0, cells + 1)
    return surface(corner + t[:, None, None] * up + t[None, :, None] * along)


def facets(corners_K43: ArrayLike) -> Mesh:
    """Flat four-cornered pieces, all at once; corners in order around each."""
    corners = np.asarray(corners_K43, np.float64)
    positions = corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)
    normal_K3 = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    u_K, v_K = (np.linalg.norm(corners[:, i] - corners[:, 0], axis=-1) for i in (1, 3))
    zero_K = np.zeros_like(u_K)
    uvs_K42 = np.stack([np.stack(c, -1) for c in ((zero_K, zero_K), (u_K, zero_K), (u_K, v_K), (zero_K, v_K))], 1)
    normals = np.repeat(np.repeat(normal_K3, 2, axis=0)[:, None], 3, axis=1)
    return soup(positions, normals, uvs_K42[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2))


def copies(mesh: Mesh, matrix_K33: ArrayLike, shift_K3: ArrayLike) -> Mesh:
    """One mesh many times over, each under its own rotation (or uniform scale) and shift."""
    matrix, shift = np.asarray(matrix_K33, np.float32), np.asarray(shift_K3, np.float32)
    positions = np.einsum("kab,fcb->kfca", matrix, mesh.positions_F33) + shift[:, None, None]
    normals = np.einsum("kab,fcb->kfca", matrix, mesh.normals_F33)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    count = len(shift)
    return Mesh(
        positions.reshape(-1, 3, 3),
        normals.reshape(-1, 3, 3),
        np.tile(mesh.uvs_F32, (count, 1, 1)),
        np.tile(mesh.slot_F, count),
    )


@cache
def _unit_box() -> tuple[Mesh, NDArray[np.intp]]:
    """The box of side 1, and for each triangle the axes its texture coordinates run along."""
    cube = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (0.0, 1.0) for z in (-0.5, 0.5)])
    order = [[0, 4, 6, 2], [5, 1, 3, 7], [1, 0, 2, 3], [4, 5, 7, 6], [2, 6, 7, 3], [1, 5, 4, 0]]
    axes = np.repeat(np.array([[0, 1], [0, 1], [2, 1], [2, 1], [0, 2], [0, 2]]), 2, axis=0)
    return facets(cube[order]), axes


def box(width: float, height: float, depth: float) -> Mesh:
    """A box standing on y = 0, centred in x and z."""
    unit, axes_F2 = _unit_box()
    size_3 = np.array([width, height, depth], np.float32)
    return replace(unit, positions_F33=unit.positions_F33 * size_3, uvs_F32=unit.uvs_F32 * size_3[axes_F2][:, None])


def lathe(profile: Sequence[tuple[float, float]], segments: int = 24, *, sharp: bool = False) -> Mesh:
    """A profile of (radius, height) points turned about the y axis; closed if it starts and ends at radius 0.

    ``sharp`` keeps the edges between the profile's pieces.
    """
    angle = np.linspace(0.0, 2 * math.pi, segments + 1)
    circle = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], -1)
    circle[-1] = circle[0]
    rings = np.stack([radius * circle + (0.0, height, 0.0) for radius, height in profile])
    pieces = [rings[i : i + 2] for i in range(len(rings) - 1)] if sharp else [rings]
    return join([surface(piece, closed=True) for piece in pieces])


def cylinder(radius: float, height: float, segments: int = 20) -> Mesh:
    """Standing on y = 0."""
    return lathe([(0, 0), (radius, 0), (radius, height), (0, height)], segments, sharp=True)


def cone(radius: float, height: float, segments: int = 20) -> Mesh:
    """Standing on y = 0."""
    return lathe([(0, 0), (radius, 0), (0, height)], segments, sharp=True)


def superquadric(radii: tuple[float, float, float], roundness: tuple[float, float], segments: int = 28) -> Mesh:
    """Barr's superellipsoid about the origin: roundness 1 a sphere, towards 0 a box, 2 an octahedron."""

    def power(value: Doubles, exponent: float) -> Doubles:
        return np.asarray(np.sign(value) * np.abs(value) ** exponent)

    v = np.linspace(-math.pi / 2, math.pi / 2, segments // 2 + 1)[:, None]
    u = np.linspace(-math.pi, math.pi, segments + 1)[None, :]
    ring, rise = power(np.cos(v), roundness[0]), power(np.sin(v), roundness[0])
    ring[[0, -1]] = 0.0
    x, z = power(np.cos(u), roundness[1]), power(np.sin(u), roundness[1])
    x[:, -1], z[:, -1] = x[:, 0], z[:, 0]
    points = np.stack(np.broadcast_arrays(ring * x, rise, ring * z), axis=-1)
    return surface(points * radii, closed=True)


def sphere(radius: float, segments: int = 28) -> Mesh:
    """About the origin."""
    return superquadric((radius, radius, radius), (1.0, 1.0), segments)


def torus(radius: float, tube_radius: float, segments: int = 28) -> Mesh:
    """Lying in the x-z plane about the origin."""
    angle = np.linspace(0.0, 2 * math.pi, segments + 1)
    angle[-1] = 0.0
    return tube(radius * np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], -1), tube_radius, 12, ring=True)


def tube(path_N3: ArrayLike, radius: float, segments: int = 8, *, ring: bool = False) -> Mesh:
    """A wire along points, with closed ends, or closed on itself when ``ring`` (last point repeats the first)."""
    path = np.asarray(path_N3, np.float64)
    if ring:
        tangent = path[np.r_[1 : len(path), 1]] - path[np.r_[len(path) - 2, 0 : len(path) - 1]]
        tangent[-1] = tangent[0]
    else:
        tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12
    helper = np.eye(3)[np.argmin(np.abs(tangent).max(axis=0))]
    side = np.cross(tangent, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-12
    other = np.cross(tangent, side)
    angle = np.linspace(0.0, 2 * math.pi, segments + 1)[None, :, None]
    wheel = np.cos(angle) * side[:, None] + np.sin(angle) * other[:, None]
    wheel[:, -1] = wheel[:, 0]
    points = path[:, None] + radius * wheel
    if not ring:
        ends = [np.broadcast_to(path[i], points[:1].shape) for i in (0, -1)]
        points = np.concatenate([ends[0], points, ends[1]])
    return surface(points, closed=True)


def extruded(outline_N2: ArrayLike, depth: float) -> Mesh:
    """An outline (x, y), star-shaped about its mean, as a slab from z = -depth/2 to depth/2."""
    outline = np.asarray(outline_N2, np.float64)
    outline = np.concatenate([outline, outline[:1]])
    flat = np.concatenate([outline, np.zeros((len(outline), 1))], axis=1)
    middle = np.broadcast_to(flat[:-1].mean(axis=0), flat.shape)
    front, back = np.array([0, 0, -depth / 2]), np.array([0, 0, depth / 2])
    side = facets(np.stack([flat[:-1] + front, flat[1:] + front, flat[1:] + back, flat[:-1] + back], axis=1))
    return join([side, _cap([flat + front, middle + front]), _cap([middle + back, flat + back])])


def _cap(rows: Sequence[Doubles]) -> Mesh:
    """A flat fan with its texture laid on the plane."""
    mesh = surface(np.stack(rows))
    return replace(mesh, uvs_F32=np.ascontiguousarray(mesh.positions_F33[..., :2]))


def spline(points_K3: ArrayLike, count: int) -> Doubles:
    """``count`` points on the Catmull-Rom curve through the given points."""
    p = np.asarray(points_K3, np.float64)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0.0, len(p) - 3 - 1e-9, count)
    i, s = t.astype(int), (t % 1.0)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    curve = 2 * b + (c - a) * s + (2 * a - 5 * b + 4 * c - d) * s**2 + (3 * b - a - 3 * c + d) * s**3
    return np.asarray(0.5 * curve)


def height_field(x_M: ArrayLike, z_N: ArrayLike, height_NM: ArrayLike) -> Mesh:
    """Ground over a grid; its texture is laid on from above."""
    x, z = np.meshgrid(np.asarray(x_M, np.float64), np.asarray(z_N, np.float64))
    mesh = surface(np.stack([x, np.asarray(height_NM, np.float64), z], axis=-1))
    return replace(mesh, uvs_F32=np.ascontiguousarray(mesh.positions_F33[..., [0, 2]]))
