"""Disparity to depth. Depth is metres along the optical axis (z), left view."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..io.atomic import atomic_path
from .cloud import PointCloud
from .rig import StereoRig


@dataclass(frozen=True)
class DepthMap:
    """Metres; ``depth`` is (H, W) float32, finite where ``valid`` (H, W) bool is true and 0 elsewhere."""

    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    rig: StereoRig

    def to_point_cloud(
        self, colour_HW3: NDArray[np.uint8] | None = None, *, max_depth: float | None = None
    ) -> PointCloud:
        """Valid pixels as points (N, 3) float32 in metres: x right, y down, z forward, origin at the left camera."""
        keep = self.valid if max_depth is None else self.valid & (self.depth <= max_depth)
        rows, columns = np.nonzero(keep)
        z = self.depth[rows, columns]
        x = (columns.astype(np.float32) - self.rig.cx) / self.rig.fx * z
        y = (rows.astype(np.float32) - self.rig.cy) / self.rig.fy * z
        points = np.stack([x, y, z], axis=1).astype(np.float32)
        return PointCloud(points, None if colour_HW3 is None else colour_HW3[rows, columns])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as float32 ``.npy``, metres, 0 = unknown."""
        if Path(path).suffix.lower() != ".npy":
            raise InputError(f"cannot write depth to {path}", expected="a name ending in .npy")
        with atomic_path(path) as temporary:
            np.save(temporary, self.depth, allow_pickle=False)


def disparity_to_depth(
    disparity_HW: NDArray[np.float32], rig: StereoRig, *, valid_HW: NDArray[np.bool_] | None = None
) -> DepthMap:
    """``z = fx · baseline / (d + doffs)``; not valid where ``d + doffs`` is not positive, or z not a float32 above 0.

    Raises:
        InputError: the rig belongs to images of another shape.
    """
    if disparity_HW.ndim != 2:
        raise InputError(f"disparity has shape {disparity_HW.shape}", expected="(H, W)")
    height, width = disparity_HW.shape
    rig = rig.resized(width, height)
    total = disparity_HW.astype(np.float64) + rig.doffs
    valid = total > 0
    if valid_HW is not None:
        valid = valid & valid_HW
    with np.errstate(over="ignore"):  # what overflows is not valid
        depth = (rig.fx * rig.baseline / np.where(valid, total, 1.0)).astype(np.float32)
    valid &= np.isfinite(depth) & (depth > 0)
    return DepthMap(np.where(valid, depth, np.float32(0)), valid, rig)
