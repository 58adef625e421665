"""Pixels of any kind as RGB uint8 (H, W, 3); the table in ``images.py`` is what this does.

Letters in names: H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, NonFiniteError

_TO_8_BIT = ((np.arange(65536) + 128) // 257).astype(np.uint8)


def to_8_bit(deep: NDArray[Any]) -> NDArray[np.uint8]:
    """0–65535 → 0–255: divided by 257 and rounded."""
    pixels: NDArray[np.uint8] = _TO_8_BIT[deep]
    return pixels


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an EXIF orientation: 5–8 are transposed; then mirrored in x (2, 3, 6, 7) and in y (3, 4, 7, 8)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def three_channels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as contiguous (H, W, 3): gray repeated, alpha dropped."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def from_array(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """An array as RGB (H, W, 3).

    Raises:
        InputError: empty, or a shape, type or range that is not an image's.
        NonFiniteError: NaN or infinity.
    """
    shape = "×".join(str(size) for size in array.shape)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = "It looks channel-first: use array.transpose(1, 2, 0)" if first else ""
        raise InputError(f"{name} has shape {shape or '()'}", expected="H×W, H×W×1, H×W×3 or H×W×4", hint=hint)
    if array.size == 0:
        raise InputError(f"{name} is empty (shape {shape})", expected="at least one pixel")
    if array.dtype == np.uint8:
        pixels = array
    elif array.dtype == np.uint16:
        pixels = to_8_bit(array)
    elif array.dtype == np.bool_:
        pixels = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "f":
        pixels = from_float(array, name)
    else:
        raise InputError(f"{name} has type {array.dtype}", expected="uint8, uint16, bool or float with values 0–255")
    return three_channels(pixels)


def above_zero(array: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """(H, W): where any colour of an array is above 0, however deep its samples are. Raises as :func:`from_array`."""
    from_array(array, name)
    return np.asarray((np.atleast_3d(array)[:, :, :3] > 0).any(axis=2))


def from_float(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """0–255 floats, rounded; everything that might be meant otherwise is refused."""
    finite = np.isfinite(array)
    if not finite.all():
        row, column = _first(~finite)
        value = np.atleast_3d(array)[row, column]
        kind = "NaN" if np.isnan(value).any() else "infinity"
        raise NonFiniteError(
            f"{name} has {kind} at row {row}, column {column}", expected="finite values", row=row, column=column
        )
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 255:
        row, column = _first((array < 0) | (array > 255))
        raise InputError(
            f"{name} has values from {low:g} to {high:g}, the first outside 0–255 at row {row}, column {column}",
            expected="float images with values 0–255",
        )
    if 0 < high <= 1:
        raise InputError(
            f"{name} has float values 0–1", expected="float images with values 0–255", hint="Multiply it by 255"
        )
    rounded: NDArray[np.uint8] = np.rint(array).astype(np.uint8)
    return rounded


def _first(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column of the first true element of an (H, W) or (H, W, C) mask."""
    index = np.unravel_index(int(np.argmax(mask)), mask.shape)
    return int(index[0]), int(index[1])
