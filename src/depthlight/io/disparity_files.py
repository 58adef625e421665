"""Disparity maps as files, each with a JSON sidecar; the format follows the suffix.

========  ================================================  ===========  ==================================
suffix    stored                                            invalid      error of a round trip
========  ================================================  ===========  ==================================
.png      uint16, round(d·scale); KITTI's scale of 256      0            at most half a step of 1/scale px;
          where the map fits, else the largest power of                  a valid disparity below half a
          two that does, stated in the PNG and the sidecar               step is stored as one step;
          signed: round((d - offset)·scale)                              signed: half a step
.pfm      float32 px, bottom row first                      inf          none
.tiff     float32 px                                        NaN          none
.npy      float32 px                                        NaN          none
========  ================================================  ===========  ==================================

The sidecar of ``disparity.png`` is ``disparity.json``. All formats of one map share it: it states the encoding of each.
Disparity is in px of the stated width and height, x_right = x_left - d, left view unless the sidecar says otherwise. It
is negative only in a map whose sidecar says ``"signed": true``; its PNG then has an offset, stated in the PNG and the
sidecar.
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
from .guard import DEFAULT_LIMITS, FileSource, ImageLimits
from .png16 import read_png16, write_png16
from .sidecar import read_sidecar, sidecar_text, stated_png_offset, stated_png_scale, stated_size

KITTI_SCALE = 256
DISPARITY_SUFFIXES = MAP_SUFFIXES
_SCALE_KEY = "depthlight:disparity_scale"
_OFFSET_KEY = "depthlight:disparity_offset"
_FLOAT_ENCODINGS = {
    "pfm": {"type": "float32", "invalid": "inf"},
    "tiff": {"type": "float32", "invalid": "nan"},
    "npy": {"type": "float32", "invalid": "nan"},
}


@dataclass(frozen=True)
class DisparityMap:
    """A map as read: ``disparity_HW`` float32 px, finite, 0 where invalid; ``valid_HW`` bool; the sidecar.

    Never negative unless the sidecar says ``"signed": true``.
    """

    disparity_HW: NDArray[np.float32]
    valid_HW: NDArray[np.bool_]
    meta: dict[str, Any] = field(default_factory=dict)


def write_disparity(
    path: str | os.PathLike[str],
    disparity_HW: NDArray[np.floating[Any]],
    *,
    valid_HW: NDArray[np.bool_] | None = None,
    meta: Mapping[str, Any] | None = None,
    sidecar: bool = True,
    signed: bool = False,
    view: str = "left",
) -> None:
    """Write a map atomically, the sidecar first, so that whoever sees the map finds its sidecar.

    Args:
        path: its suffix is the format: .png, .pfm, .tiff, .tif or .npy.
        disparity_HW: px; what it holds where ``valid_HW`` is false is not kept.
        valid_HW: default all true.
        meta: more for the sidecar (model, weights hash …); plain JSON values.
        sidecar: False writes the map alone; a PNG is then always at KITTI's scale.
        signed: the map may hold negative disparities, and the sidecar says so.
        view: whose disparity it is, for the sidecar.

    Raises:
        InputError: wrong shape, a negative disparity that is not ``signed``, ``signed`` without a sidecar, unknown
            suffix, or ``meta`` not plain.
        NonFiniteError: NaN or infinity at a valid pixel.
        LimitError: the map does not fit a 16-bit PNG (65535 px; 255.99 px without a sidecar).
        OutputError: cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in DISPARITY_SUFFIXES:
        raise InputError(
            f"unknown disparity format {path.name!r}", expected="a name ending in " + ", ".join(DISPARITY_SUFFIXES)
        )
    if signed and not sidecar:
        raise InputError(f"{path.name}: signed disparities need a sidecar that says so", hint="Leave it on")
    values_HW, valid_HW = checked_map(disparity_HW, valid_HW, path.name, what="disparity", unit="px", signed=signed)
    scale, offset, largest = _png_encoding(values_HW, valid_HW, signed=signed)
    if path.suffix.lower() == ".png" and scale != KITTI_SCALE and (scale is None or not sidecar):
        raise LimitError(
            f"{path.name}: disparity of {largest:.2f} px does not fit a 16-bit PNG",
            expected="at most 65535 px" if sidecar else "at most 255.99 px without a sidecar",
            hint="Write .npy, .pfm or .tiff" + ("" if sidecar else ", or a sidecar, which states a wider scale"),
        )
    if sidecar:
        facts = {"signed": True, **(meta or {})} if signed else meta or {}
        text = sidecar_text("disparity", "px", values_HW.shape, _encodings(scale, offset), facts, view=view)
        atomic_write_bytes(path.with_suffix(".json"), text.encode("utf-8"))
    _write_map(path, values_HW, valid_HW, scale or KITTI_SCALE, offset)


def read_disparity(path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_LIMITS) -> DisparityMap:
    """Read a map and, where there is one, its sidecar. Non-finite values (0 in a PNG) are invalid.

    Raises:
        ImageError: missing, or not the file its suffix says.
        LimitError: larger than ``limits``.
        FileFormatError: damaged, negative disparities without a sidecar that says ``signed``, or the sidecar
            contradicts the map.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in DISPARITY_SUFFIXES:
        raise FileFormatError(
            f"{path} is not a disparity file", expected="a name ending in " + ", ".join(DISPARITY_SUFFIXES)
        )
    meta = read_sidecar(path.with_suffix(".json"))
    if suffix == ".png":
        disparity_HW, valid_HW = decode_kitti_png(
            path, scale=stated_png_scale(meta), offset=stated_png_offset(meta), limits=limits
        )
    else:
        raw_HW = read_float_map(path, what="disparity", limits=limits)
        valid_HW = np.isfinite(raw_HW)
        disparity_HW = np.where(valid_HW, raw_HW, np.float32(0))
        if (disparity_HW < 0).any() and meta.get("signed") is not True:
            row, column = np.unravel_index(int(np.argmax(disparity_HW < 0)), disparity_HW.shape)
            raise FileFormatError(
                f"{path} has a negative disparity at row {row}, column {column}", expected="x_left - x_right >= 0"
            )
    stated_size(meta, disparity_HW.shape, path.name)
    return DisparityMap(disparity_HW, valid_HW, meta)


# 16-bit PNG


def rounded_to_png(disparity_HW: NDArray[np.float32], *, signed: bool = False) -> NDArray[np.float32]:
    """What a 16-bit PNG of the map (px, finite, all valid) reads back as; unchanged where it is too wide for one."""
    scale, offset, _ = _png_encoding(disparity_HW, np.ones(disparity_HW.shape, bool), signed=signed)
    if scale is None:
        return disparity_HW
    steps_HW = np.maximum(np.rint((disparity_HW - np.float32(offset)).astype(np.float64) * scale), 1)
    values_HW = (steps_HW.astype(np.uint16) / np.float32(scale)).astype(np.float32)
    return values_HW + np.float32(offset) if offset else values_HW


def _png_encoding(
    values_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_], *, signed: bool
) -> tuple[int | None, int, float]:
    """Scale (None: it does not fit) and offset of a map's PNG, and the largest number it has to hold, px."""
    # stored 0 is invalid, so the smallest lies a px above the offset
    offset = int(np.floor(values_HW.min(initial=0.0, where=valid_HW))) - 1 if signed else 0
    largest = float(values_HW.max(initial=0.0, where=valid_HW)) - offset
    return png_scale(largest), offset, largest


def png_scale(largest: float) -> int | None:
    """The largest power of two up to 256 with which ``largest`` px fits 16 bits; None above 65535 px."""
    for scale in (256, 128, 64, 32, 16, 8, 4, 2, 1):
        if round(largest * scale) <= 65535:
            return scale
    return None


def decode_kitti_png(
    source: FileSource,
    *,
    scale: float | None = None,
    offset: float | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(disparity px, valid) of a 16-bit PNG: value / scale + offset, 0 = invalid.

    The scale is ``scale``, the PNG's own, or 256; the offset ``offset``, the PNG's own, or 0.

    Raises:
        ImageError, LimitError: see :func:`depthlight.io.images.read_image`.
        FileFormatError: not 16-bit gray, or ``scale`` or ``offset`` is not the one written in the PNG.
    """
    return read_png16(
        source, _SCALE_KEY, KITTI_SCALE, scale=scale, offset_key=_OFFSET_KEY, offset=offset, limits=limits
    )


def _encodings(scale: int | None, offset: int) -> dict[str, Any]:
    if scale is None:
        return dict(_FLOAT_ENCODINGS)
    png: dict[str, Any] = {"type": "uint16", "scale": scale, "invalid": 0, "formula": "disparity = value / scale"}
    if offset:
        png |= {"offset": offset, "formula": "disparity = value / scale + offset"}
    return {**_FLOAT_ENCODINGS, "png": png}


def _write_map(
    path: Path, values_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_], scale: int, offset: int
) -> None:
    if path.suffix.lower() == ".png":
        texts = {_OFFSET_KEY: f"{offset}"} if offset else {}
        write_png16(path, values_HW - np.float32(offset), valid_HW, key=_SCALE_KEY, scale=scale, texts=texts)
    else:
        unknown = np.float32(np.inf if path.suffix.lower() == ".pfm" else np.nan)
        write_float_map(path, np.where(valid_HW, values_HW, unknown))
