"""Images in their own depth and channels, for what writes images again: 16-bit and gray stay what they are.

Every file passes the guarded reader first; its 8-bit RGB comes back where the plain decoder says something else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, OutputError
from .atomic import atomic_write_bytes
from .images import read_image
from .pixels import three_channels, to_8_bit

_NEAR = 3  # gray levels by which two JPEG decoders may differ


def read_native(path: str | os.PathLike[str]) -> NDArray[Any]:
    """(H, W) gray or (H, W, 3) RGB, uint8 or uint16, as the file has them.

    Alpha, palettes, floats and images with a turned orientation come as :func:`~depthlight.io.images.read_image` gives
    them (RGB uint8).

    Raises:
        ImageError, LimitError, NonFiniteError: see :func:`~depthlight.io.images.read_image`.
    """
    safe_HW3 = read_image(path)
    decoded = cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16) or decoded.ndim not in (2, 3):
        return safe_HW3
    if decoded.ndim == 3:
        if decoded.shape[2] != 3:
            return safe_HW3
        decoded = decoded[:, :, ::-1]
    shown = three_channels(to_8_bit(decoded) if decoded.dtype == np.uint16 else decoded.astype(np.uint8))
    if shown.shape != safe_HW3.shape or np.abs(shown.astype(np.int16) - safe_HW3).max() > _NEAR:
        return safe_HW3
    return np.ascontiguousarray(decoded)


def write_native(path: str | os.PathLike[str], image: NDArray[Any]) -> None:
    """Write (H, W) gray or (H, W, 3) RGB, uint8 or uint16, as PNG, atomically.

    Raises:
        InputError: another kind of array or of name.
        OutputError: it cannot be encoded or written.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"cannot write {Path(path).name!r}", expected="a name ending in .png")
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.size == 0:
        raise InputError(f"an image is {image.dtype} of shape {image.shape}", expected="8 or 16 bits, gray or RGB")
    pixels = image[:, :, ::-1] if image.ndim == 3 else image
    good, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not good:
        raise OutputError(f"cannot encode {path}")
    atomic_write_bytes(path, data.tobytes())
