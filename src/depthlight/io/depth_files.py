"""Depth maps as files, each with a JSON sidecar; the format follows the suffix.

========  ===============================================  =========================================
suffix    stored                                           error of a round trip
========  ===============================================  =========================================
.png      uint16, round(z·scale); millimetres where the    at most half a step of 1/scale m; a valid
          map fits (65.535 m), else the finest step of     depth below half a step is stored as one
          2, 5, 10, 20 … mm that does, stated in the PNG   step
          and the sidecar
.pfm      float32 m, bottom row first                      none
.tiff     float32 m                                        none
.npy      float32 m                                        none
========  ===============================================  =========================================

0 is "unknown" in every format. The sidecar of ``depth.png`` is ``depth.json``; all formats of one map share it. Depth
is metres along the optical axis of the camera (of a pair: the left one), at the stated width and height.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import FileFormatError, InputError, LimitError
from .atomic import atomic_write_bytes
from .float_maps import MAP_SUFFIXES, checked_map, read_float_map, write_float_map
from .guard import DEFAULT_LIMITS, ImageLimits
from .png16 import read_png16, write_png16
from .sidecar import read_sidecar, sidecar_text, stated_png_scale, stated_size

MILLIMETRES = 1000
DEPTH_SUFFIXES = MAP_SUFFIXES
_SCALES = (1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)  # steps per metre
_SCALE_KEY = "depthlight:depth_scale"
_LARGEST = 65535


@dataclass(frozen=True)
class DepthFile:
    """A map as read: ``depth_HW`` float32 m (0 where invalid); ``valid_HW`` bool; ``meta``, its sidecar."""

    depth_HW: NDArray[np.float32]
    valid_HW: NDArray[np.bool_]
    meta: dict[str, Any] = field(default_factory=dict)


def write_depth(
    path: str | os.PathLike[str],
    depth_HW: NDArray[np.floating[Any]],
    *,
    valid_HW: NDArray[np.bool_] | None = None,
    meta: Mapping[str, Any] | None = None,
    view: str | None = "left",
    png_scale: int | None = None,
    sidecar: bool = True,
) -> None:
    """Write a map atomically, the sidecar first, so that whoever sees the map finds its sidecar.

    Args:
        path: its suffix is the format: .png, .pfm, .tiff, .tif or .npy.
        depth_HW: m; what it holds where it is not valid is stored as 0.
        valid_HW: by default where the depth is above 0.
        meta: more for the sidecar (intrinsics, model …); plain JSON values.
        view: of a pair, for the sidecar; None for a single photo.
        png_scale: steps per metre of a PNG, exactly; by default the finest that fits.
        sidecar: False writes the map alone; a PNG then holds millimetres unless ``png_scale`` is given.

    Raises:
        InputError: wrong shape, a depth that is not positive where valid, unknown suffix, ``png_scale`` below 1, or
            ``meta`` not plain.
        NonFiniteError: NaN or infinity at a valid pixel.
        LimitError: the map does not fit a 16-bit PNG at this scale. Nothing is ever clipped.
        OutputError: cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise InputError(
            f"unknown depth format {path.name!r}", expected="a name ending in " + ", ".join(DEPTH_SUFFIXES)
        )
    if png_scale is not None and png_scale < 1:
        raise InputError(f"{path.name}: {png_scale} steps per metre", expected="1 or more")
    given_HW = np.nan_to_num(depth_HW) > 0 if valid_HW is None else valid_HW
    values_HW, valid_HW = checked_map(depth_HW, given_HW, path.name, what="depth", unit="m")
    if (values_HW[valid_HW] == 0).any():
        raise InputError(f"{path.name}: a depth of 0 m is marked valid", expected="depths above 0")
    largest = float(values_HW.max(initial=0.0))
    scale = png_scale or (depth_scale(largest) if sidecar else MILLIMETRES)
    if suffix == ".png":
        scale = _fitting(scale, values_HW, path.name)
    if sidecar:
        text = sidecar_text("depth", "m", values_HW.shape, _encodings(scale), meta or {}, view=view)
        atomic_write_bytes(path.with_suffix(".json"), text.encode("utf-8"))
    if suffix == ".png":
        write_png16(path, values_HW, valid_HW, key=_SCALE_KEY, scale=scale or MILLIMETRES)
    else:
        write_float_map(path, values_HW)


def read_depth(path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_LIMITS) -> DepthFile:
    """Read a map and, where there is one, its sidecar. 0 and non-finite values are invalid.

    A PNG takes its scale from its own text chunk or the sidecar; where neither states one, it is millimetres.

    Raises:
        ImageError: missing, or not the file its suffix says.
        LimitError: larger than ``limits``.
        FileFormatError: damaged, negative depths, or the sidecar contradicts the map or is about something else.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise FileFormatError(f"{path} is not a depth file", expected="a name ending in " + ", ".join(DEPTH_SUFFIXES))
    meta = read_sidecar(path.with_suffix(".json"), "depth", "m")
    if suffix == ".png":
        depth_HW, valid_HW = read_png16(path, _SCALE_KEY, MILLIMETRES, scale=stated_png_scale(meta), limits=limits)
    else:
        raw_HW = read_float_map(path, what="depth", limits=limits)
        valid_HW = np.isfinite(raw_HW) & (raw_HW != 0)
        depth_HW = np.where(valid_HW, raw_HW, np.float32(0))
        if (depth_HW < 0).any():
            row, column = np.unravel_index(int(np.argmax(depth_HW < 0)), depth_HW.shape)
            raise FileFormatError(f"{path} has a negative depth at row {row}, column {column}", expected="m > 0")
    stated_size(meta, depth_HW.shape, path.name)
    return DepthFile(depth_HW, valid_HW, meta)


def depth_scale(largest: float) -> int | None:
    """The finest of 1000, 500, 200 … 1 steps per metre with which ``largest`` m fits 16 bits; None above 65535 m."""
    return next((scale for scale in _SCALES if round(largest * scale) <= _LARGEST), None)


def _fitting(scale: int | None, values_HW: NDArray[np.float32], name: str) -> int:
    """``scale``, if all values fit 16 bits with it."""
    limit = _LARGEST / (scale or 1)
    largest = float(values_HW.max())
    if scale is None or round(largest * scale) > _LARGEST:
        share = 100 * float((values_HW > limit).mean())
        raise LimitError(
            f"{name}: {share:.2g} % of the pixels are deeper than a 16-bit PNG with {scale or 1} steps per metre holds "
            f"(up to {largest:.6g} m)",
            expected=f"at most {limit:.6g} m",
            hint="Leave far pixels out with a largest depth, or write .npy, .pfm or .tiff",
        )
    return scale


def _encodings(scale: int | None) -> dict[str, Any]:
    encodings: dict[str, Any] = {name: {"type": "float32", "invalid": 0} for name in ("pfm", "tiff", "npy")}
    if scale is not None:
        encodings["png"] = {"type": "uint16", "scale": scale, "invalid": 0, "formula": "depth = value / scale"}
    return encodings
