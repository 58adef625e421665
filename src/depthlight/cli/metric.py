"""Options of ``stereo`` about what is written in metres, and the export of RGB-D folders after a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ..core.errors import InputError, UnknownNameError
from ..geometry.rgbd import LAYOUTS, Frame, export_rgbd
from ..infer.metres import Metres, read_metres

DepthOption = Annotated[
    str | None, typer.Option("--depth", help="Depth as npy (default), png (16-bit), pfm, tiff; comma-separated.")
]
CloudOption = Annotated[
    str | None, typer.Option("--cloud", help="Cloud as ply (default), pcd, glb; comma-separated, or none.")
]
MeshOption = Annotated[bool, typer.Option("--mesh", help="Also a textured mesh, mesh.glb.")]
MinDepthOption = Annotated[float | None, typer.Option("--min-depth", help="Leave out what is nearer, m.")]
MaxDepthOption = Annotated[float | None, typer.Option("--max-depth", help="Leave out what is farther, m.")]
VoxelOption = Annotated[float | None, typer.Option("--voxel", help="One point of the cloud per cube of this side, m.")]
NormalsOption = Annotated[bool, typer.Option("--normals", help="Normals in the cloud (ply, pcd).")]
ExportOption = Annotated[
    str | None, typer.Option("--export", help="Also an RGB-D folder OUT/<layout>/: tum, open3d or nerfstudio.")
]


def metres_from(
    calibrated: bool,
    *,
    depth: str | None,
    cloud: str | None,
    mesh: bool,
    nearest: float | None,
    farthest: float | None,
    voxel: float | None,
    normals: bool,
    export: str | None,
) -> Metres:
    """The options as :class:`Metres`.

    Raises:
        InputError: something in metres is asked for without a calibration, or a value is not allowed.
        UnknownNameError: no such export.
    """
    asked = {
        "--depth": depth is not None,
        "--cloud": cloud is not None,
        "--mesh": mesh,
        "--min-depth": nearest is not None,
        "--max-depth": farthest is not None,
        "--voxel": voxel is not None,
        "--normals": normals,
        "--export": export is not None,
    }
    first = next((option for option, used in asked.items() if used), None)
    if first is not None and not calibrated:
        raise InputError(f"{first} needs --calib", hint="There are no metres without a calibration")
    if export is not None and export not in LAYOUTS:
        raise UnknownNameError("export", export, LAYOUTS)
    return Metres(
        depth=_names(depth or "npy"),
        cloud=() if cloud == "none" else _names(cloud or "ply"),
        mesh=mesh,
        nearest=nearest,
        farthest=farthest,
        voxel=voxel,
        normals=normals,
    )


def need_outside(folder: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse to export into a folder from which an input comes: it would be replaced.

    Raises:
        InputError: names the file.
    """
    for path in inputs:
        if path is not None and folder.resolve() in path.resolve().parents:
            raise InputError(f"{path} is an input and lies in {folder}, which the export replaces")


def export_results(layout: str, out: Path, results: Iterable[tuple[str, Path, NDArray[np.uint8]]]) -> list[str]:
    """Write OUT/<layout>/ from finished results: (name, prediction folder, left image); cleaned as the cloud is.

    Raises:
        InputError, LimitError, OutputError: see :func:`depthlight.geometry.rgbd.export_rgbd`.
    """
    frames = (Frame(name, left_HW3, read_metres(folder).cleaned()) for name, folder, left_HW3 in results)
    return export_rgbd(out / layout, layout, frames)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
