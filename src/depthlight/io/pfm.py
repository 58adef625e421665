"""PFM: float32 maps as Middlebury and SceneFlow store them.

Three text lines (``Pf`` gray or ``PF`` colour; width height; a scale whose sign is the byte order), then the rows from
bottom to top. The scale's size has no agreed meaning and is ignored, as all readers in this field do.
"""

from __future__ import annotations

import math
import os
import re
import sys

import numpy as np
from numpy.typing import NDArray

from ..core.errors import FileFormatError, InputError
from .atomic import atomic_write_bytes
from .guard import DEFAULT_LIMITS, FileSource, ImageLimits, check_size, opened

_HEADER = re.compile(rb"P([fF])\s+(\d{1,9})\s+(\d{1,9})\s+([-+0-9.eE]{1,40})(?:\r\n|\s)")


def read_pfm(source: FileSource, *, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """The values as stored, top row first: (H, W) for ``Pf``, (H, W, 3) for ``PF``; NaN and infinity are let through.

    Raises:
        ImageError: missing, or not a regular file.
        LimitError: larger than ``limits``.
        FileFormatError: a damaged header, or not as many bytes as it states.
    """
    with opened(source, limits, "") as (stream, label):
        data = stream.read()
    match = _HEADER.match(data)
    if match is None:
        raise FileFormatError(f"{label} is not a valid PFM", expected="'Pf' or 'PF', width, height and a scale")
    width, height, channels = int(match[2]), int(match[3]), 3 if match[1] == b"F" else 1
    check_size(width, height, label, limits)
    try:
        scale = float(match[4])
    except ValueError:
        scale = 0.0
    if scale == 0 or not math.isfinite(scale):
        raise FileFormatError(f"{label} has a PFM scale of {match[4].decode()!r}", expected="a number other than zero")
    found, needed = len(data) - match.end(), width * height * channels * 4
    if found != needed:
        raise FileFormatError(f"{label} has {found:,} bytes of values", expected=f"{needed:,} for {width}×{height}")
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4", offset=match.end())
    shape = (height, width, 3) if channels == 3 else (height, width)
    return values.reshape(shape)[::-1].astype(np.float32)


def write_pfm(path: str | os.PathLike[str], values: NDArray[np.float32]) -> None:
    """Write (H, W) or (H, W, 3) float32 atomically, little-endian, exactly.

    Raises:
        InputError: another shape or type.
        OutputError: the file cannot be written.
    """
    gray = values.ndim == 2
    if values.dtype != np.float32 or values.size == 0 or not (gray or (values.ndim == 3 and values.shape[2] == 3)):
        raise InputError(
            f"{values.shape} {values.dtype} does not fit a PFM", expected="float32 of shape (H, W) or (H, W, 3)"
        )
    rows = values[::-1].astype("<f4") if sys.byteorder == "big" else np.ascontiguousarray(values[::-1])
    header = f"{'Pf' if gray else 'PF'}\n{values.shape[1]} {values.shape[0]}\n-1.0\n"
    atomic_write_bytes(path, header.encode("ascii") + rows.tobytes())
