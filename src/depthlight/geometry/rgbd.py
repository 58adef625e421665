"""Colour and depth as the folders that RGB-D tools read: TUM, Open3D, nerfstudio.

==========  ======================================  ===========  =========================================
layout      files                                   depth PNG    camera
==========  ======================================  ===========  =========================================
tum         rgb/ depth/, rgb.txt, depth.txt,        5000 per m   intrinsics.json (Open3D's layout); the
            associations.txt                        (13.107 m)   frame's number is its time in seconds
open3d      color/ depth/, intrinsic.json           1000 per m   intrinsics column by column
                                                    (65.535 m)
nerfstudio  images/ depth/, transforms.json         1000 per m   per frame; OpenGL axes (x right, y up, z
                                                    (65.535 m)   backward); pixel centres at half numbers,
                                                                 so cx and cy are 0.5 larger than ours
==========  ======================================  ===========  =========================================

0 is "unknown" in every depth picture. ``export.json`` states layout, unit, scale, axes, frames, and whether the export
is ``whole``: it is written before each frame, so that what a failure leaves is known as ours, and once more at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DepthlightError, InputError, OutputError, UnknownNameError
from ..io.atomic import atomic_write_bytes
from ..io.depth_files import write_depth
from ..io.pictures import write_image
from ..io.text import read_text
from .depth import DepthMap
from .rig import StereoRig

MARKER = "export.json"
_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Frame:
    """One view: its name (of files), ``colour_HW3`` RGB uint8, its depth, and where the camera stood.

    ``pose`` is (4, 4): a point in camera axes (x right, y down, z forward, metres) to the world. Only nerfstudio's
    layout has room for it; by default the world has the camera's own OpenGL axes: the transform is the identity.
    """

    name: str
    colour_HW3: NDArray[np.uint8]
    depth: DepthMap
    pose: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class _Layout:
    colour: str
    scale: int
    one_camera: bool
    finish: Callable[[Path, list[dict[str, Any]]], None]


def export_rgbd(folder: str | os.PathLike[str], layout: str, frames: Iterable[Frame]) -> list[str]:
    """Write ``frames`` into ``folder`` (an earlier export there is removed); returns their names.

    Raises:
        UnknownNameError: no such layout.
        InputError: no frame, two of one name or one that is no file name, a colour image of another size, a pose that
            is not (4, 4), frames of different cameras where the layout has room for one, or ``folder`` holds something
            else.
        LimitError: a depth beyond what the layout's PNG holds; nothing is clipped.
        OutputError: cannot be written.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("export", layout, LAYOUTS)
    how, folder = LAYOUTS[layout], Path(folder)
    _clear(folder, layout)
    records: list[dict[str, Any]] = []
    for frame in frames:
        _check(frame, records, layout)
        _mark(folder, layout, [*(record["name"] for record in records), frame.name], whole=False)
        colour, depth = f"{how.colour}/{frame.name}.png", f"depth/{frame.name}.png"
        write_depth(folder / depth, frame.depth.depth, valid_HW=frame.depth.valid, png_scale=how.scale, sidecar=False)
        write_image(folder / colour, frame.colour_HW3)
        pose = _TO_OPENGL if frame.pose is None else frame.pose
        records.append({"name": frame.name, "colour": colour, "depth": depth, "rig": frame.depth.rig, "pose": pose})
    if not records:
        raise InputError("no frame to export", expected="at least one result with depth")
    how.finish(folder, records)
    names = [record["name"] for record in records]
    _mark(folder, layout, names, whole=True)
    return names


def need_replaceable(folder: Path, layout: str) -> None:
    """Refuse a folder that holds something else than an export of ours in this layout, whole or not.

    Raises:
        InputError: names the folder.
    """
    free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not free and _frames_of(folder, layout) is None:
        raise InputError(
            f"{folder} holds something else than a {layout} export", hint="Remove it, or choose another folder"
        )


def _mark(folder: Path, layout: str, names: list[str], *, whole: bool) -> None:
    _write_json(
        folder / MARKER,
        {
            "layout": layout,
            "unit": "m",
            "depth_scale": LAYOUTS[layout].scale,
            "formula": "depth = value / depth_scale; 0 = unknown",
            "axes": "x right, y up, z backward" if layout == "nerfstudio" else "x right, y down, z forward",
            "frames": names,
            "whole": whole,
        },
    )


def _check(frame: Frame, before: list[dict[str, Any]], layout: str) -> None:
    height, width = frame.depth.depth.shape
    if frame.colour_HW3.shape != (height, width, 3):
        raise InputError(
            f"{frame.name}: the colour image has shape {frame.colour_HW3.shape}", expected=f"({height}, {width}, 3)"
        )
    if frame.pose is not None and (frame.pose.shape != (4, 4) or not np.isfinite(frame.pose).all()):
        raise InputError(f"{frame.name}: the pose has shape {frame.pose.shape}", expected="(4, 4) finite numbers")
    if Path(frame.name).name != frame.name:
        raise InputError(f"a frame is called {frame.name[:80]!r}", expected="a file name without folders")
    if any(record["name"] == frame.name for record in before):
        raise InputError(f"two frames are called {frame.name!r}", expected="different names")
    if LAYOUTS[layout].one_camera and before and before[0]["rig"] != frame.depth.rig:
        raise InputError(
            f"{frame.name} was taken with another camera than {before[0]['name']}",
            expected=f"one camera in a {layout} folder",
            hint="Export nerfstudio, which has intrinsics for each frame",
        )


def _tum(folder: Path, records: list[dict[str, Any]]) -> None:
    """Freiburg's layout: vision.in.tum.de/data/datasets/rgbd-dataset/file_formats."""
    times = [f"{index:.6f}" for index in range(len(records))]
    for name, key in (("rgb.txt", "colour"), ("depth.txt", "depth")):
        lines = [f"{time} {record[key]}" for time, record in zip(times, records, strict=True)]
        atomic_write_bytes(folder / name, ("\n".join(["# timestamp filename", *lines]) + "\n").encode())
    pairs = [f"{time} {record['colour']} {time} {record['depth']}" for time, record in zip(times, records, strict=True)]
    atomic_write_bytes(folder / "associations.txt", ("\n".join(pairs) + "\n").encode())
    _write_json(folder / "intrinsics.json", _open3d_intrinsics(records[0]["rig"]))


def _open3d(folder: Path, records: list[dict[str, Any]]) -> None:
    _write_json(folder / "intrinsic.json", _open3d_intrinsics(records[0]["rig"]))


def _open3d_intrinsics(rig: StereoRig) -> dict[str, Any]:
    """As Open3D writes PinholeCameraIntrinsic: the matrix column by column."""
    matrix = [rig.fx, 0.0, 0.0, 0.0, rig.fy, 0.0, rig.cx, rig.cy, 1.0]
    return {"width": rig.width, "height": rig.height, "intrinsic_matrix": matrix}


def _nerfstudio(folder: Path, records: list[dict[str, Any]]) -> None:
    """docs.nerf.studio/quickstart/data_conventions.html."""
    frames = []
    for record in records:
        rig = record["rig"]
        frames.append(
            {
                "file_path": record["colour"],
                "depth_file_path": record["depth"],
                "transform_matrix": (record["pose"] @ _TO_OPENGL).tolist(),
                "w": rig.width,
                "h": rig.height,
                "fl_x": rig.fx,
                "fl_y": rig.fy,
                "cx": rig.cx + 0.5,
                "cy": rig.cy + 0.5,
            }
        )
    distortion = {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    _write_json(folder / "transforms.json", {"camera_model": "OPENCV", **distortion, "frames": frames})


def _clear(folder: Path, layout: str) -> None:
    """Remove the frames of an earlier export; anything else stays and is an error."""
    need_replaceable(folder, layout)
    frames = _frames_of(folder, layout)
    if not frames:
        return
    _mark(folder, layout, frames, whole=False)
    try:
        for kind in (LAYOUTS[layout].colour, "depth"):
            for name in frames:
                (folder / kind / f"{name}.png").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove the earlier export {folder}: {error.strerror or error}") from error


def _frames_of(folder: Path, layout: str) -> list[str] | None:
    """Names of the frames of an earlier export; None if it is not one of ours."""
    try:
        marker = json.loads(read_text(folder / MARKER, what="an export", max_bytes=64 * 2**20))
        frames = marker["frames"] if marker["layout"] == layout else None
    except (DepthlightError, ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(frames, list) or not all(isinstance(name, str) and Path(name).name == name for name in frames):
        return None
    return frames


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


LAYOUTS: Mapping[str, _Layout] = {
    "tum": _Layout("rgb", 5000, True, _tum),
    "open3d": _Layout("color", 1000, True, _open3d),
    "nerfstudio": _Layout("images", 1000, False, _nerfstudio),
}
