"""Binary PGM and PPM (netpbm P5, P6), read by numpy.

Pillow walks such a file pixel by pixel in Python when its maximum is not 255, which takes minutes on a large one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ImageError

_HEADER = re.compile(rb"(P[56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 2 + rb"(?:\s|#[^\n]*\n)+(\d{1,5})\s")
_HEADER_BYTES = 4096


@dataclass(frozen=True)
class NetpbmHeader:
    """What stands before the samples; ``offset`` is where they begin, ``maximum`` the value of white."""

    width: int
    height: int
    channels: int
    maximum: int
    offset: int


def netpbm_header(stream: BinaryIO, name: str) -> NetpbmHeader:
    """Read the header.

    Raises:
        ImageError: it does not follow the format, or a number in it is out of range.
    """
    stream.seek(0)
    match = _HEADER.match(stream.read(_HEADER_BYTES))
    if match is None:
        raise ImageError(
            f"{name} is not a valid PGM or PPM: damaged header", expected="P5 or P6, width, height, maximum"
        )
    width, height, maximum = (int(match[i]) for i in (2, 3, 4))
    if not (width and height and 0 < maximum < 65536):
        raise ImageError(f"{name} is not a valid PGM or PPM: {width}×{height}, maximum {maximum}")
    return NetpbmHeader(width, height, 3 if match[1] == b"P6" else 1, maximum, match.end())


def netpbm_pixels(stream: BinaryIO, header: NetpbmHeader, name: str) -> NDArray[Any]:
    """The samples as (H, W, 1 or 3), scaled and rounded: uint8 with white 255, or uint16 with white 65535 if deeper.

    Raises:
        ImageError: the file ends early, or a sample is larger than the stated maximum.
    """
    stored = np.dtype(np.uint8 if header.maximum < 256 else ">u2")
    count = header.width * header.height * header.channels
    stream.seek(header.offset)
    data = stream.read(count * stored.itemsize)
    if len(data) < count * stored.itemsize:
        raise ImageError(f"{name} is truncated: {len(data)} of {count * stored.itemsize} bytes of pixels")
    samples_HWC = np.frombuffer(data, stored).reshape(header.height, header.width, header.channels)
    if samples_HWC.max() > header.maximum:
        raise ImageError(f"{name} is damaged: a sample is {samples_HWC.max()}", expected=f"at most {header.maximum}")
    white = np.iinfo(stored).max
    scale = (np.arange(header.maximum + 1) * 2 * white + header.maximum) // (2 * header.maximum)  # round half up
    pixels: NDArray[Any] = scale.astype(stored.newbyteorder("="))[samples_HWC]
    return pixels
