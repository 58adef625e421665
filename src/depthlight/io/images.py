"""Images in: a guarded decoder for untrusted files, and one door for paths, bytes, Pillow images and arrays.

Whatever comes in leaves as RGB uint8 (H, W, 3), values 0–255:

==================  ==================================================================================
gray                three equal channels
palette             its colours
alpha               dropped, not composited: hidden pixels keep the colours stored for them
1-bit, bool         0 and 255
16-bit              divided by 257 and rounded (0 → 0, 65535 → 255)
CMYK, YCbCr         converted by Pillow, without a colour profile
float               0–255, rounded; NaN, infinities, values outside, and 0–1 images are refused
EXIF orientation    applied (all eight)
several frames      the first one; of HEIC the primary one
HEIC                with the ``heic`` extra; more than 8 bits are reduced by its decoder
32-bit integer, LAB refused
==================  ==================================================================================

Letters in names: H height, W width, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import ImageError, InputError
from .guard import DEFAULT_LIMITS, FORMATS, FileSource, ImageLimits, check_size, guarded, open_plugin, opened, sniff
from .netpbm import netpbm_header, netpbm_pixels
from .pixels import above_zero, from_array, upright

__all__ = ["FORMATS", "IMAGE_SUFFIXES", "ImageLimits", "ImageSource", "as_image", "as_mask", "image_size", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".heic", ".heif")
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]"

T = TypeVar("T", np.uint8, np.bool_)
_Make = Callable[[NDArray[Any], str], NDArray[T]]  # from the samples as they are stored, and the image's name
_ORIENTATION = 0x0112


def read_image(source: FileSource, *, limits: ImageLimits = DEFAULT_LIMITS, name: str = "") -> NDArray[np.uint8]:
    """Decode a file, or its bytes, to RGB (H, W, 3) uint8; the table above says how each kind of image is handled.

    Size and kind are checked on the header, before any pixel is decoded. Errors say ``name`` (default: the path).

    Raises:
        ImageError: missing, not a regular file, not an accepted kind, truncated or damaged.
        LimitError: more bytes or pixels than ``limits`` allows.
        NonFiniteError: a float TIFF with NaN or infinity.
    """
    return _read(source, limits, name, from_array)


def image_size(source: FileSource, *, limits: ImageLimits = DEFAULT_LIMITS, name: str = "") -> tuple[int, int]:
    """(height, width) of the array :func:`read_image` would return, from the header alone.

    An orientation that a PNG stores behind its pixels is not seen.

    Raises:
        ImageError, LimitError: as :func:`read_image`, as far as the header tells.
    """
    with opened(source, limits, name) as (stream, label), guarded(label):
        kind = sniff(stream, label, limits)
        if kind == "PPM":
            header = netpbm_header(stream, label)
            check_size(header.width, header.height, label, limits)
            return header.height, header.width
        image = open_plugin(stream, kind, label, limits)
        turned = (
            _orientation(image, header_only=True) >= 5 and kind != "TIFF"
        )  # Pillow states the size of a TIFF as it is upright
        return (image.width, image.height) if turned else (image.height, image.width)


def as_image(source: ImageSource, *, name: str = "image", limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Any image as RGB (H, W, 3) uint8, C-contiguous; it may share memory with an array that is so already.

    ``source`` is a path, the bytes of a file, a Pillow image, or an array of shape (H, W), (H, W, 1), (H, W, 3) RGB or
    (H, W, 4) RGBA and type uint8, uint16, bool or float (0–255). ``name`` says in errors which image it is ("left").

    Raises:
        ImageError, LimitError: see :func:`read_image`.
        InputError: the array is empty, or of a wrong shape, type or range.
        NonFiniteError: NaN or infinity; the message has its row and column.
    """
    return _taken(source, limits, name, from_array)


def as_mask(source: ImageSource, *, name: str = "mask", limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.bool_]:
    """(H, W) bool: where any colour of an image is above 0, before its samples are reduced to 8 bits.

    ``source`` and the errors are those of :func:`as_image`.
    """
    return _taken(source, limits, name, above_zero)


def _taken(source: ImageSource, limits: ImageLimits, name: str, make: _Make[T]) -> NDArray[T]:
    if isinstance(source, str | os.PathLike):
        return _read(source, limits, "", make)
    if isinstance(source, bytes | bytearray | memoryview):
        return _read(bytes(source), limits, name, make)
    if isinstance(source, Image.Image):
        with guarded(name):
            check_size(source.width, source.height, name, limits)
            return make(_pillow_pixels(source, name), name)
    if isinstance(source, np.ndarray):
        return make(source, name)
    raise InputError(
        f"{name} is a {type(source).__name__}",
        expected="a path, bytes, a Pillow image or a numpy array of shape (H, W, 3)",
    )


def _read(source: FileSource, limits: ImageLimits, name: str, make: _Make[T]) -> NDArray[T]:
    with opened(source, limits, name) as (stream, label), guarded(label):
        return make(_decoded(stream, label, limits), label)


def _decoded(stream: BinaryIO, label: str, limits: ImageLimits) -> NDArray[Any]:
    """(H, W) or (H, W, C) uint8, uint16 or float32, upright."""
    kind = sniff(stream, label, limits)
    if kind == "PPM":
        header = netpbm_header(stream, label)
        check_size(header.width, header.height, label, limits)
        return netpbm_pixels(stream, header, label)
    if kind == "PNG":
        open_plugin(stream, kind, label, limits).verify()  # checksums of all chunks; Pillow skips them otherwise
    return _pillow_pixels(open_plugin(stream, kind, label, limits), label, stream)


# Pillow images


def _pillow_pixels(image: Image.Image, label: str, stream: BinaryIO | None = None) -> NDArray[Any]:
    """Gray, RGB or RGBA of an opened Pillow image, upright. ``stream`` lets deep colour be read in full depth."""
    deep = stream is not None and ";16" in str(getattr(image, "tile", ""))
    mode = image.mode
    image.load()
    orientation = _orientation(image)  # 1 for a TIFF: Pillow and OpenCV turn it upright while decoding
    pixels: NDArray[Any]
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):  # before Pillow 11: "I"
        pixels = np.asarray(image).astype(np.uint16)
    elif mode == "F":
        pixels = np.asarray(image)
    elif mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        kind = {"I": "32-bit integer"}.get(mode, mode)
        raise ImageError(
            f"{label} has {kind} pixels", expected="8-bit or 16-bit gray or colour", hint="Convert it to PNG"
        )
    elif deep and stream is not None:
        pixels = _deep_colour(stream)
    elif mode in ("P", "PA", "RGBa"):
        pixels = np.asarray(image.convert("RGBA"))
    else:
        pixels = np.asarray(image if mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
    return upright(pixels, orientation)


def _deep_colour(stream: BinaryIO) -> NDArray[Any]:
    """Pillow keeps only the high byte of 16-bit colour; OpenCV keeps both. Only for files that Pillow could decode."""
    stream.seek(0)
    decoded = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("16-bit colour cannot be decoded")
    return decoded[:, :, 2::-1] if decoded.ndim == 3 else decoded  # BGR(A) → RGB


def _orientation(image: Image.Image, *, header_only: bool = False) -> int:
    """EXIF orientation 1–8; anything unreadable is 1, as every viewer has it."""
    try:
        exif = Image.Image.getexif(image) if header_only else image.getexif()  # a PNG's own method decodes it
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # a damaged tag block must not hide a good picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
