"""Single images with depth, for evaluation: our own folder layout, and the left views of stereo scene folders.

::

    <root>/<name>/image.png               also .jpg, .jpeg, .webp
                  depth.png               16-bit, millimetres, 0 = no truth
                  mask.png                optional: above 0 where the truth counts
                  meta.json               optional: depth_scale (stored steps per metre, instead of 1000), max_depth
                                          (metres), fx, fy, cx, cy (px; fy = fx and the image's middle where missing)
    <root>/<name>/left.png  disp.png      a stereo scene (see depthlight.data.scenes); depth is fx·baseline/(d + doffs)
                  mask.png                optional, as above
                  calib.txt  meta.json    optional: the calibration; from meta.json fx, baseline_m and doffs

A stereo scene without a calibration has depth without a unit: width/(d + doffs), with doffs 0 where it is not stated.

Shapes: H, W image size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import FileFormatError, ImageError, InputError
from ..data.readers.base import check_size
from ..data.scenes import VIEW_SUFFIXES
from ..geometry.rig import StereoRig
from ..io.disparity_files import read_disparity
from ..io.images import read_image
from ..io.names import visible_folders
from ..io.png16 import read_png16
from .mono_shape import Intrinsics

MILLIMETRES = 1000.0
_SCALE_KEY = "depthlight:depth_scale"
_LAYOUT = "<name>/image.png with depth.png, or <name>/left.png with disp.png"


@dataclass(frozen=True, kw_only=True)
class DepthScene:
    """An image with the truth about its depth.

    Attributes:
        depth_HW: float64, 0 where there is no truth; metres, or without a unit.
        mask_HW: the mask file, if there is one.
        unit: ``"m"`` or ``"relative"``.
        intrinsics: fx, fy, cx, cy in px, if known.
        max_depth: the cap the scene states, metres.
    """

    name: str
    path: Path
    image_HW3: NDArray[np.uint8]
    depth_HW: NDArray[np.float64]
    mask_HW: NDArray[np.bool_] | None = None
    unit: Literal["m", "relative"] = "m"
    intrinsics: Intrinsics | None = None
    max_depth: float | None = None


class DepthScenes:
    """A folder of such folders, of one kind or of both.

    Args:
        root: the folder that holds them.
        names: those to take, in this order; by default all that have a truth, sorted by name.

    Raises:
        InputError: the folder is missing or holds nothing of the kind, or a name is not in it.
    """

    def __init__(self, root: str | os.PathLike[str], names: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        self.name = self.root.resolve().name
        if not self.root.is_dir():
            raise InputError(f"{self.root} is not a folder", expected=_LAYOUT, path=str(self.root))
        found = [folder.name for folder in visible_folders(self.root) if _truth_file(folder)]
        self._names = tuple(found) if names is None else tuple(names)
        unknown = [name for name in self._names if name not in found and not self._is_deeper(name)]
        if unknown:
            raise InputError(f"{self.root} holds no image with depth called {unknown[0]!r}", expected=_LAYOUT)
        if not self._names:
            raise InputError(f"{self.root} holds no image with depth", expected=_LAYOUT, path=str(self.root))

    def _is_deeper(self, name: str) -> bool:
        """Whether a listed name is a folder with a truth further down (``rooms/000024``), inside the root."""
        parts = PurePosixPath(name).parts
        return len(parts) > 1 and parts[0] != "/" and ".." not in parts and _truth_file(self.root / name) is not None

    def __len__(self) -> int:
        return len(self._names)

    def sample_name(self, index: int) -> str:
        """The folder's name, without reading it."""
        return self._names[index]

    def __getitem__(self, index: int) -> DepthScene:
        """Read one.

        Raises:
            DepthlightError: a file is missing, damaged or of another size than the image; names its path.
        """
        name = self._names[index]
        folder = self.root / name
        meta = _meta(folder / "meta.json")
        scene = _photo(folder, meta) if (folder / "depth.png").is_file() else _left_view(folder, meta)
        return replace(scene, name=name)


def _truth_file(folder: Path) -> Path | None:
    for stem, truth in (("image", "depth.png"), ("left", "disp.png")):
        if (folder / truth).is_file() and any((folder / f"{stem}{suffix}").is_file() for suffix in VIEW_SUFFIXES):
            return folder / truth
    return None


def _photo(folder: Path, meta: Mapping[str, Any]) -> DepthScene:
    image_HW3 = _image(folder, "image")
    file = folder / "depth.png"
    scale = _number(meta, "depth_scale", file, positive=True)
    depth_HW, valid_HW = read_png16(file, _SCALE_KEY, MILLIMETRES, scale=scale)
    check_size(file, depth_HW.shape, image_HW3.shape[:2])
    return DepthScene(
        name=folder.name,
        path=folder,
        image_HW3=image_HW3,
        depth_HW=np.where(valid_HW, depth_HW.astype(np.float64), 0.0),
        mask_HW=_mask(folder / "mask.png", depth_HW.shape),
        intrinsics=_intrinsics(meta, folder, depth_HW.shape),
        max_depth=_number(meta, "max_depth", folder, positive=True),
    )


def _left_view(folder: Path, meta: Mapping[str, Any]) -> DepthScene:
    image_HW3 = _image(folder, "left")
    truth = read_disparity(folder / "disp.png")
    height, width = truth.disparity_HW.shape
    check_size(folder / "disp.png", (height, width), image_HW3.shape[:2])
    calib = folder / "calib.txt"
    intrinsics: Intrinsics | None = None
    if calib.is_file():
        rig = StereoRig.from_file(calib).resized(width, height)
        intrinsics, gain, doffs = (rig.fx, rig.fy, rig.cx, rig.cy), rig.fx * rig.baseline, rig.doffs
    else:
        baseline = _number(meta, "baseline_m", folder, positive=True)
        stated = _number(meta, "doffs", folder)
        known = _intrinsics(meta, folder, (height, width))
        intrinsics = known if baseline is not None and stated is not None else None  # else depth's shape is not known
        gain = width if intrinsics is None or baseline is None else intrinsics[0] * baseline
        doffs = stated or 0.0
    total_HW = truth.disparity_HW.astype(np.float64) + doffs
    known_HW = truth.valid_HW & (total_HW > 0)
    return DepthScene(
        name=folder.name,
        path=folder,
        image_HW3=image_HW3,
        depth_HW=np.where(known_HW, gain / np.where(known_HW, total_HW, 1.0), 0.0),
        mask_HW=_mask(folder / "mask.png", (height, width)),
        unit="relative" if intrinsics is None else "m",
        intrinsics=intrinsics,
        max_depth=None if intrinsics is None else _number(meta, "max_depth", folder, positive=True),
    )


def _image(folder: Path, stem: str) -> NDArray[np.uint8]:
    for suffix in VIEW_SUFFIXES:
        if (path := folder / f"{stem}{suffix}").is_file():
            return read_image(path)
    raise ImageError(f"{folder / stem}.png does not exist", expected=_LAYOUT, path=str(folder))


def _mask(path: Path, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if not path.exists():
        return None
    mask_HW: NDArray[np.bool_] = read_image(path)[..., 0] > 0
    check_size(path, mask_HW.shape, size)
    return mask_HW


def _meta(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}", path=str(path)) from None
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} does not hold facts about a scene", expected="a JSON object", path=str(path))
    return content


def _intrinsics(meta: Mapping[str, Any], where: Path, size: tuple[int, ...]) -> Intrinsics | None:
    """``None`` without a focal length; what else is missing is fy = fx and the middle of the image."""
    fx, fy = (_number(meta, key, where, positive=True) for key in ("fx", "fy"))
    cx, cy = (_number(meta, key, where) for key in ("cx", "cy"))
    if fx is None:
        return None
    height, width = size
    return fx, fx if fy is None else fy, (width - 1) / 2 if cx is None else cx, (height - 1) / 2 if cy is None else cy


def _number(meta: Mapping[str, Any], key: str, where: Path, *, positive: bool = False) -> float | None:
    """The number under ``key``; ``None`` where it is absent or null."""
    value = meta.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise FileFormatError(f"{where}: {key} is {str(value)[:40]!r} in meta.json", expected="a finite number")
    if positive and value <= 0:
        raise FileFormatError(f"{where}: {key} is {value} in meta.json", expected="a positive number")
    return float(value)
