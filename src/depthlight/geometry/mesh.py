"""Textured meshes from a depth grid, cut where the surface breaks.

Shape legend: N vertices, M triangles, H, W image size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..io.atomic import atomic_write_bytes
from ..io.gltf import mesh_glb
from .surface import Jumps, Mask


@dataclass(frozen=True)
class Mesh:
    """A textured surface in camera axes.

    ``vertices`` (N, 3) float32 metres, x right, y down, z forward; ``faces`` (M, 3) int32, counter-clockwise as the
    camera sees them; ``uv`` (N, 2) float32 in 0..1 from the upper left corner of ``texture`` (H, W, 3) uint8 RGB.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    uv: NDArray[np.float32]
    texture: NDArray[np.uint8]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .glb: metres, x right, y up, z backward, the texture inside.

        Raises:
            InputError: another suffix, or a mesh without triangles.
            OutputError: cannot be written.
        """
        if Path(path).suffix.lower() != ".glb":
            raise InputError(f"cannot write a mesh to {path}", expected="a name ending in .glb")
        if len(self.faces) == 0:
            raise InputError("the mesh has no triangle", hint="No two neighbouring pixels have a depth in common")
        atomic_write_bytes(path, mesh_glb(self.vertices, self.faces, self.uv, self.texture))


def grid_mesh(
    points_HW3: NDArray[np.float32], valid_HW: Mask, jumps: Jumps, texture_HW3: NDArray[np.uint8], *, step: int = 1
) -> Mesh:
    """Two triangles for every cell of ``step`` × ``step`` px whose pixels are all valid and without an edge inside.

    Raises:
        InputError: ``step`` is not in 1 … half the smaller side, or the texture has another size.
    """
    height, width = valid_HW.shape
    if not 1 <= step <= max(1, min(height, width) // 2):
        raise InputError(f"grid step is {step}", expected=f"1 to {max(1, min(height, width) // 2)} px")
    if texture_HW3.shape != (height, width, 3) or texture_HW3.dtype != np.uint8:
        raise InputError(
            f"the texture is {texture_HW3.dtype} of shape {texture_HW3.shape}",
            expected=f"uint8 of shape ({height}, {width}, 3)",
        )
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    whole = _whole_cells(valid_HW, jumps, step)[: len(rows) - 1, : len(columns) - 1]
    corner = np.arange(len(rows) * len(columns), dtype=np.int32).reshape(len(rows), len(columns))
    upper_left, upper_right = corner[:-1, :-1][whole], corner[:-1, 1:][whole]
    lower_left, lower_right = corner[1:, :-1][whole], corner[1:, 1:][whole]
    faces = np.concatenate(
        [
            np.stack([upper_left, lower_left, lower_right], axis=1),
            np.stack([upper_left, lower_right, upper_right], axis=1),
        ]
    )
    used, faces = np.unique(faces, return_inverse=True)
    v, u = np.meshgrid((rows + 0.5) / height, (columns + 0.5) / width, indexing="ij")
    return Mesh(
        vertices=points_HW3[::step, ::step].reshape(-1, 3)[used],
        faces=faces.reshape(-1, 3).astype(np.int32),
        uv=np.stack([u, v], axis=2).reshape(-1, 2)[used].astype(np.float32),
        texture=texture_HW3,
    )


def _whole_cells(valid_HW: Mask, jumps: Jumps, step: int) -> Mask:
    """For each cell of ``step`` px: no invalid pixel and no edge between its four corners, borders included."""
    height, width = valid_HW.shape
    broken = ~valid_HW
    cut = broken[:-1, :-1] | broken[1:, :-1] | broken[:-1, 1:] | broken[1:, 1:]
    across, down = jumps.across_HW != 0, jumps.down_HW != 0
    cut |= across[:-1] | across[1:] | down[:, :-1] | down[:, 1:]  # (H-1, W-1): cells of one px
    cell_rows, cell_columns = (height - 1) // step, (width - 1) // step
    blocks = cut[: cell_rows * step, : cell_columns * step].reshape(cell_rows, step, cell_columns, step)
    return np.logical_not(blocks.any(axis=(1, 3)))
