"""Point clouds: thinned, freed of stray points, and saved in the formats that viewers and robots read.

Shape legend: N points.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, LimitError
from ..io.atomic import atomic_write_bytes
from ..io.cloud_files import encode_pcd, encode_ply
from ..io.gltf import points_glb

CLOUD_FORMATS = ("ply", "pcd", "glb")
_CELLS_PER_AXIS = 2**20  # three of them fit a 63-bit key


@dataclass(frozen=True)
class PointCloud:
    """Points of one view.

    ``points`` (N, 3) float32 metres, x right, y down, z forward; ``colours`` (N, 3) uint8 RGB or None; ``normals``
    (N, 3) float32, unit length (0 where unknown), facing the camera, or None.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None = None
    normals: NDArray[np.float32] | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a binary .ply or .pcd (with normals, if there are), or a .glb (without; y up, z backward).

        Raises:
            InputError: another suffix, or a .glb without a point, which glTF does not allow.
            OutputError: cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix.removeprefix(".") not in CLOUD_FORMATS:
            raise InputError(f"cannot write a cloud to {path}", expected="a name ending in .ply, .pcd or .glb")
        if suffix == ".glb":
            if len(self.points) == 0:
                raise InputError(f"{path}: the cloud has no point", expected="at least one in a .glb")
            data = points_glb(self.points, self.colours)
        else:
            data = {".ply": encode_ply, ".pcd": encode_pcd}[suffix](self.points, self.colours, self.normals)
        atomic_write_bytes(path, data)

    def thinned(self, voxel: float) -> PointCloud:
        """One point per cube of ``voxel`` metres: the mean of the points, colours and normals in it.

        Raises:
            InputError: ``voxel`` is not a positive number.
            LimitError: more than 2^20 cubes along an axis.
        """
        key_N = _cells(self.points, voxel, "voxel")
        _, group_N, count_V = np.unique(key_N, return_inverse=True, return_counts=True)
        colours, normals = self.colours, self.normals
        if colours is not None:
            colours = np.rint(_means(colours, group_N, count_V)).astype(np.uint8)
        if normals is not None:
            mean = _means(normals, group_N, count_V)
            length = np.linalg.norm(mean, axis=1, keepdims=True)
            normals = np.divide(mean, length, out=np.zeros_like(mean), where=length > 0).astype(np.float32)
        return PointCloud(_means(self.points, group_N, count_V).astype(np.float32), colours, normals)

    def without_strays(self, radius: float, *, neighbours: int = 4) -> PointCloud:
        """Without points that have fewer than ``neighbours`` others near them.

        Near is the block of 3×3×3 cubes of side ``radius`` (metres) round the point's own: every point within
        ``radius`` counts, and some up to 3.5 times as far, which spares a search tree.

        Raises:
            InputError: ``radius`` is not a positive number.
            LimitError: more than 2^20 cubes along an axis.
        """
        key_N = _cells(self.points, radius, "radius")
        cell_V, group_N, count_V = np.unique(key_N, return_inverse=True, return_counts=True)
        near_V = np.zeros(len(cell_V), np.int64)
        for x in (-1, 0, 1):
            for y in (-1, 0, 1):
                for z in (-1, 0, 1):
                    wanted_V = cell_V + ((x * 2 * _CELLS_PER_AXIS + y) * 2 * _CELLS_PER_AXIS + z)
                    place_V = np.minimum(np.searchsorted(cell_V, wanted_V), len(cell_V) - 1)
                    near_V += np.where(cell_V[place_V] == wanted_V, count_V[place_V], 0)
        return self._kept(near_V[group_N] - 1 >= neighbours)

    def _kept(self, keep_N: NDArray[np.bool_]) -> PointCloud:
        colours = None if self.colours is None else self.colours[keep_N]
        normals = None if self.normals is None else self.normals[keep_N]
        return PointCloud(self.points[keep_N], colours, normals)


def _cells(points_N3: NDArray[np.float32], side: float, name: str) -> NDArray[np.int64]:
    """One number per point: the cube of this side it lies in. Neighbours along z differ by 1; see the caller."""
    if not (np.isfinite(side) and side > 0):
        raise InputError(f"{name} is {side}", expected="a positive number of metres")
    if len(points_N3) == 0:
        return np.zeros(0, np.int64)
    cell_N3 = np.floor((points_N3.astype(np.float64) - points_N3.min(axis=0)) / side)
    if cell_N3.max() >= _CELLS_PER_AXIS - 1:
        extent = float(np.ptp(points_N3, axis=0).max())
        raise LimitError(
            f"{name} of {side:g} m is too small for a cloud of {extent:.6g} m",
            expected=f"at least {extent / (_CELLS_PER_AXIS - 2):.2g} m",
            hint="Leave far points out first, with a largest depth",
        )
    x_N, y_N, z_N = cell_N3.astype(np.int64).T + 1  # room for a neighbour below 0
    keys: NDArray[np.int64] = (x_N * 2 * _CELLS_PER_AXIS + y_N) * 2 * _CELLS_PER_AXIS + z_N
    return keys


def _means(values_NC: NDArray[np.generic], group_N: NDArray[np.intp], count_V: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean of each group, column by column."""
    sums = [np.bincount(group_N, weights=column, minlength=len(count_V)) for column in values_NC.T]
    return np.stack(sums, axis=1) / count_V[:, None]
