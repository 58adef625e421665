"""Relative inverse depth as files: ``.png`` and ``.npy``, with a JSON sidecar.

A PNG holds 16 bits per pixel, ``inverse_depth = value · scale + offset``, with 0 the smallest value of the map and
65535 the largest, so that nothing is clipped; scale and offset stand in the sidecar and in the PNG itself. The error of
a round trip is at most half a ``scale``. Every pixel is known. The values have no unit: they are right up to a scale
and a shift, larger is nearer, and nothing here turns them into metres.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..core.errors import FileFormatError, InputError
from .atomic import atomic_path, atomic_write_bytes
from .float_maps import checked_map, read_float_map, write_float_map
from .guard import DEFAULT_LIMITS, ImageLimits, guarded, open_plugin, opened, sniff
from .sidecar import read_sidecar, sidecar_text

SPACE, UNIT = "relative inverse depth", "none (affine-ambiguous)"
INVERSE_SUFFIXES = (".png", ".npy")
_SCALE_KEY, _OFFSET_KEY = "depthlight:inverse_depth_scale", "depthlight:inverse_depth_offset"
_LARGEST = 65535


def write_inverse_depth(
    path: str | os.PathLike[str], values_HW: NDArray[np.floating[Any]], *, meta: Mapping[str, Any] | None = None
) -> None:
    """Write a map atomically, the sidecar (``name.json``) first; both formats of one map share it.

    Raises:
        InputError: not (H, W), a negative value, an unknown suffix, or ``meta`` is not plain.
        NonFiniteError: NaN or infinity.
        OutputError: cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in INVERSE_SUFFIXES:
        raise InputError(f"unknown format {path.name!r}", expected="a name ending in " + ", ".join(INVERSE_SUFFIXES))
    every_HW = np.ones(np.shape(values_HW), np.bool_)
    plain_HW, _ = checked_map(values_HW, every_HW, path.name, what="relative inverse depth", unit="")
    low, high = float(plain_HW.min()), float(plain_HW.max())
    scale = (high - low) / _LARGEST or 1.0
    encodings = {
        "png": {"type": "uint16", "scale": scale, "offset": low, "formula": "inverse_depth = value * scale + offset"},
        "npy": {"type": "float32"},
    }
    text = sidecar_text(SPACE, UNIT, plain_HW.shape, encodings, meta or {}, view=None)
    atomic_write_bytes(path.with_suffix(".json"), text.encode("utf-8"))
    if path.suffix.lower() == ".npy":
        write_float_map(path, plain_HW)
        return
    stored_HW = np.rint((plain_HW.astype(np.float64) - low) / scale).clip(0, _LARGEST).astype(np.uint16)
    info = PngImagePlugin.PngInfo()
    info.add_text(_SCALE_KEY, repr(scale))
    info.add_text(_OFFSET_KEY, repr(low))
    with atomic_path(path) as temporary:
        Image.fromarray(stored_HW).save(temporary, format="PNG", pnginfo=info)


def read_inverse_depth(
    path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The map (H, W) float32 and its sidecar (empty where there is none).

    Raises:
        ImageError, LimitError: see :func:`depthlight.io.images.read_image`.
        FileFormatError: the PNG states no scale, the file is damaged, or its sidecar is about something else.
    """
    path = Path(path)
    if path.suffix.lower() not in INVERSE_SUFFIXES:
        raise InputError(f"unknown format {path.name!r}", expected="a name ending in " + ", ".join(INVERSE_SUFFIXES))
    meta = read_sidecar(path.with_suffix(".json"), SPACE, UNIT)
    if path.suffix.lower() == ".npy":
        return read_float_map(path, what=SPACE, limits=limits), meta
    with opened(path, limits, "") as (stream, label), guarded(label):
        if sniff(stream, label, limits) != "PNG":
            raise FileFormatError(f"{label} is not a PNG", expected="a 16-bit gray PNG")
        open_plugin(stream, "PNG", label, limits).verify()
        image = open_plugin(stream, "PNG", label, limits)
        image.load()
        stored_HW = np.asarray(image)
        try:
            scale, offset = float(image.info[_SCALE_KEY]), float(image.info[_OFFSET_KEY])
        except (KeyError, ValueError):
            raise FileFormatError(
                f"{label} states no scale and offset", expected="a map that depthlight wrote"
            ) from None
    return (stored_HW.astype(np.float64) * scale + offset).astype(np.float32), meta
