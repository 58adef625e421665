"""Procedural surface looks: noise, flat, grids, tiles, facades, wood, brushed metal, writing, sky.

Shape legend: H, W, 3 as in an image. Every function takes (rng, height, width) and returns RGB float32 in 0..255;
the same state of ``rng`` gives the same bytes.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import FloatImage

Field = NDArray[np.float32]
LETTERS = np.array(list(string.ascii_letters + string.digits + "  .,-+:&/"))
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)


def colour(rng: np.random.Generator, low: float = 15.0, high: float = 240.0) -> Field:
    """An RGB colour: usually muted, as paint, stone and cloth are; sometimes vivid."""
    gray = rng.uniform(low, high)
    spread = rng.uniform(2, 25) if rng.random() < 0.7 else rng.uniform(25, 110)
    return np.clip(gray + rng.uniform(-spread, spread, 3), 0, 255).astype(np.float32)


def field(
    rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 4, aspect: float = 1.0
) -> Field:
    """Multi-octave value noise in 0..1.

    Args:
        cells: noise cells over the larger side in the first octave.
        aspect: > 1 stretches the cells horizontally.
    """
    side = max(height, width)
    total: Field = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        per_px = cells * 2**octave / side
        rows, columns = max(2, int(height * per_px) + 2), max(2, int(width * per_px / aspect) + 2)
        if rows > height or columns > width:
            break
        grid = rng.random((rows, columns), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.55**octave)
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), np.float32)


def ramp(rng: np.random.Generator, values_HW: Field, stops: int = 3) -> FloatImage:
    """Colour a 0..1 field by a palette of ``stops`` random colours."""
    palette = np.stack([colour(rng) for _ in range(stops)])
    index = np.linspace(0, stops - 1, 256)
    table = np.stack([np.interp(index, np.arange(stops), palette[:, c]) for c in range(3)], axis=1).astype(np.float32)
    return table[np.clip(values_HW * 255, 0, 255).astype(np.uint8)]


def noise(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Clouds, plaster, stone, grass: multi-octave noise through a palette."""
    cells = float(np.exp(rng.uniform(np.log(2), np.log(60))))
    values = field(rng, height, width, cells, int(rng.integers(2, 7)), float(np.exp(rng.normal(0, 0.5))))
    image = ramp(rng, values, int(rng.integers(2, 5)))
    if rng.random() < 0.5:
        grain = rng.standard_normal((height, width, 1), dtype=np.float32)
        image = image + grain * np.float32(rng.uniform(2, 18))
    return image


def flat(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Textureless: one colour with a soft gradient, sometimes a trace of grain."""
    corners = colour(rng) + rng.uniform(-20, 20, (2, 2, 1)).astype(np.float32)
    corners = corners * np.ones((2, 2, 3), np.float32)
    image = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        image = image + rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(0, 3))
    return np.asarray(image, np.float32)


def plaster(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Painted walls, paper, plastic: near white all over, with stains and grain too faint to see, or just visible."""
    contrast = float(np.exp(rng.uniform(np.log(1), np.log(16))))
    stains = field(rng, height, width, rng.uniform(2, 6), 6) - 1
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(0.0, 0.15))
    return np.asarray(255 + np.float32(contrast) * (stains + grain)[..., None].repeat(3, axis=2), np.float32)


def bare(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """One colour with soft light and faint stains: what fills a picture where there is nothing to match."""
    return flat(rng, height, width) * plaster(rng, height, width) / np.float32(255)


def _axes(rng: np.random.Generator, height: int, width: int, upright: float) -> tuple[Field, Field]:
    """Coordinates along and across a direction: axis-aligned with probability ``upright``."""
    angle = 0.0 if rng.random() < upright else rng.uniform(0, np.pi)
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * c + y * s, y * c - x * s


def _wave(coordinate: Field, period: float, duty: float) -> Field:
    """An antialiased square wave, 0..1."""
    phase = np.abs(np.mod(coordinate / np.float32(period), 1.0) - 0.5) * 2
    return np.asarray(np.clip((duty - phase) * period / 2 + 0.5, 0, 1), np.float32)


def grid(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Repetitive: stripes, checkers, plaid, tiles with joints, dots."""
    u, v = _axes(rng, height, width, 0.6)
    period = float(np.exp(rng.uniform(np.log(5), np.log(60))))
    other = period if rng.random() < 0.5 else period * rng.uniform(0.4, 2.5)
    duty = rng.uniform(0.15, 0.85)
    style = rng.integers(5)
    across = _wave(u, period, duty)
    along = _wave(v, other, rng.uniform(0.15, 0.85))
    if style == 0:
        mask = across + 0 * v
    elif style == 1:
        mask = np.abs(across - along)
    elif style == 2:
        mask = 0.5 * across + 0.5 * along
    elif style == 3:
        mask = _wave(u, period, 0.93) * _wave(v, other, 0.93)
    else:
        mask = np.clip(np.cos(2 * np.pi * u / period) + np.cos(2 * np.pi * v / other) - duty, 0, 1)
    return _two_tone(rng, mask.astype(np.float32))


def _two_tone(rng: np.random.Generator, mask_HW: Field) -> FloatImage:
    """Between two colours by a mask, with a little unevenness so that it is not perfectly periodic (usually)."""
    height, width = mask_HW.shape
    first, second = colour(rng), colour(rng)
    image = first + (second - first) * mask_HW[..., None]
    if rng.random() < 0.7:
        wear = field(rng, height, width, rng.uniform(2, 12), 4)[..., None] - 0.5
        image = image + wear * np.float32(rng.uniform(5, 60))
    return np.asarray(image, np.float32)


def tiles(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Bricks or slabs: offset rows, joints, one tone per brick."""
    brick_h = float(np.exp(rng.uniform(np.log(6), np.log(50))))
    brick_w = brick_h * rng.uniform(1, 4)
    offset = rng.choice([0.0, 0.5, 0.33])
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    row = np.floor(y / brick_h)
    shifted = x + row * np.float32(offset * brick_w)
    column = np.floor(shifted / brick_w)
    level = _wave(y - brick_h / 2, brick_h, 1 - 1.5 / brick_h)
    joint = level * _wave(shifted - brick_w / 2, brick_w, 1 - 1.5 / brick_w)
    tones = rng.normal(0, rng.uniform(2, 22), 4096).astype(np.float32)
    index = (row.astype(np.int64) * 61 + column.astype(np.int64) * 7) % tones.size
    base, gap = colour(rng), colour(rng, 60, 220)
    image = base + tones[index][..., None]
    image = gap + (image - gap) * joint[..., None]
    wear = field(rng, height, width, rng.uniform(4, 30), 4)[..., None] - 0.5
    return np.asarray(image + wear * np.float32(rng.uniform(5, 50)), np.float32)


def facade(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """A house front: plaster or brick with rows of alike windows and frames."""
    image = tiles(rng, height, width) if rng.random() < 0.4 else flat(rng, height, width)
    step_y = height / rng.uniform(1.5, 7)
    step_x = step_y * rng.uniform(0.5, 1.3)
    window_h, window_w = step_y * rng.uniform(0.35, 0.75), step_x * rng.uniform(0.3, 0.75)
    frame, pane = colour(rng), colour(rng, 10, 140)
    border = max(1, round(step_y * 0.05))
    canvas = np.ascontiguousarray(image, np.float32)
    for top in np.arange(step_y * 0.15, height, step_y):
        for left in np.arange(step_x * rng.uniform(0.05, 0.1), width, step_x):
            x0, y0, x1, y1 = int(left), int(top), int(left + window_w), int(top + window_h)
            glass = np.clip(pane + rng.normal(0, 14), 0, 255)
            cv2.rectangle(canvas, (x0, y0), (x1, y1), glass.tolist(), -1)
            cv2.rectangle(canvas, (x0, y0), (x1, y1), frame.tolist(), border)
            cv2.line(canvas, ((x0 + x1) // 2, y0), ((x0 + x1) // 2, y1), frame.tolist(), max(1, border // 2))
    return canvas


def wood(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Grain: rings bent by stretched noise."""
    u, v = _axes(rng, height, width, 0.8)
    bend = field(rng, height, width, rng.uniform(1, 4), 3, aspect=rng.uniform(2, 6))
    fine = field(rng, height, width, rng.uniform(20, 60), 3, aspect=8)
    rings = 0.5 + 0.5 * np.sin(v * np.float32(rng.uniform(0.05, 0.5)) + bend * rng.uniform(5, 30) + 0 * u)
    tone = np.array([rng.uniform(90, 210), 0, 0], np.float32)
    tone[1] = tone[0] * rng.uniform(0.6, 0.85)
    tone[2] = tone[1] * rng.uniform(0.45, 0.85)
    light = 1 + (rings - 0.5) * np.float32(rng.uniform(0.05, 0.4)) + (fine - 0.5) * np.float32(rng.uniform(0.05, 0.35))
    return np.asarray(tone * light[..., None], np.float32)


def brushed(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Metal: grayish, fine streaks along one axis, broad light bands."""
    streaks = field(rng, height, width, rng.uniform(40, 120), 2, aspect=rng.uniform(10, 40))
    bands = field(rng, height, width, rng.uniform(1, 4), 2)
    if rng.random() < 0.4:
        streaks = np.asarray(cv2.resize(np.ascontiguousarray(streaks.T), (width, height)), np.float32)
    tone = colour(rng, 60, 210)
    tone = tone * 0.3 + tone.mean() * 0.7
    light = 1 + (streaks - 0.5) * np.float32(rng.uniform(0.05, 0.3)) + (bands - 0.5) * np.float32(rng.uniform(0.1, 0.9))
    return np.asarray(tone * light[..., None], np.float32)


def writing(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Pages, posters, packages: lines of glyphs in a few sizes on paper."""
    paper = flat(rng, height, width) if rng.random() < 0.7 else noise(rng, height, width)
    image = np.ascontiguousarray(np.clip(paper, 0, 255), np.uint8)  # putText draws on bytes only
    top = rng.uniform(0, 10)
    while top < height:
        size = float(np.exp(rng.uniform(np.log(6), np.log(max(12.0, min(60.0, height / 3))))))
        ink, font = colour(rng).tolist(), FONTS[rng.integers(len(FONTS))]
        for _ in range(int(rng.integers(1, 6))):
            top += size * 1.3
            count = int(width / size * 1.6) + 1
            line = "".join(LETTERS[rng.integers(0, LETTERS.size, count)])
            left = int(rng.uniform(0, width * 0.2))
            cv2.putText(image, line, (left, int(top)), font, size / 30, ink, max(1, int(size / 14)), cv2.LINE_AA)
        top += size * rng.uniform(0, 2)
    return image.astype(np.float32)


def sky(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Top darker than the horizon; clear, hazy, overcast or with clouds; sometimes burnt out."""
    top = np.array([rng.uniform(40, 150), rng.uniform(90, 180), rng.uniform(150, 250)], np.float32)
    low = np.array([rng.uniform(170, 255), rng.uniform(185, 255), rng.uniform(200, 255)], np.float32)
    if rng.random() < 0.4:
        top = low * np.float32(rng.uniform(0.7, 1.0))
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** np.float32(rng.uniform(0.5, 1.5))
    image = np.repeat(top + (low - top) * t, width, axis=1)
    if rng.random() < 0.65:
        clouds = field(rng, height, width, rng.uniform(1.5, 7), 6, aspect=rng.uniform(1, 3))
        cover = np.clip((clouds - rng.uniform(0.3, 0.6)) * rng.uniform(1.5, 6), 0, 1)[..., None]
        light = rng.uniform(170, 255) + (field(rng, height, width, 4, 4)[..., None] - 0.5) * rng.uniform(10, 70)
        image = image + (light - image) * cover * rng.uniform(0.3, 1.0)
    return np.asarray(np.clip(image * np.float32(rng.uniform(0.75, 1.15)), 0, 255), np.float32)


def road(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Asphalt or concrete with grain and long marks along the vertical axis (the driving direction)."""
    tone = colour(rng, 50, 150)
    tone = tone * 0.2 + tone.mean() * 0.8
    wear = field(rng, height, width, rng.uniform(2, 8), 5)[..., None] - 0.5
    image = tone + wear * np.float32(rng.uniform(10, 60))
    image = image + rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(2, 14))
    image = np.ascontiguousarray(image, np.float32)
    for _ in range(int(rng.integers(0, 5))):
        x, thick = int(rng.uniform(0, width)), max(1, int(width * rng.uniform(0.004, 0.02)))
        paint = float(rng.uniform(140, 250))
        dash = height if rng.random() < 0.5 else max(4, int(height * rng.uniform(0.03, 0.15)))
        for y in range(0, height, 2 * dash):
            cv2.rectangle(image, (x, y), (x + thick, min(height, y + dash)), (paint, paint, paint * 0.95), -1)
    return image


def foliage(rng: np.random.Generator, height: int, width: int) -> FloatImage:
    """Leaves and grass: sharp fine noise in greens and browns over broad light and shade."""
    leaf = np.array([rng.uniform(50, 130), rng.uniform(80, 150), rng.uniform(20, 70)], np.float32)
    fine = field(rng, height, width, rng.uniform(40, 110), 2)
    coarse = field(rng, height, width, rng.uniform(3, 12), 4)
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(0.05, 0.2))
    light = np.clip((fine - 0.5) * rng.uniform(1, 3) + 0.6, 0.1, 1.5) * (0.4 + coarse * rng.uniform(0.6, 1.3)) + grain
    warm = (coarse - 0.5)[..., None] * np.array([40, 10, -10], np.float32) * np.float32(rng.uniform(-0.5, 1.5))
    return np.asarray((leaf + warm) * light[..., None], np.float32)


Pattern = Callable[[np.random.Generator, int, int], FloatImage]
PATTERNS: dict[str, Pattern] = {
    "noise": noise,
    "flat": flat,
    "grid": grid,
    "tiles": tiles,
    "facade": facade,
    "wood": wood,
    "brushed": brushed,
    "writing": writing,
    "sky": sky,
    "road": road,
    "foliage": foliage,
}
