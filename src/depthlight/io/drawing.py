"""The pencil of pictures and charts: type, colours and tick marks, with Pillow alone."""

from __future__ import annotations

import math
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Colour = (255, 255, 255)
INK: Colour = (36, 38, 43)
SOFT_INK: Colour = (96, 100, 108)
GRID: Colour = (228, 230, 234)


@cache
def font(size: int) -> Font:
    """The font that comes with Pillow; sizes in pixels."""
    return ImageFont.load_default(size)


def fitted(text: str, width: float, size: int) -> str:
    """``text``, cut with an ellipsis to be at most ``width`` pixels wide."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((m for m in (1, 2, 5, 10) if m * power >= raw * 0.999), default=10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def label(value: float) -> str:
    """A number as an axis shows it: 6 digits at most, no trailing zeros, thousands as k and M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.6g}{name}"
    return f"{value:.6g}" if value else "0"


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """A drawn picture as (H, W, 3) RGB uint8."""
    return np.array(image.convert("RGB"), np.uint8)
