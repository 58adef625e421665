"""What a piece is made of: its colours, light and shade on its relief, and what is reflected in it.

Light and shade are painted into the colours, so both views see the same; only :class:`~.layers.Gloss` depends on the
view. Shape legend: h, w of a layer's raster.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .layers import Gloss, Layer, Plane, Raster, limit_slope, to_bytes
from .patterns import PATTERNS, field
from .scene import FloatImage, TextureSource
from .shapes import Mask

# Shares of piece materials; "photo mixture" is TextureSource.sample, which itself holds flat and repetitive looks.
MATERIALS = {"mixture": 0.66, "flat": 0.10, "repeat": 0.06, "glossy": 0.10, "metal": 0.05, "glass": 0.03}
REPEATS = ("grid", "tiles", "facade")
Detail = Callable[[np.random.Generator, FloatImage, Mask], None]


def material(rng: np.random.Generator) -> str:
    """A name out of :data:`MATERIALS`."""
    return str(rng.choice(list(MATERIALS), p=list(MATERIALS.values())))


def colours(rng: np.random.Generator, textures: TextureSource, kind: str, height: int, width: int) -> FloatImage:
    """The unlit look of a material."""
    if kind == "flat" or (kind == "glossy" and rng.random() < 0.6):
        return PATTERNS["flat"](rng, height, width)
    if kind == "repeat":
        return PATTERNS[REPEATS[rng.integers(len(REPEATS))]](rng, height, width)
    if kind == "foliage":
        return PATTERNS["foliage"](rng, height, width)
    if kind == "metal":
        return PATTERNS["brushed"](rng, height, width)
    return textures.sample(rng, height, width)


def relief(rng: np.random.Generator, height: int, width: int, depth: float, a: float) -> FloatImage:
    """A curved surface over a plane of slope ``a``: cylinder, ball, folds or soft dents of about ``depth`` px."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    style = rng.integers(5)
    if style == 0:
        bump = (1 - x**2) + 0 * y
    elif style == 1:
        bump = (1 - y**2) + 0 * x
    elif style == 2:
        bump = np.clip(1 - (x**2 + y**2) / 2, 0, 1)
    elif style == 3:
        lean = rng.uniform(-1, 1)
        bump = np.sin((x + lean * y) * rng.uniform(2, 14) + rng.uniform(0, 6.3)) * 0.5
    else:
        bump = field(rng, height, width, rng.uniform(1, 5), 2)
    sign = 1.0 if rng.random() < 0.75 else -1.0
    return limit_slope(np.ascontiguousarray(bump * np.float32(depth * sign), np.float32), a)


def lit(rng: np.random.Generator, image_hw3: FloatImage, mask_hw: Mask, relief_hw: FloatImage | None) -> FloatImage:
    """Shade a piece: a light gradient, the slope of its relief towards the light, darker rims; in place."""
    height, width = mask_hw.shape
    slope = rng.normal(0, 0.18, 2).astype(np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light = 1 + slope[0] * x + slope[1] * y
    if relief_hw is not None:
        way = rng.normal(0, 1, 2)
        dy, dx = np.gradient(relief_hw)
        facing = np.float32(way[0]) * dx + np.float32(way[1]) * dy
        light = light + np.tanh(facing * np.float32(rng.uniform(0.5, 3))) * np.float32(rng.uniform(0.1, 0.5))
    if rng.random() < 0.4 and min(height, width) > 8:
        spread = max(1.0, min(height, width) * rng.uniform(0.03, 0.15))
        rim = blurred(mask_hw, spread) / np.float32(255)
        light = light * (1 - np.float32(rng.uniform(0.1, 0.5)) * (1 - np.clip(rim * 2 - 1, 0, 1)))
    image_hw3 *= np.clip(light, 0.25, 1.7)[..., None]
    return image_hw3


def car_parts(rng: np.random.Generator, image_hw3: FloatImage, mask_hw: Mask) -> None:
    """Windows, wheels, a dark sill and lamps on the side of a vehicle, in place."""
    height, width = mask_hw.shape
    inner = cv2.erode(mask_hw, np.ones((max(3, height // 14), max(3, width // 18)), np.uint8)) > 127
    inner[int(height * rng.uniform(0.38, 0.5)) :] = False
    for x in (0.5, rng.uniform(0.6, 0.75)):
        inner[:, int(x * width) : int(x * width) + max(1, width // 40)] = False
    sky = np.linspace(rng.uniform(60, 200), rng.uniform(5, 60), height, dtype=np.float32)[:, None, None]
    image_hw3[:] = np.where(inner[..., None], sky, image_hw3)
    radius = max(1, int(0.16 * height))
    for x in (0.2, 0.8):
        centre = (int(x * width), height - radius - 2)
        cv2.circle(image_hw3, centre, radius, (25, 25, 28), -1, cv2.LINE_AA)
        cv2.circle(image_hw3, centre, int(radius * 0.6), (150, 150, 155), -1, cv2.LINE_AA)


def blurred(mask_hw: Mask, sigma: float) -> FloatImage:
    """Gaussian blur through a smaller image where sigma is large (cost independent of sigma)."""
    shrink = max(1, int(sigma / 2))
    height, width = mask_hw.shape
    small = cv2.resize(mask_hw, (max(1, width // shrink), max(1, height // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def raster(image_hw3: FloatImage, mask_hw: Mask) -> Raster:
    """RGBA of colours and coverage."""
    out = np.empty((*mask_hw.shape, 4), np.uint8)
    out[:, :, :3] = to_bytes(image_hw3)
    out[:, :, 3] = mask_hw
    return out


def gloss(
    rng: np.random.Generator,
    textures: TextureSource,
    height: int,
    width: int,
    left: float,
    plane: Plane,
    strength: float,
) -> Gloss:
    """Surroundings and lamps mirrored in a surface: at a fraction of its disparity, as behind a mirror, or in front."""
    k = rng.uniform(0.2, 0.95) if rng.random() < 0.8 else rng.uniform(1.0, 1.3)
    a, b, c = plane
    mirrored = (a * k, b * k, c * k)
    if rng.random() < 0.5:
        sharp = textures.sample(rng, height, width)
        share = np.full((height, width), strength * rng.uniform(0.3, 0.8), np.float32)
        if rng.random() < 0.6:
            share *= field(rng, height, width, 2, 1)
    else:
        sharp = np.full((height, width, 3), 255, np.float32)
        share = np.zeros((height, width), np.float32)
    if min(height, width) > 12 and rng.random() < 0.6:
        sharp = np.asarray(cv2.GaussianBlur(sharp, (0, 0), rng.uniform(0.5, 6)), np.float32)
    share = _lamps(rng, sharp, share, strength)
    return Gloss(raster(sharp, np.clip(share * 255, 0, 250).astype(np.uint8)), left, mirrored)


def _lamps(rng: np.random.Generator, image_hw3: FloatImage, share_hw: FloatImage, strength: float) -> FloatImage:
    """Add up to three highlights; returns the new reflectance."""
    height, width = share_hw.shape
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    for _ in range(int(rng.integers(1, 4))):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = height * rng.uniform(0.03, 0.3) + 1, width * rng.uniform(0.02, 0.2) + 1
        spot = np.exp(-(((y - cy) / ry) ** 2) - ((x - cx) / rx) ** 2) * np.float32(min(1.0, strength * 1.8))
        image_hw3 += (255 - image_hw3) * spot[..., None]
        share_hw = np.maximum(share_hw, spot)
    return share_hw


def piece(
    rng: np.random.Generator,
    textures: TextureSource,
    mask_hw: Mask,
    left: float,
    top: int,
    plane: Plane,
    *,
    kind: str | None = None,
    depth: float = 0.0,
    detail: Detail | None = None,
) -> list[Layer]:
    """A finished piece of material ``kind`` (drawn if None) with a relief of about ``depth`` px: one or two layers.

    ``detail`` paints on the unlit colours, knowing the coverage (the windows of a car).
    """
    height, width = mask_hw.shape
    kind = material(rng) if kind is None else kind
    bump = relief(rng, height, width, depth, plane[0]) if depth > 0 else None
    image = colours(rng, textures, kind, height, width)
    if detail is not None:
        detail(rng, image, mask_hw)
    image = lit(rng, image, mask_hw, bump)
    if kind == "glass":
        return _pane(rng, textures, image, mask_hw, left, top, plane)
    shine = None
    if kind in ("glossy", "metal"):
        strength = rng.uniform(0.2, 0.6) if kind == "glossy" else rng.uniform(0.3, 0.8)
        shine = gloss(rng, textures, height, width, left, plane, strength)
    return [Layer(raster(image, mask_hw), left, top, plane, bump, gloss=shine)]


def _pane(
    rng: np.random.Generator,
    textures: TextureSource,
    image_hw3: FloatImage,
    mask_hw: Mask,
    left: float,
    top: int,
    plane: Plane,
) -> list[Layer]:
    """Glass: tinted, mirrored, half transparent, in an opaque frame; the truth is what lies behind."""
    height, width = mask_hw.shape
    tint = PATTERNS["flat"](rng, height, width)
    shine = gloss(rng, textures, height, width, left, plane, rng.uniform(0.3, 0.8))
    pane = Layer(raster(tint, mask_hw), left, top, plane, opacity=float(rng.uniform(0.1, 0.4)), gloss=shine)
    bar = max(3, int(min(height, width) * rng.uniform(0.04, 0.12))) | 1
    inner = cv2.erode(mask_hw, np.ones((bar, bar), np.uint8))
    return [pane, Layer(raster(image_hw3, mask_hw - np.minimum(inner, mask_hw)), left, top, plane)]
