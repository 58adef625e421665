"""Float maps (H, W) as .npy, .tiff and .pfm, guarded on the way in: what disparity and depth files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import FileFormatError, InputError, NonFiniteError
from .atomic import atomic_path
from .guard import DEFAULT_LIMITS, FileSource, ImageLimits, check_size, guarded, open_plugin, opened, sniff
from .pfm import read_pfm, write_pfm

MAP_SUFFIXES = (".png", ".pfm", ".tiff", ".tif", ".npy")


def read_float_map(path: Path, *, what: str, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """The (H, W) values of a .pfm, .npy, .tiff or .tif file as stored; ``what`` they are is for the error.

    Raises:
        ImageError, LimitError: missing or too large.
        FileFormatError: damaged, or not one float channel.
    """
    reader = {".pfm": read_pfm, ".npy": read_npy}.get(path.suffix.lower(), read_float_tiff)
    raw_HW = reader(path, limits=limits)
    if raw_HW.ndim != 2:
        raise FileFormatError(f"{path} has {raw_HW.shape[2]} channels", expected=f"one: a {what} map")
    return raw_HW


def write_float_map(path: Path, values_HW: NDArray[np.float32]) -> None:
    """Write (H, W) float32 exactly, in the format of the suffix (.pfm, .npy, .tiff or .tif), atomically."""
    suffix = path.suffix.lower()
    if suffix == ".pfm":
        write_pfm(path, values_HW)
        return
    with atomic_path(path) as temporary:
        if suffix == ".npy":
            np.save(temporary, values_HW, allow_pickle=False)
        else:
            Image.fromarray(values_HW).save(temporary, format="TIFF")


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


def _as_float32(values: NDArray[Any], label: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if (np.isinf(narrow) & np.isfinite(values)).any():
        raise FileFormatError(f"{label} has values beyond float32", expected="float32 values")
    return narrow


def checked_map(
    values_HW: NDArray[Any],
    valid_HW: NDArray[np.bool_] | None,
    label: str,
    *,
    what: str,
    unit: str,
    signed: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """An (H, W) map ready to be written, as float32 with 0 where it is not valid; and ``valid_HW``, by default all.

    Args:
        values_HW: float of any width, >= 0 where valid unless ``signed``.
        valid_HW: where it counts; what is elsewhere is dropped.
        label: the file, for the error.
        what: the space ("disparity"), for the error.
        unit: for the error.
        signed: negative values are let through.

    Raises:
        InputError: not float of shape (H, W), another shape of ``valid_HW``, or a negative value.
        NonFiniteError: NaN or infinity (also beyond float32) at a valid pixel.
    """
    if values_HW.ndim != 2 or values_HW.size == 0 or values_HW.dtype.kind != "f":
        raise InputError(
            f"{label}: {what} is {values_HW.dtype} of shape {values_HW.shape}", expected="float of shape (H, W)"
        )
    valid_HW = np.ones(values_HW.shape, np.bool_) if valid_HW is None else valid_HW
    if valid_HW.shape != values_HW.shape or valid_HW.dtype != np.bool_:
        raise InputError(
            f"{label}: valid is {valid_HW.dtype} of shape {valid_HW.shape}", expected=f"bool of shape {values_HW.shape}"
        )
    with np.errstate(over="ignore"):
        narrow_HW = values_HW.astype(np.float32)
    for bad_HW, kind, error in (
        (~np.isfinite(narrow_HW) & valid_HW, "non-finite", NonFiniteError),
        ((narrow_HW < 0) & valid_HW & (not signed), "negative", InputError),
    ):
        if bad_HW.any():
            row, column = (int(i) for i in np.unravel_index(int(np.argmax(bad_HW)), bad_HW.shape))
            raise error(
                f"{label}: a {kind} {what} ({values_HW[row, column]}) at row {row}, column {column}",
                expected=f"finite {unit} >= 0, or the pixel marked invalid",
                row=row,
                column=column,
            )
    return np.where(valid_HW, narrow_HW, np.float32(0)), valid_HW
