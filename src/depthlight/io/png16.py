"""16-bit gray PNG: whole numbers 0–65535, and beside them the scale that makes numbers with a unit of them.

The scale stands in a text chunk of the file, so that it is not lost with a sidecar.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..core.errors import FileFormatError
from .atomic import atomic_path
from .guard import DEFAULT_LIMITS, FileSource, ImageLimits, guarded, open_plugin, opened, sniff

COMPRESSION = 4  # of 9: a third of the time of the usual 6 for 1.5 % more bytes


def read_png16(
    source: FileSource,
    key: str,
    default: float,
    *,
    scale: float | None = None,
    offset_key: str | None = None,
    offset: float | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(value / scale + offset as float32, 0 where not valid; value > 0), both (H, W).

    The scale is ``scale``, the file's own, or ``default``; the offset ``offset``, the file's own, or 0.

    Args:
        source: path or bytes.
        key: name of the text chunk that states the file's own scale.
        default: where nothing states a scale.
        scale: what a sidecar states.
        offset_key: name of the text chunk that states the file's own offset.
        offset: what a sidecar states.
        limits: of bytes and pixels.

    Raises:
        ImageError, LimitError: see :func:`depthlight.io.images.read_image`.
        FileFormatError: not 16-bit gray, or ``scale`` or ``offset`` is not the one written in the PNG.
    """
    with opened(source, limits, "") as (stream, label), guarded(label):
        image = _checked_png(stream, label, limits)
        image.load()
        own, own_offset = image.info.get(key), image.info.get(offset_key) if offset_key else None
        stored_HW = np.asarray(image).astype(np.uint16)
    own_scale = _number(own, "scale", label)
    if own_scale is not None and scale is not None and own_scale != scale:
        raise FileFormatError(f"{label} was written with scale {own}", expected=f"{scale:g}, as its sidecar says")
    divisor = own_scale if own_scale is not None else (scale or float(default))
    if not 0 < divisor < float("inf"):
        raise FileFormatError(f"{label} states a scale of {divisor}", expected="a positive number")
    values_HW = (stored_HW / np.float32(divisor)).astype(np.float32)
    start = _offset(own_offset, offset, label)
    return (
        np.where(stored_HW > 0, values_HW + np.float32(start), np.float32(0)) if start else values_HW
    ), stored_HW > 0


def _offset(own: str | None, stated: float | None, label: str) -> float:
    """The one offset that file and sidecar agree on, 0 where neither states one."""
    found = _number(own, "offset", label) or 0.0
    if not abs(found) <= 65535:
        raise FileFormatError(f"{label} states an offset of {own}", expected="a number of px")
    if None not in (own, stated) and found != stated:
        raise FileFormatError(f"{label} was written with offset {own}", expected=f"{stated:g}, as its sidecar says")
    return found if stated is None else stated


def _number(text: str | None, what: str, label: str) -> float | None:
    """What a text chunk states, None without one."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise FileFormatError(f"{label} states a {what} of {text[:40]!r}", expected="a number") from None


def write_png16(
    path: str | os.PathLike[str],
    values_HW: NDArray[np.floating[Any]],
    valid_HW: NDArray[np.bool_],
    *,
    key: str,
    scale: float,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write ``round(value · scale)``, at least 1 where valid, 0 elsewhere. The caller has made sure that it fits.

    ``texts`` are further text chunks.
    """
    steps_HW = np.rint(values_HW.astype(np.float64) * scale)
    stored_HW = np.where(valid_HW, np.maximum(steps_HW, 1), 0).astype(np.uint16)
    info = PngImagePlugin.PngInfo()
    for name, text in {key: f"{scale:g}", **(texts or {})}.items():
        info.add_text(name, text)
    with atomic_path(path) as temporary:
        Image.fromarray(stored_HW).save(temporary, format="PNG", pnginfo=info, compress_level=COMPRESSION)


def _checked_png(stream: BinaryIO, label: str, limits: ImageLimits) -> Image.Image:
    """A 16-bit gray PNG with good checksums, not yet decoded."""
    if sniff(stream, label, limits) != "PNG":
        raise FileFormatError(f"{label} is not a PNG", expected="a 16-bit gray PNG")
    open_plugin(stream, "PNG", label, limits).verify()
    image = open_plugin(stream, "PNG", label, limits)
    if not (image.mode.startswith("I;16") or image.mode == "I"):  # before Pillow 11: "I"
        raise FileFormatError(f"{label} is a PNG of mode {image.mode}", expected="a 16-bit gray PNG")
    return image
