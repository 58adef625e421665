"""The part of a prediction folder that is in metres: depth, its uncertainty, cloud and mesh; written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.config import from_dict
from ..core.errors import FileFormatError, InputError
from ..geometry.cloud import CLOUD_FORMATS
from ..geometry.depth import DepthMap
from ..geometry.rig import StereoRig
from ..io.depth_files import depth_scale, read_depth
from ..io.float_maps import read_npy, write_float_map

DEPTH_FORMATS = ("npy", "png", "pfm", "tiff")
SIGMA = "depth_sigma.npy"
MESH = "mesh.glb"
METRIC_FILES = (
    "depth.json",
    *(f"depth.{name}" for name in DEPTH_FORMATS),
    SIGMA,
    *(f"cloud.{name}" for name in CLOUD_FORMATS),
    MESH,
)


@dataclass(frozen=True, kw_only=True)
class Metres:
    """What is written where there is a calibration.

    Attributes:
        depth: formats of the depth map, of :data:`DEPTH_FORMATS`.
        cloud: formats of the point cloud, of :data:`depthlight.geometry.cloud.CLOUD_FORMATS`; may be empty.
        mesh: also a textured ``mesh.glb``.
        nearest, farthest: what lies outside (metres) is left out of all of them.
        voxel: metres; the cloud keeps one point per cube of this side.
        normals: the cloud has them (not in .glb).
    """

    depth: tuple[str, ...] = ("npy",)
    cloud: tuple[str, ...] = ("ply",)
    mesh: bool = False
    nearest: float | None = None
    farthest: float | None = None
    voxel: float | None = None
    normals: bool = False

    def __post_init__(self) -> None:
        for kind, names, known in (("depth", self.depth, DEPTH_FORMATS), ("cloud", self.cloud, CLOUD_FORMATS)):
            for name in names:
                if name not in known:
                    raise InputError(f"unknown {kind} format {name!r}", expected="any of " + ", ".join(known))
        if not self.depth:
            raise InputError("no format for the depth map", expected="any of " + ", ".join(DEPTH_FORMATS))
        for what, value in (("nearest", self.nearest), ("farthest", self.farthest), ("voxel", self.voxel)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{what} depth or size is {value} m", expected="a positive number of metres")
        if self.nearest is not None and self.farthest is not None and self.nearest > self.farthest:
            raise InputError(f"a depth range of {self.nearest:g} to {self.farthest:g} m", expected="nearest first")


def check_fits(depth: DepthMap, metres: Metres) -> DepthMap:
    """The depth inside the range asked for, before anything is written.

    Raises:
        InputError: nothing is left of it, or it is too deep for a PNG.
        LimitError: the voxels are too fine for the cloud.
    """
    chosen = depth.between(metres.nearest, metres.farthest)
    found = depth.depth[depth.valid]
    if not found.size:
        raise InputError("no pixel has a depth: none is valid", hint="Run depthlight doctor on the pair")
    if not chosen.valid.any():
        raise InputError(
            f"no pixel lies between {metres.nearest or 0:g} and {metres.farthest or float('inf'):g} m",
            expected=f"a range within what was found ({found.min():.3g} to {found.max():.3g} m)",
            hint="Check the calibration: its focal length, baseline and their units",
        )
    if "png" in metres.depth and depth_scale(float(chosen.depth.max())) is None:
        raise InputError(
            f"depths up to {chosen.depth.max():.3g} m do not fit a 16-bit PNG",
            hint="Give --max-depth, or another format",
        )
    if metres.cloud and metres.voxel is not None:
        chosen.cleaned().to_point_cloud().thinned(metres.voxel)  # raises if it cannot be done
    return chosen


def write_metres(
    folder: Path, depth: DepthMap, left_HW3: NDArray[np.uint8], metres: Metres
) -> tuple[list[str], dict[str, Any]]:
    """Write what ``metres`` asks for; returns the names of the files, and the facts for ``result.json``.

    Cloud and mesh are :meth:`DepthMap.cleaned`; the depth map is as it was found. Where cleaning leaves nothing, there
    is no such file, and the facts say 0 points or triangles.
    """
    files = [f"depth.{name}" for name in metres.depth]
    for name in files:
        depth.save(folder / name)
    files.append("depth.json")
    facts: dict[str, Any] = {
        "unit": "m",
        "depth_min": float(depth.depth[depth.valid].min()),
        "depth_median": float(np.median(depth.depth[depth.valid])),
        "depth_max": float(depth.depth.max()),
        "valid_share": float(depth.valid.mean()),
    }
    if depth.sigma is not None:
        write_float_map(folder / SIGMA, depth.sigma)
        files.append(SIGMA)
        facts["sigma_median"] = float(np.median(depth.sigma[depth.valid]))
    clean = depth.cleaned()
    facts["cleaned_share"] = 1 - float(clean.valid.sum() / depth.valid.sum())
    if metres.cloud:
        cloud = clean.to_point_cloud(left_HW3, with_normals=metres.normals)
        if metres.voxel is not None:
            cloud = cloud.thinned(metres.voxel)
        facts["points"] = len(cloud.points)
        for name in metres.cloud if len(cloud.points) else ():
            cloud.save(folder / f"cloud.{name}")
            files.append(f"cloud.{name}")
    if metres.mesh:
        mesh = depth.to_mesh(left_HW3)
        facts["triangles"] = len(mesh.faces)
        if len(mesh.faces):
            mesh.save(folder / MESH)
            files.append(MESH)
    return files, facts


def read_metres(folder: Path) -> DepthMap:
    """The depth of a prediction folder, with its rig and its uncertainty.

    Raises:
        InputError: the folder holds no depth, which needs a calibration.
        FileFormatError: a file is damaged, or does not go with the others.
    """
    path = next((folder / f"depth.{n}" for n in DEPTH_FORMATS if (folder / f"depth.{n}").is_file()), None)
    if path is None:
        known = (folder / "result.json").is_file()
        raise InputError(
            f"{folder} holds no depth" if known else f"{folder} is not a prediction folder",
            expected="a folder with depth.npy, which depthlight stereo writes",
            hint="There are no metres without a calibration: run depthlight stereo with --calib" if known else "",
        )
    stored = read_depth(path)
    rig = _rig(stored.meta, path)
    height, width = stored.depth_HW.shape
    sigma = read_npy(folder / SIGMA) if (folder / SIGMA).is_file() else None
    if sigma is not None and sigma.shape != (height, width):
        raise FileFormatError(f"{folder / SIGMA} has shape {sigma.shape}", expected=f"({height}, {width})")
    if sigma is not None and not (np.isfinite(sigma) & (sigma >= 0)).all():
        raise FileFormatError(f"{folder / SIGMA} has an uncertainty below 0 or not finite", expected="m >= 0")
    return DepthMap(stored.depth_HW, stored.valid_HW, rig.resized(width, height), sigma)


def _rig(meta: Mapping[str, Any], path: Path) -> StereoRig:
    values = meta.get("rig")
    if not isinstance(values, dict):
        raise FileFormatError(f"{path.with_suffix('.json')} states no rig", expected="the sidecar depthlight wrote")
    return from_dict(StereoRig, values, where=f"{path.with_suffix('.json').name}: rig.")
