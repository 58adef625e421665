"""Layers of exact disparity, painted into two views.

A plane in space is affine in disparity, ``d = a·x + b·y + c`` over left-view coordinates, so a layer reaches the right
view by an exact affine inverse warp; a curved layer adds a relief and solves ``x_left = x_right + d(x_left)`` by
fixed-point iteration (a contraction, because slopes are limited). Both views sample the same texture at fractional
positions, so neither is sharper than the other. Visibility is decided per pixel on disparity; edges are antialiased in
colour, and the truth switches where coverage passes one half.

Shape legend: H, W of a view; h, w of a layer's own raster. Colours are RGB; disparity in px, positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import FloatImage, RenderedPair

Raster = NDArray[np.uint8]
Plane = tuple[float, float, float]

MIN_DISPARITY = 1.0 / 256.0  # the smallest value a 16-bit disparity PNG tells from "unknown"
MAX_SLOPE = 0.45  # |∂d/∂x| of a relief relative to its plane: the contraction factor of the iteration
ITERATIONS = 10


@dataclass(frozen=True)
class Gloss:
    """A reflection seen in a layer: its own picture, farther (or nearer) than the surface itself."""

    patch_hw4: Raster  # RGBA; alpha is the reflectance
    left: float
    plane: Plane


@dataclass(frozen=True)
class Layer:
    """A piece of surface in left-view coordinates: column ``u`` of the raster sits at x = ``left`` + u.

    ``opacity`` < 1 makes a pane: it is looked through, and the truth is what lies behind it.
    """

    patch_hw4: Raster  # RGBA, straight alpha; alpha is the coverage
    left: float
    top: int
    plane: Plane
    relief_hw: FloatImage | None = None
    opacity: float = 1.0
    gloss: Gloss | None = None

    def disparity_at(self, x: float, y: float) -> float:
        """Disparity of the layer's plane (relief aside) at a left-view position."""
        a, b, c = self.plane
        return a * x + b * y + c

    @property
    def centre_disparity(self) -> float:
        """Disparity of the plane at the middle of the raster: the painting order."""
        height, width = self.patch_hw4.shape[:2]
        return self.disparity_at(self.left + width / 2, self.top + height / 2)


class View:
    """One image being painted. ``right`` views see the left view's x = x_right + d."""

    def __init__(self, height: int, width: int, *, right: bool) -> None:
        self.colour_HW3: FloatImage = np.zeros((height, width, 3), np.float32)
        self.disparity_HW: FloatImage = np.full((height, width), MIN_DISPARITY, np.float32)
        self.right = right

    def paint(self, layer: Layer) -> None:
        """Put ``layer`` in front of what is farther than it."""
        box = self._box(layer)
        if box is None:
            return
        if layer.relief_hw is None:
            disparity = self._planar(layer.plane, box)
            seen = _extent(disparity >= self._inside(box))
            if seen is None:
                return
            y0, y1, x0, x1 = seen
            disparity = disparity[y0:y1, x0:x1]
            box = (box[0] + x0, box[0] + x1, box[2] + y0, box[2] + y1)
            inverse = self._inverse(layer.plane, layer.left, layer.top, box)
            patch = _warp(layer.patch_hw4, inverse, x1 - x0, y1 - y0)
        else:
            disparity, patch = self._curved(layer, box, layer.relief_hw)
        self._blend(layer, box, disparity, patch)

    def _inside(self, box: tuple[int, int, int, int]) -> FloatImage:
        x0, x1, y0, y1 = box
        return self.disparity_HW[y0:y1, x0:x1]

    def _blend(self, layer: Layer, box: tuple[int, int, int, int], disparity: FloatImage, patch: Raster) -> None:
        behind_D = self._inside(box)
        near = (disparity >= behind_D) & (patch[:, :, 3] > 0)
        if not near.any():
            return
        colour = patch[:, :, :3].astype(np.float32)
        if layer.gloss is not None:
            self._reflect(colour, layer.gloss, layer.top, box)
        weight = patch[:, :, 3] * np.float32(layer.opacity / 255)
        weight *= near
        x0, x1, y0, y1 = box
        behind = self.colour_HW3[y0:y1, x0:x1]
        colour -= behind
        colour *= weight[:, :, None]
        behind += colour
        if layer.opacity == 1:
            np.copyto(behind_D, disparity, where=near & (patch[:, :, 3] > 127))

    def _box(self, layer: Layer) -> tuple[int, int, int, int] | None:
        """The part of this view the layer can touch: x0, x1, y0, y1 (ends exclusive), or None."""
        height, width = layer.patch_hw4.shape[:2]
        rows, columns = self.disparity_HW.shape
        xs = [layer.left, layer.left + width - 1]
        y0, y1 = max(0, layer.top), min(rows, layer.top + height)
        if y0 >= y1:
            return None
        if self.right:
            relief = layer.relief_hw
            low, high = (0.0, 0.0) if relief is None else (float(relief.min()), float(relief.max()))
            ends = [(x, layer.disparity_at(x, y)) for x in xs for y in (y0, y1 - 1)]
            xs = [min(x - d for x, d in ends) - high, max(x - d for x, d in ends) - low]
        x0, x1 = max(0, int(np.floor(xs[0]))), min(columns, int(np.ceil(xs[1])) + 1)
        return None if x0 >= x1 else (x0, x1, y0, y1)

    def _inverse(self, plane: Plane, left: float, top: int, box: tuple[int, int, int, int]) -> FloatImage:
        """2×3 map from pixels of ``box`` to raster coordinates of a planar layer."""
        a, b, c = plane if self.right else (0.0, 0.0, 0.0)
        x0, _, y0, _ = box
        k = 1.0 / (1.0 - a)
        rows = [[k, b * k, (x0 + b * y0 + c) * k - left], [0.0, 1.0, y0 - top]]
        return np.array(rows, np.float32)

    def _planar(self, plane: Plane, box: tuple[int, int, int, int]) -> FloatImage:
        """Disparity of a plane at this view's pixels."""
        x0, x1, y0, y1 = box
        a, b, c = plane
        k = 1.0 / (1.0 - a) if self.right else 1.0
        x = np.arange(x0, x1, dtype=np.float32)[None, :] * np.float32(a * k)
        y = np.arange(y0, y1, dtype=np.float32)[:, None] * np.float32(b * k)
        return x + (y + np.float32(c * k))

    def _curved(self, layer: Layer, box: tuple[int, int, int, int], relief_hw: FloatImage) -> tuple[FloatImage, Raster]:
        x0, x1, y0, y1 = box
        a, b, c = layer.plane
        x_view = np.arange(x0, x1, dtype=np.float32)[None, :]
        y = np.arange(y0, y1, dtype=np.float32)[:, None]
        v = np.broadcast_to(y - layer.top, (y1 - y0, x1 - x0)).astype(np.float32)
        if self.right:
            k = np.float32(1.0 / (1.0 - a))
            start = (x_view + (np.float32(b) * y + np.float32(c))) * k
            x_left = start
            for _ in range(ITERATIONS):
                x_left = start + _lookup(relief_hw, x_left - np.float32(layer.left), v) * k
            disparity = x_left - x_view
        else:
            x_left = np.broadcast_to(x_view, v.shape).astype(np.float32)
            disparity = np.float32(a) * x_left + (np.float32(b) * y + np.float32(c))
            disparity = disparity + _lookup(relief_hw, x_left - np.float32(layer.left), v)
        u = x_left - np.float32(layer.left)
        patch = cv2.remap(layer.patch_hw4, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
        return np.ascontiguousarray(disparity, np.float32), np.asarray(patch, np.uint8)

    def _reflect(self, colour: FloatImage, gloss: Gloss, top: int, box: tuple[int, int, int, int]) -> None:
        """Mix the reflection into ``colour``, in place."""
        x0, x1, y0, y1 = box
        inverse = self._inverse(gloss.plane, gloss.left, top, box)
        patch = _warp(gloss.patch_hw4, inverse, x1 - x0, y1 - y0, border=cv2.BORDER_REFLECT)
        share = patch[:, :, 3:] * np.float32(1 / 255)
        colour += (patch[:, :, :3] - colour) * share


def to_bytes(image_HW3: FloatImage) -> Raster:
    """Rounded and saturated to 0..255."""
    return np.asarray(cv2.add(image_HW3, 0.0, dtype=cv2.CV_8U), np.uint8)  # type: ignore[call-overload]


def _extent(mask_hw: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """First and last (exclusive) row and column that hold a true pixel; None if there is none."""
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    return (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1) if rows.size else None


def trimmed(patch_hw4: Raster, left: float, top: int) -> tuple[Raster, float, int]:
    """A raster without its empty margins (one row and column of them kept), and its new corner."""
    extent = _extent(patch_hw4[:, :, 3] > 0)
    if extent is None:
        return patch_hw4[:1, :1], left, top
    y0, x0 = max(0, extent[0] - 1), max(0, extent[2] - 1)
    return np.ascontiguousarray(patch_hw4[y0 : extent[1] + 1, x0 : extent[3] + 1]), left + x0, top + y0


def _warp(patch: Raster, inverse: FloatImage, width: int, height: int, border: int = cv2.BORDER_CONSTANT) -> Raster:
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(patch, inverse, (width, height), flags=flags, borderMode=border), np.uint8)


def _lookup(relief_hw: FloatImage, u: FloatImage, v: FloatImage) -> FloatImage:
    looked = cv2.remap(relief_hw, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(looked, np.float32)


def limit_slope(relief_hw: FloatImage, a: float) -> FloatImage:
    """``relief_hw``, flattened if its horizontal slope, over a plane of slope ``a``, would spoil the inverse."""
    if relief_hw.shape[1] < 2:
        return np.zeros_like(relief_hw)
    steepest = float(np.abs(np.diff(relief_hw, axis=1)).max())
    allowed = MAX_SLOPE * (1.0 - abs(a))
    return relief_hw if steepest <= allowed else np.asarray(relief_hw * np.float32(allowed / steepest), np.float32)


def render(layers: list[Layer], height: int, width: int) -> RenderedPair:
    """Paint ``layers`` from far to near into both views. The caller's farthest layer must cover them."""
    left, right = View(height, width, right=False), View(height, width, right=True)
    for layer in sorted(layers, key=lambda item: item.centre_disparity):
        left.paint(layer)
        right.paint(layer)
    return RenderedPair(left.colour_HW3, right.colour_HW3, left.disparity_HW, right.disparity_HW)
