"""Layers over the left view: exact surfaces with texture, seen from both cameras.

A surface gives disparity as a function of *left* coordinates, so the right view is found by solving
``x - d(x, y) = x_right`` for x: no splatting, no cracks, no mixed colours at depth edges.

Shape legend: H, W view size; h, w the window of a layer. x and y are pixel centres of the left view; layers may reach
beyond x = W, where only the right camera looks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import FloatImage, RenderedPair

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Bump:
    """A Gaussian swelling of ``height`` px of disparity."""

    height: float
    x: float
    y: float
    sigma_x: float
    sigma_y: float

    def at(self, x: FloatImage, y: FloatImage) -> FloatImage:
        u, v = (x - self.x) / self.sigma_x, (y - self.y) / self.sigma_y
        return np.asarray(self.height * np.exp(-0.5 * (u * u + v * v)), np.float32)


@dataclass(frozen=True)
class Surface:
    """d(x, y) = a·x + b·y + c plus an optional bump; |∂d/∂x| stays well below 1, so x - d grows with x."""

    a: float
    b: float
    c: float
    bump: Bump | None = None

    def at(self, x: FloatImage, y: FloatImage) -> FloatImage:
        """Disparity in px at left coordinates (broadcast)."""
        plane = (np.float32(self.a) * x + np.float32(self.b) * y) + np.float32(self.c)
        return plane if self.bump is None else plane + self.bump.at(x, y)

    def left_x(self, x_right: FloatImage, y: FloatImage) -> FloatImage:
        """The left column that the right camera sees at ``x_right``: exact for planes, Newton steps with a bump."""
        x = (x_right + np.float32(self.b) * y + np.float32(self.c)) / np.float32(1 - self.a)
        if self.bump is None:
            return x
        for _ in range(8):
            lift = self.bump.at(x, y)
            slope = self.a - lift * (x - self.bump.x) / self.bump.sigma_x**2
            x = x - (x - self.at(x, y) - x_right) / (1 - slope)
        return np.asarray(x, np.float32)

    def scaled(self, factor: float, shift: float) -> Surface:
        """factor·d + shift."""
        bump = self.bump and replace(self.bump, height=self.bump.height * factor)
        return Surface(self.a * factor, self.b * factor, self.c * factor + shift, bump)

    def squeezed(self, values: FloatImage, low: float, high: float) -> Surface:
        """Flattened and shifted just enough that ``values``, its disparities somewhere, come to lie in low..high."""
        least, most = float(values.min()), float(values.max())
        factor = min(1.0, 0.98 * (high - low) / max(most - least, 1e-6))
        shift = np.clip(0.0, low - factor * least, high - factor * most)
        if factor == 1.0 and shift == 0.0:
            return self
        return self.scaled(factor, float(shift))


@dataclass(frozen=True)
class Layer:
    """A surface where ``mask_hw`` is true, painted with ``texture_hw3``; the window starts at (left, top)."""

    surface: Surface
    left: int
    top: int
    mask_hw: Mask
    texture_hw3: FloatImage

    def grid(self) -> tuple[FloatImage, FloatImage]:
        """x (1, w) and y (h, 1) of the window's pixels."""
        h, w = self.mask_hw.shape
        return grid(self.left, self.top, w, h)


def grid(left: int, top: int, width: int, height: int) -> tuple[FloatImage, FloatImage]:
    """x (1, width) and y (height, 1) of a window's pixels, float32."""
    x = np.arange(left, left + width, dtype=np.float32)[None, :]
    y = np.arange(top, top + height, dtype=np.float32)[:, None]
    return x, y


def render(layers: list[Layer], height: int, width: int) -> RenderedPair:
    """Both views by z-test: at every pixel the layer of greatest disparity wins, the earlier one on a tie.

    The layers together must cover both views; pixels nobody covers keep disparity 0.
    """
    left_HW3, disparity_HW = _empty(height, width)
    right_HW3, right_disparity_HW = _empty(height, width)
    for layer in layers:
        _paint_left(layer, left_HW3, disparity_HW)
        _paint_right(layer, right_HW3, right_disparity_HW)
    return RenderedPair(left_HW3, right_HW3, disparity_HW, right_disparity_HW)


def _empty(height: int, width: int) -> tuple[FloatImage, FloatImage]:
    return np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)


def _paint_left(layer: Layer, view_HW3: FloatImage, disparity_HW: FloatImage) -> None:
    W = disparity_HW.shape[1]
    columns = min(layer.mask_hw.shape[1], W - layer.left)
    if columns <= 0:
        return
    x, y = layer.grid()
    z = layer.surface.at(x[:, :columns], y)
    window = np.s_[layer.top : layer.top + y.size, layer.left : layer.left + columns]
    wins = layer.mask_hw[:, :columns] & (z > disparity_HW[window])
    disparity_HW[window][wins] = z[wins]
    view_HW3[window][wins] = layer.texture_hw3[:, :columns][wins]


def _paint_right(layer: Layer, view_HW3: FloatImage, disparity_HW: FloatImage) -> None:
    W = disparity_HW.shape[1]
    x, y = layer.grid()
    h, w = layer.mask_hw.shape
    ends = x[:, [0, -1]] - layer.surface.at(x[:, [0, -1]], y)
    first = max(0, int(np.floor(ends.min())) - 1)
    last = min(W, int(np.ceil(ends.max())) + 2)
    if first >= last:
        return
    x_right = np.arange(first, last, dtype=np.float32)[None, :]
    x_left = np.broadcast_to(layer.surface.left_x(x_right, y), (h, last - first))
    z = x_left - x_right
    column = np.rint(x_left).astype(np.int32) - layer.left
    inside = (column >= 0) & (column < w)
    window = np.s_[layer.top : layer.top + h, first:last]
    rows = np.arange(h)[:, None]
    wins = inside & layer.mask_hw[rows, np.clip(column, 0, w - 1)] & (z > disparity_HW[window])
    map_x = np.ascontiguousarray(x_left - np.float32(layer.left), dtype=np.float32)
    map_y = np.ascontiguousarray(np.broadcast_to(rows, map_x.shape), dtype=np.float32)
    colour = cv2.remap(layer.texture_hw3, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    disparity_HW[window][wins] = z[wins]
    view_HW3[window][wins] = np.clip(colour[wins], 0, 255)
