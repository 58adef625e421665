"""Disparity maps as files, each with a JSON sidecar; the format follows the suffix.

========  ================================================  ===========  ==================================
suffix    stored                                            invalid      error of a round trip
========  ================================================  ===========  ==================================
.png      uint16, round(d·scale); KITTI's scale of 256      0            at most half a step of 1/scale px;
          where the map fits, else the largest power of                  a valid disparity below half a
          two that does, stated in the PNG and the sidecar               step is stored as one step
.pfm      float32 px, bottom row first                      inf          none
.tiff     float32 px                                        NaN          none
.npy      float32 px                                        NaN          none
========  ================================================  ===========  ==================================

The sidecar of ``disparity.png`` is ``disparity.json``. All formats of one map share it: it states the encoding of each.
Disparity is in px of the stated width and height, left view, x_right = x_left - d, never negative.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..core.errors import DepthlightError, FileFormatError, InputError, LimitError, NonFiniteError
from .atomic import atomic_path, atomic_write_bytes
from .guard import DEFAULT_LIMITS, FileSource, ImageLimits, check_size, guarded, open_plugin, opened, sniff
from .pfm import read_pfm, write_pfm

KITTI_SCALE = 256
DISPARITY_SUFFIXES = (".png", ".pfm", ".tiff", ".tif", ".npy")
_SCALE_KEY = "depthlight:disparity_scale"
_OWN_KEYS = ("space", "unit", "view", "width", "height", "encodings")
_MAX_SIDECAR_BYTES = 2**20


@dataclass(frozen=True)
class DisparityMap:
    """A map as read: ``disparity_HW`` float32 px, finite and >= 0 (0 where invalid); ``valid_HW`` bool; the sidecar."""

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
) -> None:
    """Write a map atomically, the sidecar first, so that whoever sees the map finds its sidecar.

    Args:
        path: its suffix is the format: .png, .pfm, .tiff, .tif or .npy.
        disparity_HW: px; what it holds where ``valid_HW`` is false is not kept.
        valid_HW: default all true.
        meta: more for the sidecar (model, weights hash …); plain JSON values.
        sidecar: False writes the map alone; a PNG is then always at KITTI's scale.

    Raises:
        InputError: wrong shape, a negative disparity, unknown suffix, or ``meta`` not plain.
        NonFiniteError: NaN or infinity at a valid pixel.
        LimitError: the map does not fit a 16-bit PNG (65535 px; 255.99 px without a sidecar).
        OutputError: cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in DISPARITY_SUFFIXES:
        raise InputError(
            f"unknown disparity format {path.name!r}", expected="a name ending in " + ", ".join(DISPARITY_SUFFIXES)
        )
    values_HW, valid_HW = _checked(disparity_HW, valid_HW, path.name)
    largest = float(values_HW.max(initial=0.0, where=valid_HW))
    scale = png_scale(largest)
    if path.suffix.lower() == ".png" and scale != KITTI_SCALE and (scale is None or not sidecar):
        raise LimitError(
            f"{path.name}: disparity of {largest:.2f} px does not fit a 16-bit PNG",
            expected="at most 65535 px" if sidecar else "at most 255.99 px without a sidecar",
            hint="Write .npy, .pfm or .tiff" + ("" if sidecar else ", or a sidecar, which states a wider scale"),
        )
    if sidecar:
        text = _sidecar_text(values_HW.shape, scale, meta or {})
        atomic_write_bytes(path.with_suffix(".json"), text.encode("utf-8"))
    _write_map(path, values_HW, valid_HW, scale or KITTI_SCALE)


def read_disparity(path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_LIMITS) -> DisparityMap:
    """Read a map and, where there is one, its sidecar. Non-finite values (0 in a PNG) are invalid.

    Raises:
        ImageError: missing, or not the file its suffix says.
        LimitError: larger than ``limits``.
        FileFormatError: damaged, negative disparities, or the sidecar contradicts the map.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in DISPARITY_SUFFIXES:
        raise FileFormatError(
            f"{path} is not a disparity file", expected="a name ending in " + ", ".join(DISPARITY_SUFFIXES)
        )
    meta = read_sidecar(path.with_suffix(".json"))
    if suffix == ".png":
        disparity_HW, valid_HW = decode_kitti_png(path, scale=_png_scale_in(meta), limits=limits)
    else:
        raw_HW = {".pfm": read_pfm, ".npy": read_npy}.get(suffix, read_float_tiff)(path, limits=limits)
        if raw_HW.ndim != 2:
            raise FileFormatError(f"{path} has {raw_HW.shape[2]} channels", expected="one: a disparity map")
        valid_HW = np.isfinite(raw_HW)
        disparity_HW = np.where(valid_HW, raw_HW, np.float32(0))
        if (disparity_HW < 0).any():
            row, column = np.unravel_index(int(np.argmax(disparity_HW < 0)), disparity_HW.shape)
            raise FileFormatError(
                f"{path} has a negative disparity at row {row}, column {column}", expected="x_left - x_right >= 0"
            )
    height, width = disparity_HW.shape
    if meta and (meta.get("width"), meta.get("height")) != (width, height):
        raise FileFormatError(
            f"{path.name} is {width}×{height} but its sidecar says {meta.get('width')}×{meta.get('height')}",
            expected="a sidecar written with the map",
        )
    return DisparityMap(disparity_HW, valid_HW, meta)


# 16-bit PNG


def png_scale(largest: float) -> int | None:
    """The largest power of two up to 256 with which ``largest`` px fits 16 bits; None above 65535 px."""
    for scale in (256, 128, 64, 32, 16, 8, 4, 2, 1):
        if round(largest * scale) <= 65535:
            return scale
    return None


def decode_kitti_png(
    source: FileSource, *, scale: float | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(disparity px, valid) of a 16-bit PNG: value / scale, 0 = invalid. The scale is ``scale``, the PNG's own, or 256.

    Raises:
        ImageError, LimitError: see :func:`depthlight.io.images.read_image`.
        FileFormatError: not 16-bit gray, or ``scale`` is not the one written in the PNG.
    """
    with opened(source, limits, "") as (stream, label), guarded(label):
        image = _checked_png(stream, label, limits)
        image.load()
        own = image.info.get(_SCALE_KEY)
        stored_HW = np.asarray(image).astype(np.uint16)
    if own is not None and scale is not None and float(own) != scale:
        raise FileFormatError(f"{label} was written with scale {own}", expected=f"{scale:g}, as its sidecar says")
    divisor = float(own) if own is not None else (scale or float(KITTI_SCALE))
    if not 0 < divisor < float("inf"):
        raise FileFormatError(f"{label} states a scale of {divisor}", expected="a positive number")
    return (stored_HW / np.float32(divisor)).astype(np.float32), stored_HW > 0


def _checked_png(stream: BinaryIO, label: str, limits: ImageLimits) -> Image.Image:
    """A 16-bit gray PNG with good checksums, not yet decoded."""
    if sniff(stream, label, limits) != "PNG":
        raise FileFormatError(f"{label} is not a PNG", expected="a 16-bit gray PNG")
    open_plugin(stream, "PNG", label, limits).verify()
    image = open_plugin(stream, "PNG", label, limits)
    if not (image.mode.startswith("I;16") or image.mode == "I"):  # before Pillow 11: "I"
        raise FileFormatError(
            f"{label} is a PNG of mode {image.mode}", expected="a 16-bit gray PNG (KITTI: round(d·256))"
        )
    return image


def _write_png(path: Path, values_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_], scale: int) -> None:
    steps_HW = np.rint(values_HW.astype(np.float64) * scale)
    stored_HW = np.where(valid_HW, np.maximum(steps_HW, 1), 0).astype(np.uint16)
    info = PngImagePlugin.PngInfo()
    info.add_text(_SCALE_KEY, str(scale))
    with atomic_path(path) as temporary:
        Image.fromarray(stored_HW).save(temporary, format="PNG", pnginfo=info)


# Float formats


def read_npy(source: FileSource, *, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """An (H, W) float array of a .npy file; its header is checked against the file before anything is allocated.

    Raises:
        ImageError, LimitError: missing or too large.
        FileFormatError: not .npy, another shape or type, not the bytes the header states, or beyond float32.
    """
    with opened(source, limits, "") as (stream, label):
        try:
            version = np.lib.format.read_magic(stream)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = reader(stream)
        except Exception as error:  # numpy parses the header as a Python literal; anything may be wrong in it
            raise FileFormatError(
                f"{label} is not a valid .npy file", expected="a float array of shape (H, W)"
            ) from error
        if len(shape) != 2 or dtype.kind != "f" or dtype.itemsize > 8:
            raise FileFormatError(f"{label} holds {dtype} of shape {shape}", expected="float32 of shape (H, W)")
        check_size(shape[1], shape[0], label, limits)
        data = stream.read()
    needed = shape[0] * shape[1] * dtype.itemsize
    if len(data) != needed:
        raise FileFormatError(f"{label} has {len(data):,} bytes of values", expected=f"{needed:,} as its header states")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return _as_float32(values, label)


def read_float_tiff(source: FileSource, *, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """An (H, W) float32 TIFF.

    Raises:
        ImageError, LimitError: see :func:`depthlight.io.images.read_image`.
        FileFormatError: not a TIFF of one float32 channel.
    """
    with opened(source, limits, "") as (stream, label), guarded(label):
        image = open_plugin(stream, "TIFF", label, limits) if sniff(stream, label, limits) == "TIFF" else None
        if image is None or image.mode != "F":
            raise FileFormatError(f"{label} is not a float TIFF", expected="a TIFF with one float32 channel")
        image.load()
        return np.asarray(image).astype(np.float32)


def _write_map(path: Path, values_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_], scale: int) -> None:
    suffix = path.suffix.lower()
    if suffix == ".png":
        _write_png(path, values_HW, valid_HW, scale)
    elif suffix == ".pfm":
        write_pfm(path, np.where(valid_HW, values_HW, np.float32(np.inf)))
    else:
        marked_HW = np.where(valid_HW, values_HW, np.float32(np.nan))
        with atomic_path(path) as temporary:
            if suffix == ".npy":
                np.save(temporary, marked_HW, allow_pickle=False)
            else:
                Image.fromarray(marked_HW).save(temporary, format="TIFF")


def _as_float32(values: NDArray[Any], label: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if (np.isinf(narrow) & np.isfinite(values)).any():
        raise FileFormatError(f"{label} has values beyond float32", expected="disparities in px")
    return narrow


def _checked(
    disparity_HW: NDArray[Any], valid_HW: NDArray[np.bool_] | None, label: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    if disparity_HW.ndim != 2 or disparity_HW.size == 0 or disparity_HW.dtype.kind != "f":
        raise InputError(
            f"{label}: disparity is {disparity_HW.dtype} of shape {disparity_HW.shape}",
            expected="float of shape (H, W)",
        )
    valid_HW = np.ones(disparity_HW.shape, np.bool_) if valid_HW is None else valid_HW
    if valid_HW.shape != disparity_HW.shape or valid_HW.dtype != np.bool_:
        raise InputError(
            f"{label}: valid is {valid_HW.dtype} of shape {valid_HW.shape}",
            expected=f"bool of shape {disparity_HW.shape}",
        )
    with np.errstate(over="ignore"):
        values_HW = disparity_HW.astype(np.float32)
    for bad_HW, what, error in (
        (~np.isfinite(values_HW) & valid_HW, "a non-finite disparity", NonFiniteError),
        ((values_HW < 0) & valid_HW, "a negative disparity", InputError),
    ):
        if bad_HW.any():
            row, column = (int(i) for i in np.unravel_index(int(np.argmax(bad_HW)), bad_HW.shape))
            raise error(
                f"{label}: {what} ({disparity_HW[row, column]}) at row {row}, column {column}",
                expected="finite px >= 0, or the pixel marked invalid",
                row=row,
                column=column,
            )
    return np.where(valid_HW, values_HW, np.float32(0)), valid_HW


# Sidecar


def _sidecar_text(shape: tuple[int, ...], scale: int | None, meta: Mapping[str, Any]) -> str:
    taken = sorted(set(meta) & set(_OWN_KEYS))
    if taken:
        raise InputError(f"meta has {taken[0]!r}, which the sidecar states itself", expected="other keys")
    encodings: dict[str, Any] = {
        "pfm": {"type": "float32", "invalid": "inf"},
        "tiff": {"type": "float32", "invalid": "nan"},
        "npy": {"type": "float32", "invalid": "nan"},
    }
    if scale is not None:
        encodings["png"] = {"type": "uint16", "scale": scale, "invalid": 0, "formula": "disparity = value / scale"}
    content = {
        "space": "disparity",
        "unit": "px",
        "view": "left",
        "width": shape[1],
        "height": shape[0],
        **meta,
        "encodings": encodings,
    }
    try:
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"meta cannot be written as JSON ({error})", expected="plain finite values") from error


def read_sidecar(path: Path) -> dict[str, Any]:
    """The sidecar, or an empty mapping where there is none (or only someone else's JSON, which has no ``space``).

    Raises:
        FileFormatError: not JSON, or about something else than disparity in px.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_SIDECAR_BYTES:
        raise FileFormatError(f"{path} is too large for a sidecar", expected=f"at most {_MAX_SIDECAR_BYTES:,} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except DepthlightError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid JSON", expected="the sidecar of a disparity map") from error
    if not isinstance(content, dict) or "space" not in content:
        return {}
    if (content["space"], content.get("unit")) != ("disparity", "px"):
        raise FileFormatError(
            f"{path} describes {content['space']!r} in {content.get('unit')!r}", expected="disparity in px"
        )
    return content


def _png_scale_in(meta: Mapping[str, Any]) -> float | None:
    try:
        scale = meta["encodings"]["png"]["scale"]
    except (KeyError, TypeError):
        return None
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise FileFormatError(f"the sidecar states a PNG scale of {scale!r}", expected="a positive number")
    return float(scale)
