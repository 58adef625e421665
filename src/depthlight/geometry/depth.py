"""Disparity to depth. Depth is metres along the optical axis (z), left view."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core.config import to_dict
from ..core.errors import InputError
from ..io.depth_files import write_depth
from ..io.hover import hover_html
from .cloud import PointCloud
from .mesh import Mesh, grid_mesh
from .rig import StereoRig
from .surface import Jumps, find_jumps, normals, tails

CONFIDENT = 3.0  # px, one sigma: on hard scenes drops half of the wrong points and one good point in fifteen


@dataclass(frozen=True, repr=False)
class DepthMap:
    """Metres; ``depth`` is (H, W) float32, finite where ``valid`` (H, W) bool is true and 0 elsewhere.

    ``sigma`` (H, W) float32, metres, is the uncertainty of the depth (see :func:`disparity_to_depth`), 0 where it is
    not valid; None where nothing is known about it.
    """

    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    rig: StereoRig
    sigma: NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        height, width = self.depth.shape
        known = self.depth[self.valid]
        span = f"{known.min():.3g} to {known.max():.3g} m" if known.size else "nothing known"
        return f"<DepthMap {width}x{height}: {span}, {100 * self.valid.mean():.0f} % valid>"

    def _repr_html_(self) -> str:
        """In notebooks: near is bright, with the metres under the pointer."""
        near = np.divide(1, self.depth, out=np.zeros_like(self.depth), where=self.valid)
        maps = {"1/depth": (near, "1/m"), "depth": (np.where(self.valid, self.depth, np.nan), "m")}
        if self.sigma is not None:
            maps["±"] = (np.where(self.valid, self.sigma, np.nan), "m")
        return hover_html("1/depth", maps, repr(self).strip("<>"), valid_HW=self.valid)

    def between(self, nearest: float | None = None, farthest: float | None = None) -> DepthMap:
        """Only what lies between two depths (metres, both included; None is no bound).

        Raises:
            InputError: a bound is not a positive number, or they are in the wrong order.
        """
        low, high = (0.0 if nearest is None else nearest), (np.inf if farthest is None else farthest)
        if not (low >= 0 and high > 0 and low <= high):  # also for NaN
            raise InputError(f"a depth range of {low} to {high} m", expected="0 <= nearest <= farthest")
        return self._only((self.depth >= low) & (self.depth <= high))

    def cleaned(self) -> DepthMap:
        """What clouds and meshes are made of: :meth:`confident`, then :meth:`without_tails`."""
        return self.confident().without_tails()

    def confident(self, within: float = CONFIDENT) -> DepthMap:
        """Only pixels whose disparity is known to ``within`` px (one sigma); all, if nothing is known about that.

        Raises:
            InputError: ``within`` is not positive.
        """
        if not within > 0:
            raise InputError(f"an uncertainty of at most {within} px", expected="a positive number")
        if self.sigma is None:
            return self
        return self._only(self.sigma * self._disparity() <= within * self.depth)  # sigma_z = z / d · sigma_d

    def without_tails(self) -> DepthMap:
        """Without the pixels that hang between an object and what is behind it (:func:`.surface.tails`)."""
        return self._only(~tails(self._disparity(), self.valid))

    def jumps(self) -> Jumps:
        """Where the surface breaks between neighbouring pixels."""
        return find_jumps(self._disparity(), self.valid)

    def points(self) -> NDArray[np.float32]:
        """(H, W, 3) float32 metres: x right, y down, z forward, origin at the left camera; 0 where not valid."""
        height, width = self.depth.shape
        x_W = (np.arange(width, dtype=np.float64) - self.rig.cx) / self.rig.fx
        y_H = (np.arange(height, dtype=np.float64) - self.rig.cy) / self.rig.fy
        points = np.stack([x_W[None, :] * self.depth, y_H[:, None] * self.depth, self.depth], axis=2)
        return np.asarray(points, np.float32)

    def normals(self) -> NDArray[np.float32]:
        """(H, W, 3) float32 unit normals facing the camera, same axes; 0 where the neighbours do not give one."""
        return normals(self.points(), self.valid, self.jumps())

    def to_point_cloud(
        self,
        colour_HW3: NDArray[np.uint8] | None = None,
        *,
        max_depth: float | None = None,
        with_normals: bool = False,
    ) -> PointCloud:
        """Valid pixels as points (N, 3) float32 in metres: x right, y down, z forward, origin at the left camera.

        Raises:
            InputError: the colour image has another size than the depth.
        """
        if colour_HW3 is not None and colour_HW3.shape != (*self.depth.shape, 3):
            raise InputError(f"the colour image has shape {colour_HW3.shape}", expected=f"{(*self.depth.shape, 3)}")
        keep = self.valid if max_depth is None else self.valid & (self.depth <= max_depth)
        return PointCloud(
            self.points()[keep],
            None if colour_HW3 is None else colour_HW3[keep],
            self.normals()[keep] if with_normals else None,
        )

    def to_mesh(self, texture_HW3: NDArray[np.uint8], *, step: int = 1) -> Mesh:
        """The :meth:`cleaned` surface with a picture on it, cut at depth edges; every ``step``-th pixel is a vertex.

        Raises:
            InputError: the texture has another size than the depth, or ``step`` does not fit into it.
        """
        clean = self.cleaned()
        return grid_mesh(clean.points(), clean.valid, clean.jumps(), texture_HW3, step=step)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as .npy, .pfm, .tiff (float32 metres) or .png (16-bit), 0 = unknown, with a JSON sidecar.

        Raises:
            InputError: another suffix.
            LimitError: beyond what a 16-bit PNG holds (65535 m).
            OutputError: cannot be written.
        """
        write_depth(path, self.depth, valid_HW=self.valid, meta={"rig": to_dict(self.rig)})

    def _disparity(self) -> NDArray[np.float32]:
        """fx · baseline / z, px: the disparity without ``doffs``, 0 where not valid."""
        numerator = self.rig.fx * self.rig.baseline
        found = np.divide(numerator, self.depth, out=np.zeros(self.depth.shape), where=self.valid)
        return found.astype(np.float32)

    def _only(self, keep: NDArray[np.bool_]) -> DepthMap:
        valid = self.valid & keep
        sigma = None if self.sigma is None else np.where(valid, self.sigma, np.float32(0))
        return replace(self, depth=np.where(valid, self.depth, np.float32(0)), valid=valid, sigma=sigma)


def disparity_to_depth(
    disparity_HW: NDArray[np.float32],
    rig: StereoRig,
    *,
    valid_HW: NDArray[np.bool_] | None = None,
    sigma_HW: NDArray[np.float32] | None = None,
) -> DepthMap:
    """``z = fx · baseline / (d + doffs)``; not valid where ``d + doffs`` is not positive, or z not a float32 above 0.

    ``sigma_HW`` (px) is the uncertainty of the disparity; that of the depth is, to first order,
    ``z² / (fx · baseline) · sigma``. Errors of the calibration are not in it.

    Raises:
        InputError: the rig belongs to images of another shape, ``valid_HW`` or ``sigma_HW`` is not (H, W), or an
            uncertainty is negative or NaN.
    """
    if disparity_HW.ndim != 2:
        raise InputError(f"disparity has shape {disparity_HW.shape}", expected="(H, W)")
    for name, other in (("valid", valid_HW), ("sigma", sigma_HW)):
        if other is not None and other.shape != disparity_HW.shape:
            raise InputError(f"{name} has shape {other.shape}", expected=f"that of the disparity, {disparity_HW.shape}")
    if sigma_HW is not None and not (sigma_HW >= 0).all():  # also for NaN
        raise InputError("an uncertainty of the disparity is negative or NaN", expected="px >= 0")
    height, width = disparity_HW.shape
    rig = rig.resized(width, height)
    total = disparity_HW.astype(np.float64) + rig.doffs
    valid = total > 0
    if valid_HW is not None:
        valid = valid & valid_HW
    with np.errstate(over="ignore"):  # what overflows is not valid
        exact = rig.fx * rig.baseline / np.where(valid, total, 1.0)
        depth = exact.astype(np.float32)
        spread = None if sigma_HW is None else (exact**2 / (rig.fx * rig.baseline) * sigma_HW).astype(np.float32)
    valid &= np.isfinite(depth) & (depth > 0)
    if spread is not None:
        spread = np.where(valid, np.nan_to_num(spread), np.float32(0))  # beyond float32: its largest number
    return DepthMap(np.where(valid, depth, np.float32(0)), valid, rig, spread)


def depth_to_disparity(
    depth_HW: NDArray[np.floating], rig: StereoRig, *, valid_HW: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The inverse: (``d = fx · baseline / z - doffs`` in px, float32, 0 where not valid; valid), both (H, W).

    Not valid where the depth is not a positive number, or the disparity would be negative.

    Raises:
        InputError: the rig belongs to images of another shape.
    """
    if depth_HW.ndim != 2:
        raise InputError(f"depth has shape {depth_HW.shape}", expected="(H, W)")
    height, width = depth_HW.shape
    rig = rig.resized(width, height)
    valid = np.isfinite(depth_HW) & (depth_HW > 0)
    if valid_HW is not None:
        valid &= valid_HW
    disparity = rig.fx * rig.baseline / np.where(valid, depth_HW, 1).astype(np.float64) - rig.doffs
    valid &= disparity >= 0
    return np.where(valid, disparity, 0).astype(np.float32), valid
