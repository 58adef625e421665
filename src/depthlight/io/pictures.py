"""Pictures people look at: a map beside its scale, a preview of a prediction, a contact sheet; and writing them.

All are RGB uint8 arrays (H, W, 3), so that they can be put together, and only :func:`write_image` touches the disk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..core.errors import InputError
from .atomic import atomic_path
from .charts import line_chart
from .colour import ERROR_BOUNDS, ERROR_COLOURS, colour_map, error_colours, robust_range
from .drawing import INK, PAPER, SOFT_INK, fitted, font, label, ticks, to_array

__all__ = ["Scale", "error_panel", "line_chart", "map_panel", "panel", "preview", "sheet", "write_image"]

_CAPTION, _TEXT, _GAP, _BAR = 17, 14, 12, 14
_TICK_ROOM = 46  # for the numbers beside a scale bar
_SMALLEST, _LARGEST = 240, 840  # width of a panel's image; smaller ones are enlarged pixel by pixel


@dataclass(frozen=True)
class Scale:
    """A vertical bar: colours from bottom to top, and marks as (position 0–1 from the bottom, text)."""

    colours: NDArray[np.uint8]  # (N, 3)
    marks: tuple[tuple[float, str], ...]
    unit: str = ""


def map_scale(low: float, high: float, name: str, unit: str) -> Scale:
    """The scale of :func:`~depthlight.io.colour.colour_map` from ``low`` to ``high``."""
    colours = colour_map(np.linspace(0, 1, 256)[:, None], 0, 1, name=name)[:, 0]
    marks = tuple(((value - low) / (high - low), label(value)) for value in ticks(low, high, 5))
    return Scale(colours, marks, unit)


def error_scale() -> Scale:
    """The scale of :func:`~depthlight.io.colour.error_colours`: steps of equal height, bounds doubling."""
    steps = len(ERROR_COLOURS)
    marks = tuple((i / steps, f"{bound:.2g}") for i, bound in enumerate(ERROR_BOUNDS, start=1))
    return Scale(np.array(ERROR_COLOURS, np.uint8), marks, "px")


def panel(
    image_HW3: NDArray[np.uint8], caption: str = "", scale: Scale | None = None, *, width: int | None = None
) -> NDArray[np.uint8]:
    """An image under its caption, with its scale at the right; resized to be ``width`` px wide, by default 240–840.

    Raises:
        InputError: not RGB uint8.
    """
    natural = min(max(_checked(image_HW3).shape[1], _SMALLEST), _LARGEST)
    shown_HW3 = _resize(image_HW3, width or natural)
    height, width = shown_HW3.shape[:2]
    top = _CAPTION + 9 if caption else 0
    bar_height = max(height, 90) if scale else height
    right = _GAP + _BAR + _TICK_ROOM if scale else 0
    canvas = Image.new("RGB", (width + right, top + bar_height), PAPER)
    canvas.paste(Image.fromarray(shown_HW3), (0, top))
    pen = ImageDraw.Draw(canvas)
    if caption:
        pen.text((0, 1), fitted(caption, width, _CAPTION), INK, font(_CAPTION))
    if scale:
        _draw_scale(canvas, scale, width + _GAP, top, bar_height)
    return to_array(canvas)


def _draw_scale(canvas: Image.Image, scale: Scale, left: int, top: int, height: int) -> None:
    pen = ImageDraw.Draw(canvas)
    rows = (np.arange(height)[::-1] * len(scale.colours)) // height
    bar = np.repeat(scale.colours[rows][:, None], _BAR, axis=1)
    canvas.paste(Image.fromarray(bar), (left, top))
    if scale.unit:
        pen.text((left + _BAR / 2, top - 4), scale.unit, SOFT_INK, font(_TEXT), anchor="ms")
    last = float("inf")
    for share, text in scale.marks:
        y = top + (1 - share) * (height - 1)
        if last - y < _TEXT:  # would touch the number below
            continue
        last = y
        pen.line([(left + _BAR, y), (left + _BAR + 4, y)], SOFT_INK)
        y_text = min(max(y, top + _TEXT / 2 - 1), top + height - _TEXT / 2)
        pen.text((left + _BAR + 7, y_text), text, INK, font(_TEXT), anchor="lm")


def map_panel(
    values_HW: NDArray[np.floating[Any]],
    caption: str,
    *,
    unit: str = "px",
    span: tuple[float, float] | None = None,
    valid_HW: NDArray[np.bool_] | None = None,
    name: str = "turbo",
) -> NDArray[np.uint8]:
    """A colour-mapped map with its scale. ``span`` is the range shown; by default the 1st to 99th percentile."""
    low, high = span or robust_range(values_HW, valid_HW)
    return panel(
        colour_map(values_HW, low, high, valid_HW=valid_HW, name=name), caption, map_scale(low, high, name, unit)
    )


def error_panel(
    disparity_HW: NDArray[np.floating[Any]],
    truth_HW: NDArray[np.floating[Any]],
    truth_valid_HW: NDArray[np.bool_] | None = None,
    *,
    caption: str = "Error",
) -> NDArray[np.uint8]:
    """The error map with its scale; the caption gets the mean error and the share above 2 px."""
    known_HW = np.isfinite(truth_HW) if truth_valid_HW is None else truth_valid_HW & np.isfinite(truth_HW)
    if known_HW.any():
        error = np.abs(disparity_HW[known_HW].astype(np.float64) - truth_HW[known_HW])
        caption = f"{caption}: mean {error.mean():.2f} px, {100 * (error > 2).mean():.1f} % above 2 px"
    return panel(error_colours(disparity_HW, truth_HW, known_HW), caption, error_scale())


def preview(
    left_HW3: NDArray[np.uint8],
    disparity_HW: NDArray[np.floating[Any]],
    *,
    valid_HW: NDArray[np.bool_] | None = None,
    confidence_HW: NDArray[np.floating[Any]] | None = None,
    truth_HW: NDArray[np.floating[Any]] | None = None,
    truth_valid_HW: NDArray[np.bool_] | None = None,
    title: str = "Disparity",
    span: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """The input beside its disparity, with confidence (0–1), truth and error where they are given.

    ``span`` (px) is the range shown, by default the 1st to 99th percentile of the disparity, or of the truth if given,
    so that several predictions for one truth can be compared. Pixels that are not valid are dark.

    Raises:
        InputError: the maps and the image differ in size.
    """
    for name, map_HW in (("disparity", disparity_HW), ("confidence", confidence_HW), ("truth", truth_HW)):
        if map_HW is not None and map_HW.shape != left_HW3.shape[:2]:
            raise InputError(f"{name} is {map_HW.shape} and the image {left_HW3.shape[:2]}", expected="one size")
    if span is None:
        span = robust_range(disparity_HW, valid_HW) if truth_HW is None else robust_range(truth_HW, truth_valid_HW)
    panels = [panel(left_HW3, "Left image"), map_panel(disparity_HW, title, span=span, valid_HW=valid_HW)]
    if confidence_HW is not None:
        panels.append(map_panel(confidence_HW, "Confidence", unit="", span=(0.0, 1.0), name="viridis"))
    if truth_HW is not None:
        panels.append(map_panel(truth_HW, "Ground truth", span=span, valid_HW=truth_valid_HW))
        panels.append(error_panel(disparity_HW, truth_HW, truth_valid_HW))
    height, width = disparity_HW.shape
    columns = 1 if width > 2.2 * height else 2 + len(panels) % 2  # wide images go below each other
    return _grid(panels, columns)


def sheet(
    images: Sequence[NDArray[np.uint8]], *, columns: int, labels: Sequence[str] = (), width: int = 320
) -> NDArray[np.uint8]:
    """A contact sheet: images side by side in ``columns``, each ``width`` px wide, under their labels.

    Raises:
        InputError: no image, not as many labels as images (or none), or ``columns`` or ``width`` below 1.
    """
    if not images or columns < 1 or width < 1 or (labels and len(labels) != len(images)):
        raise InputError(
            f"a sheet of {len(images)} images with {len(labels)} labels in {columns} columns of {width} px",
            expected="at least one image and column, and a label for each image or none",
        )
    cells = []
    for index, image_HW3 in enumerate(images):
        caption = labels[index] if labels else ""
        cells.append(panel(image_HW3, caption, width=width))
    return _grid(cells, columns)


def _grid(cells: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Cells in rows; every column as wide as its widest cell, every row as high as its highest; white between."""
    columns = min(columns, len(cells))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    widths = [max(row[c].shape[1] for row in rows if c < len(row)) for c in range(columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    canvas = np.full(
        (sum(heights) + _GAP * (len(rows) + 1), sum(widths) + _GAP * (columns + 1), 3), np.uint8(PAPER[0]), np.uint8
    )
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        x = _GAP
        for cell, width in zip(row, widths, strict=False):
            canvas[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
            x += width + _GAP
        y += height + _GAP
    return canvas


def _resize(image_HW3: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """To ``width``, keeping the shape (at most 4:1 high): averaged when made smaller, pixel by pixel when larger."""
    height = min(max(1, round(image_HW3.shape[0] * width / image_HW3.shape[1])), 4 * width)
    if (height, width) == image_HW3.shape[:2]:
        return image_HW3
    smaller = width < image_HW3.shape[1]
    resized = cv2.resize(
        np.ascontiguousarray(image_HW3), (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
    )
    return np.asarray(resized, np.uint8)


def _checked(image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.dtype != np.uint8 or image_HW3.size == 0:
        raise InputError(f"a picture is {image_HW3.dtype} of shape {image_HW3.shape}", expected="uint8 (H, W, 3) RGB")
    return image_HW3


def write_image(path: str | os.PathLike[str], rgb_HW3: NDArray[np.uint8], *, quality: int = 92) -> None:
    """Write RGB (H, W, 3) or gray (H, W) uint8 atomically, as .png, or as .jpg/.jpeg of ``quality``.

    Raises:
        InputError: not such an array, or another suffix.
        OutputError: cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise InputError(
            f"cannot write a picture as {Path(path).name!r}", expected="a name ending in .png, .jpg or .jpeg"
        )
    pixels = _checked(rgb_HW3) if rgb_HW3.ndim == 3 else rgb_HW3
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.size == 0:
        raise InputError(f"a picture is {pixels.dtype} of shape {pixels.shape}", expected="uint8 (H, W, 3) or (H, W)")
    with atomic_path(path) as temporary:
        if suffix == ".png":
            Image.fromarray(pixels).save(temporary, format="PNG")
        else:
            Image.fromarray(pixels).save(temporary, format="JPEG", quality=quality, subsampling=0)
