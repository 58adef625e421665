"""Outlines of pieces: coverage masks for blobs, things and thin structures.

Shape legend: h, w of the raster. Every function takes (rng, height, width) and returns uint8 coverage 0..255,
antialiased, empty along the border.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .patterns import FONTS, LETTERS

Mask = NDArray[np.uint8]
FINE = 2  # drawn this much larger and averaged, so that widths need not be whole pixels
MARGIN = 2


class Pen:
    """A supersampled mask with drawing calls in final pixels."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._fine: Mask = np.zeros((height * FINE, width * FINE), np.uint8)

    def polygon(self, points: NDArray[Any], value: int = 255) -> None:
        fixed = np.round(np.asarray(points, np.float64) * FINE * 16).astype(np.int32)
        cv2.fillPoly(self._fine, [fixed], value, cv2.LINE_AA, 4)

    def path(self, points: NDArray[Any], thickness: float, *, closed: bool = False) -> None:
        fixed = np.round(np.asarray(points, np.float64) * FINE * 16).astype(np.int32)
        cv2.polylines(self._fine, [fixed], closed, 255, max(1, round(thickness * FINE)), cv2.LINE_AA, 4)

    def ellipse(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0, value: int = 255) -> None:
        centre = (round(x * FINE * 16), round(y * FINE * 16))
        axes = (max(1, round(rx * FINE * 16)), max(1, round(ry * FINE * 16)))
        cv2.ellipse(self._fine, centre, axes, angle, 0, 360, value, -1, cv2.LINE_AA, 4)

    def text(self, line: str, x: float, y: float, size: float, font: int, thickness: float) -> None:
        thick = max(1, round(thickness * FINE))
        cv2.putText(self._fine, line, (int(x * FINE), int(y * FINE)), font, size * FINE, 255, thick, cv2.LINE_AA)

    def done(self) -> Mask:
        mask = cv2.resize(self._fine, (self.width, self.height), interpolation=cv2.INTER_AREA)
        mask[:MARGIN] = mask[-MARGIN:] = 0
        mask[:, :MARGIN] = mask[:, -MARGIN:] = 0
        return np.asarray(mask, np.uint8)


def _around(rng: np.random.Generator, height: int, width: int, radius: NDArray[Any]) -> NDArray[Any]:
    """Closed outline from relative radii at even angles, filling the raster."""
    angle = np.linspace(0, 2 * np.pi, radius.size, endpoint=False) + rng.uniform(0, 2 * np.pi)
    reach = radius / radius.max()
    rx, ry = width / 2 - MARGIN, height / 2 - MARGIN
    return np.stack([width / 2 + rx * reach * np.cos(angle), height / 2 + ry * reach * np.sin(angle)], axis=1)


def polygon(rng: np.random.Generator, height: int, width: int) -> Mask:
    pen = Pen(height, width)
    pen.polygon(_around(rng, height, width, rng.uniform(0.35, 1, int(rng.integers(3, 9)))))
    return pen.done()


def blob(rng: np.random.Generator, height: int, width: int) -> Mask:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = np.ones(72)
    for k in range(2, 8):
        radius += rng.normal(0, 0.45 / k) * np.cos(k * angle + rng.uniform(0, 6.3))
    pen = Pen(height, width)
    pen.polygon(_around(rng, height, width, np.clip(radius, 0.15, 3)))
    return pen.done()


def ellipse(rng: np.random.Generator, height: int, width: int) -> Mask:
    pen = Pen(height, width)
    pen.ellipse(width / 2, height / 2, width / 2 - MARGIN, height / 2 - MARGIN)
    if rng.random() < 0.15:  # a ring
        k = rng.uniform(0.4, 0.85)
        pen.ellipse(width / 2, height / 2, (width / 2 - MARGIN) * k, (height / 2 - MARGIN) * k, value=0)
    return pen.done()


def rectangle(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Upright or a little turned; sometimes only a frame."""
    turn = 0.0 if rng.random() < 0.6 else rng.uniform(-40, 40)
    c, s = abs(np.cos(np.radians(turn))), abs(np.sin(np.radians(turn)))
    k = min(1.0, width / (width * c + height * s), height / (width * s + height * c))
    w, h = (width - 2 * MARGIN) * k, (height - 2 * MARGIN) * k
    pen = Pen(height, width)
    pen.polygon(cv2.boxPoints(((width / 2, height / 2), (w, h), turn)))
    if rng.random() < 0.2:
        bar = rng.uniform(0.08, 0.3) * min(w, h)
        pen.polygon(cv2.boxPoints(((width / 2, height / 2), (max(1, w - 2 * bar), max(1, h - 2 * bar)), turn)), 0)
    return pen.done()


def figure(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A standing person, more or less: head, trunk, legs, arms."""
    pen = Pen(height, width)
    x, head = width / 2, height * rng.uniform(0.06, 0.085)
    pen.ellipse(x + rng.normal(0, 0.02) * width, head * 1.2 + MARGIN, head * 0.8, head)
    shoulder, hip = min(width * 0.36, height * 0.15), min(width * 0.26, height * 0.1)
    top, waist, foot = head * 2.2, height * rng.uniform(0.48, 0.58), height - MARGIN - 1
    pen.polygon(np.array([[x - shoulder, top], [x + shoulder, top], [x + hip, waist], [x - hip, waist]]))
    spread = rng.uniform(0.3, 1.6) * hip
    for side in (-1, 1):
        knee = (waist + foot) / 2
        leg = np.array([[x + side * hip * 0.5, waist - 2], [x + side * spread * 0.7, knee], [x + side * spread, foot]])
        pen.path(leg, max(2, hip * 0.8))
        reach = rng.uniform(0.9, 1.5) * shoulder
        arm = [[x + side * shoulder * 0.9, top + 2], [x + side * reach, (top + waist) / 2], [x + side * reach, waist]]
        pen.path(np.array(arm), max(1.5, hip * 0.45))
    return pen.done()


def vehicle(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A car or van from the side: body, cabin, wheels."""
    w, h = width - 2 * MARGIN, height - 2 * MARGIN
    belt = rng.uniform(0.35, 0.55)
    roof = [rng.uniform(0.0, 0.3), rng.uniform(0.25, 0.45), rng.uniform(0.55, 0.85), rng.uniform(0.75, 1.0)]
    sill = 0.88
    outline = [[0, sill], [0, belt + 0.05], [roof[0], belt], [roof[1], 0], [roof[2], 0], [roof[3], belt]]
    outline += [[1, belt + 0.1], [1, sill]]
    pen = Pen(height, width)
    pen.polygon(np.array(outline) * [w, h] + MARGIN)
    radius = 0.16 * h
    for x in (0.2, 0.8):
        pen.ellipse(MARGIN + x * w, MARGIN + h - radius, radius, radius)
    return pen.done()


def vase(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A turned body: symmetric, its radius a smooth profile."""
    y = np.linspace(0, 1, 40)
    profile = np.interp(y, np.linspace(0, 1, 6), rng.uniform(0.25, 1.0, 6))
    profile = np.convolve(np.pad(profile, 4, mode="edge"), np.ones(9) / 9, "valid")
    half = profile / profile.max() * (width / 2 - MARGIN)
    ys = MARGIN + y * (height - 2 * MARGIN)
    side = np.stack([width / 2 + half, ys], axis=1)
    pen = Pen(height, width)
    pen.polygon(np.concatenate([side, (side * [-1, 1] + [width, 0])[::-1]]))
    return pen.done()


def crown(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Foliage: a cloud of leaf clumps, dense inside and ragged outside."""
    pen = Pen(height, width)
    size = max(2.0, min(height, width) * rng.uniform(0.015, 0.07))
    count = int(min(400, rng.uniform(0.4, 1.3) * height * width / (size * size * 4)))
    angle, reach = rng.uniform(0, 2 * np.pi, count), rng.random(count) ** 0.6 * 0.95
    for a, r in zip(angle, reach, strict=True):
        x = width / 2 + r * np.cos(a) * (width / 2 - size)
        y = height / 2 + r * np.sin(a) * (height / 2 - size)
        pen.ellipse(x, y, size * rng.uniform(0.5, 1.4), size * rng.uniform(0.3, 1), rng.uniform(0, 180))
    return pen.done()


def leaves(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Scattered pointed leaves on thin stems."""
    pen = Pen(height, width)
    length = max(4.0, min(40.0, min(height, width) * rng.uniform(0.06, 0.2)))
    for _ in range(int(rng.integers(6, 50))):
        x, y, a = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * np.pi)
        along, across = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
        t = np.linspace(-1, 1, 9)[:, None]
        rim = across * (1 - t**2) * length * rng.uniform(0.12, 0.4)
        spine = np.array([x, y]) + along * t * length * 0.6
        pen.polygon(np.concatenate([spine + rim, (spine - rim)[::-1]]))
    return pen.done()


def rods(rng: np.random.Generator, height: int, width: int) -> Mask:
    """One to six straight bars: often upright or level, sometimes parallel."""
    pen = Pen(height, width)
    main = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    for _ in range(int(rng.integers(1, 7))):
        angle = main if rng.random() < 0.7 else rng.uniform(0, np.pi)
        centre = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height])
        reach = np.hypot(height, width) * rng.uniform(0.2, 0.7)
        way = np.array([np.cos(angle), np.sin(angle)]) * reach
        pen.path(np.stack([centre - way, centre + way]), rng.uniform(1.5, 6))
    return pen.done()


def cables(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Hanging wires."""
    pen = Pen(height, width)
    t = np.linspace(0, 1, 30)
    sag = rng.uniform(0, 0.6) * height
    for _ in range(int(rng.integers(1, 5))):
        y0, y1 = rng.uniform(0, 0.6, 2) * height
        y = y0 + (y1 - y0) * t + sag * 4 * t * (1 - t) * rng.uniform(0.8, 1.2)
        pen.path(np.stack([t * width, y], axis=1), rng.uniform(1.5, 4))
    return pen.done()


def railing(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Bars between rails: fence, balcony, shelf."""
    pen = Pen(height, width)
    step = max(5.0, height * rng.uniform(0.08, 0.4))
    bar, rail = rng.uniform(1.5, max(2.0, step * 0.3)), rng.uniform(1.5, max(2.5, height * 0.05))
    lean = 0.0 if rng.random() < 0.8 else rng.normal(0, 0.3) * height
    for x in np.arange(MARGIN + 2, width, step):
        pen.path(np.array([[x, MARGIN], [x + lean, height - MARGIN]]), bar)
    for y in [0.06, 0.94, *rng.uniform(0.1, 0.9, int(rng.integers(0, 3)))]:
        pen.path(np.array([[0, y * height], [width, y * height]]), rail)
    return pen.done()


def net(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A mesh of wires, straight or diagonal."""
    pen = Pen(height, width)
    step = max(6.0, min(60.0, min(height, width) * rng.uniform(0.08, 0.3)))
    wire = rng.uniform(1.2, max(1.6, step * 0.15))
    lean = 0.0 if rng.random() < 0.5 else float(height)
    for x in np.arange(-height, width + height, step):
        pen.path(np.array([[x, 0], [x + lean, height]]), wire)
        if lean:
            pen.path(np.array([[x, height], [x + lean, 0]]), wire)
    if not lean:
        for y in np.arange(step / 2, height, step):
            pen.path(np.array([[0, y], [width, y]]), wire)
    return pen.done()


def branches(rng: np.random.Generator, height: int, width: int) -> Mask:
    """A bare tree or shrub: forking, thinning limbs growing from below."""
    pen = Pen(height, width)
    limbs = [(width / 2, height - MARGIN, -np.pi / 2, height * 0.35, max(2.0, height * 0.03))]
    for _ in range(40):
        if not limbs:
            break
        x, y, angle, length, thick = limbs.pop(0)
        x1, y1 = x + np.cos(angle) * length, y + np.sin(angle) * length
        pen.path(np.array([[x, y], [x1, y1]]), thick)
        for _ in range(int(rng.integers(2, 4))):
            if length > 6:
                turn = angle + rng.normal(0, 0.55)
                limbs.append((x1, y1, turn, length * rng.uniform(0.5, 0.85), max(1.5, thick * 0.65)))
    return pen.done()


def letters(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Cut-out writing."""
    pen = Pen(height, width)
    size = height / 40
    line = "".join(LETTERS[rng.integers(0, 52, max(1, int(width / height * 1.3) + 1))])
    pen.text(line, MARGIN, height * 0.8, size, FONTS[rng.integers(len(FONTS))], max(1.5, height * 0.08))
    return pen.done()


Shape = Callable[[np.random.Generator, int, int], Mask]
SOLID: tuple[Shape, ...] = (polygon, blob, blob, ellipse, rectangle, rectangle, figure, vehicle, vase)
THIN: tuple[Shape, ...] = (rods, rods, cables, railing, net, branches, leaves, leaves, crown, letters)
