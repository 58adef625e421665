"""A line chart as RGB pixels, for learning curves and trade-offs, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..core.errors import InputError
from .drawing import GRID, INK, PAPER, SOFT_INK, Colour, fitted, font, label, ticks, to_array

LINE_COLOURS: tuple[Colour, ...] = (  # Okabe and Ito's, told apart also by the colour-blind
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (70, 70, 70),
)
_FINE = 2  # drawn this much larger and reduced: smooth lines
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 22, 16, 50  # room around the axes, px; more at the left for the numbers
_TEXT, _TITLE, _ROW = 14, 18, 22
_FEWEST = 3  # marks on a logarithmic axis; where 1, 2 and 5 are fewer, it is marked like a linear one


@dataclass(frozen=True)
class _Axis:
    """Values to pixels along one direction, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def place(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def shown(self) -> list[float]:
        """Round values to mark, about 95 px apart, or 50 where the axis is upright."""
        upright = self.end < self.start
        count = max(2, int(abs(self.end - self.start) / (50 if upright else 95)))
        if not self.log:
            return ticks(self.low, self.high, count)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if len(powers) <= 4 else (1,)
        values = [f * 10.0**p for p in powers for f in factors]
        inside = [v for v in values if self.low <= v * (1 + 1e-9) and v <= self.high * (1 + 1e-9)]
        return inside if len(inside) >= _FEWEST else ticks(self.low, self.high, count)


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    size: tuple[int, int] = (820, 460),
    points: bool | None = None,
) -> NDArray[np.uint8]:
    """Named lines of (x, y) with axes, grid and legend, as (H, W, 3) RGB uint8; a non-finite y leaves a gap.

    Args:
        size: (width, height) in px.
        points: dots on the values; by default where a line has at most 40.

    Raises:
        InputError: nothing to draw, an axis is logarithmic and has a value <= 0, or ``size`` is too small.
    """
    width, height = size
    if width < 320 or height < 240:
        raise InputError(f"a chart of {width}×{height} px", expected="at least 320×240")
    drawn = [xy for line in series.values() for xy in line if all(map(math.isfinite, xy))]
    if not drawn:
        raise InputError("a chart without a finite point", expected="at least one (x, y)")
    canvas = Image.new("RGB", (width * _FINE, height * _FINE), PAPER)
    pen = ImageDraw.Draw(canvas)
    top = _draw_head(pen, list(series), title, width)
    y_axis = _axis([y for _, y in drawn], height - _BOTTOM, top, log_y, margin=0.05)
    left = _LEFT + max(font(_TEXT).getlength(label(value)) for value in y_axis.shown())
    x_axis = _axis([x for x, _ in drawn], left, width - _RIGHT, log_x, margin=0.0)
    _draw_axes(pen, x_axis, y_axis)
    for index, line in enumerate(series.values()):
        dots = len(line) <= 40 if points is None else points
        _draw_line(pen, line, x_axis, y_axis, LINE_COLOURS[index % len(LINE_COLOURS)], dots)
    _text(pen, (left + width - _RIGHT) / 2, height - 6, x_label, SOFT_INK, "md")
    if y_label:
        _paste_turned(canvas, y_label, 6, (top + height - _BOTTOM) / 2)
    return to_array(canvas.resize(size, Image.Resampling.LANCZOS))


def _axis(values: list[float], start: float, end: float, log: bool, margin: float) -> _Axis:
    low, high = min(values), max(values)
    if log and low <= 0:
        raise InputError(f"a logarithmic axis cannot show {low:g}", expected="values above zero")
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))
    elif log:
        factor = (high / low) ** margin
        low, high = low / factor, high * factor
    else:
        room = (high - low) * margin
        low, high = (low if low == 0 else low - room), high + room
    return _Axis(low, high, start, end, log)


def _draw_head(pen: ImageDraw.ImageDraw, names: list[str], title: str, width: int) -> float:
    """Title and legend; returns the height at which the axes may begin."""
    y = float(_TOP)
    if title:
        _text(pen, _LEFT, y, fitted(title, width - _LEFT - _RIGHT, _TITLE), INK, "la", _TITLE)
        y += _TITLE + 12
    if len(names) == 1 and not names[0]:
        return y
    x = float(_LEFT)
    for index, name in enumerate(names):
        shown = fitted(name, width - _LEFT - _RIGHT - 30, _TEXT)
        needed = 26 + font(_TEXT).getlength(shown) + 18
        if x > _LEFT and x + needed > width - _RIGHT + 18:
            x, y = float(_LEFT), y + _ROW
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        pen.line([(x * _FINE, (y + 8) * _FINE), ((x + 20) * _FINE, (y + 8) * _FINE)], colour, 3 * _FINE)
        _text(pen, x + 26, y + 8, shown, INK, "lm")
        x += needed
    return y + _ROW + 6


def _draw_axes(pen: ImageDraw.ImageDraw, x_axis: _Axis, y_axis: _Axis) -> None:
    left, right, bottom, top = (v * _FINE for v in (x_axis.start, x_axis.end, y_axis.start, y_axis.end))
    for value in y_axis.shown():
        y = y_axis.place(value)
        pen.line([(left, y * _FINE), (right, y * _FINE)], GRID, _FINE)
        _text(pen, x_axis.start - 8, y, label(value), SOFT_INK, "rm")
    for value in x_axis.shown():
        x = x_axis.place(value)
        pen.line([(x * _FINE, bottom), (x * _FINE, bottom + 5 * _FINE)], SOFT_INK, _FINE)
        _text(pen, x, y_axis.start + 8, label(value), SOFT_INK, "ma")
    pen.line([(left, bottom), (right, bottom)], SOFT_INK, _FINE)
    pen.line([(left, bottom), (left, top)], GRID, _FINE)


def _draw_line(
    pen: ImageDraw.ImageDraw,
    line: Sequence[tuple[float, float]],
    x_axis: _Axis,
    y_axis: _Axis,
    colour: Colour,
    dots: bool,
) -> None:
    piece: list[tuple[float, float]] = []
    for x, y in [*line, (math.nan, math.nan)]:
        if math.isfinite(x) and math.isfinite(y):
            piece.append((x_axis.place(x) * _FINE, y_axis.place(y) * _FINE))
            continue
        if len(piece) > 1:
            pen.line(piece, colour, round(2.2 * _FINE), joint="curve")
        radius = 3.4 * _FINE
        for px, py in piece if dots or len(piece) == 1 else []:
            pen.ellipse([px - radius, py - radius, px + radius, py + radius], fill=colour)
        piece = []


def _text(
    pen: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: Colour, anchor: str, size: int = _TEXT
) -> None:
    pen.text((x * _FINE, y * _FINE), text, colour, font(size * _FINE), anchor=anchor)


def _paste_turned(canvas: Image.Image, text: str, x: float, y: float) -> None:
    """Text read from bottom to top, its left edge at ``x``, centred on ``y``."""
    size = (math.ceil(font(_TEXT * _FINE).getlength(text)) + 4, (_TEXT + 6) * _FINE)
    strip = Image.new("RGB", size, PAPER)
    ImageDraw.Draw(strip).text((2, size[1] / 2), text, SOFT_INK, font(_TEXT * _FINE), anchor="lm")
    turned = strip.rotate(90, expand=True)
    canvas.paste(turned, (round(x * _FINE), round(y * _FINE - turned.height / 2)))
