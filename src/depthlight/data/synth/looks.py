"""Random materials and lights for rendered scenes.

Shape legend: H, W, 3 as in an image. Colours are display RGB 0..1 for materials, linear light for lamps.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from . import patterns
from .library import Asset
from .render import Lighting, Material, Stage
from .scene import FloatImage, TextureSource

RGB = tuple[float, float, float]


def tint(rng: np.random.Generator, low: float = 0.15, high: float = 0.95, vivid: float = 0.3) -> RGB:
    """A colour: a gray level in [low, high] with a little or (with probability ``vivid``) a lot of hue."""
    spread = rng.uniform(0.2, 0.9) if rng.random() < vivid else rng.uniform(0.0, 0.18)
    hue = rng.dirichlet((1.0, 1.0, 1.0))
    gray = rng.uniform(low, high)
    values = gray * (1 - spread + spread * hue / hue.max())
    return float(values[0]), float(values[1]), float(values[2])


class Looks:
    """Materials for one scene: at most ``pool`` textures are loaded and then shared among its surfaces."""

    def __init__(self, rng: np.random.Generator, stage: Stage, textures: TextureSource, pool: int = 10) -> None:
        self.rng, self.stage, self.textures, self.pool = rng, stage, textures, pool
        self.loaded: list[int] = []

    def texture(self) -> int:
        """A texture of any kind, new until the pool is full."""
        if len(self.loaded) < self.pool:
            side = int(self.rng.choice([192, 256, 384, 512]))
            self.loaded.append(self.stage.texture(self.textures.sample(self.rng, side, side)))
            return self.loaded[-1]
        return int(self.rng.choice(self.loaded))

    def pattern(self, name: str, height: int = 256, width: int = 256) -> int:
        """A fresh procedural texture of a named kind."""
        return self.stage.texture(patterns.PATTERNS[name](self.rng, height, width))

    def textured(self, metres: float) -> Material:
        """Diffuse or slightly glossy, one texture repeat about ``metres`` wide."""
        scale = metres * math.exp(self.rng.uniform(-0.5, 0.5))
        material = Material(colour=tint(self.rng, 0.7, 1.0, 0.15), texture=self.texture(), metres=scale)
        return self.glossed(material) if self.rng.random() < 0.25 else material

    def plain(self) -> Material:
        """No texture at all: only light and shadow tell its shape."""
        material = Material(colour=tint(self.rng))
        return self.glossed(material) if self.rng.random() < 0.4 else material

    def bare(self, metres: float) -> Material:
        """All but textureless, as walls, paper and plastic are; sometimes with a sheen."""
        material = Material(colour=tint(self.rng, 0.2, 0.97, 0.2), texture=self.plaster(), metres=metres)
        return self.glossed(material) if self.rng.random() < 0.2 else material

    def plaster(self) -> int:
        """A texture that is hardly one."""
        return self.stage.texture(patterns.plaster(self.rng, 256, 256))

    def repeated(self, metres: float) -> Material:
        """A pattern that repeats many times."""
        name = str(self.rng.choice(["grid", "tiles", "facade"]))
        period = metres * math.exp(self.rng.uniform(-1.2, 0.0))
        return Material(colour=tint(self.rng, 0.75, 1.0, 0.2), texture=self.pattern(name, 128, 128), metres=period)

    def glossed(self, material: Material) -> Material:
        """The same with a varnish: highlights and a faint reflection."""
        shine = float(math.exp(self.rng.uniform(math.log(12), math.log(150))))
        return replace(material, f0=float(self.rng.uniform(0.03, 0.14)), shininess=shine, blur=self.rng.uniform(0, 2))

    def metal(self, metres: float) -> Material:
        """Brushed, or smooth with a blurred reflection of the surroundings."""
        texture = self.pattern("brushed") if self.rng.random() < 0.5 else -1
        return Material(
            colour=tint(self.rng, 0.6, 0.98, 0.3),
            texture=texture,
            metres=metres,
            f0=0.6,
            metal=self.rng.uniform(0.6, 1.0),
            shininess=float(math.exp(self.rng.uniform(math.log(20), math.log(200)))),
            blur=self.rng.uniform(0, 2),
        )

    def glass(self) -> Material:
        """A thin pane: mostly what is behind it, and a reflection that grows towards grazing angles."""
        opacity = float(self.rng.uniform(0.05, 0.25))
        return Material(colour=tint(self.rng, 0.4, 0.9), f0=0.06, shininess=150.0, blur=0.0, opacity=opacity)

    def any(self, metres: float = 1.0) -> Material:
        """Any of these but glass, mostly textured."""
        kind = self.rng.random()
        if kind < 0.62:
            return self.textured(metres)
        if kind < 0.78:
            return self.plain()
        return self.repeated(metres) if kind < 0.88 else self.metal(metres)


def panorama(rng: np.random.Generator, textures: TextureSource) -> FloatImage:
    """An equirectangular (64, 128, 3) picture in linear light for reflections: a photograph, brighter above."""
    photo_HW3 = cv2.resize(textures.photo(rng), (128, 64), interpolation=cv2.INTER_AREA) / np.float32(255.0)
    above_H11 = np.linspace(rng.uniform(1.0, 1.8), rng.uniform(0.25, 0.7), 64, dtype=np.float32)[:, None, None]
    return np.asarray(photo_HW3**2 * above_H11, np.float32)


def daylight(rng: np.random.Generator, textures: TextureSource) -> Lighting:
    """Sun and sky: from hard low sun to overcast."""
    elevation = rng.uniform(math.radians(18), math.radians(75))
    azimuth = rng.uniform(0, 2 * math.pi)
    sun = rng.uniform(0.2, 1.0) if rng.random() < 0.35 else rng.uniform(1.0, 4.0)
    warmth = rng.uniform(0.0, 0.3) * (1 - elevation / math.radians(90))
    flat = math.cos(elevation)
    shade = rng.uniform(0.25, 0.6)
    return Lighting(
        key_direction=(flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth)),
        key_colour=(sun, sun * (1 - warmth), sun * (1 - 2 * warmth)),
        sky=(shade * 0.85, shade * 0.95, shade * 1.15),
        ground=(shade * 0.35, shade * 0.33, shade * 0.3),
        panorama_HW3=panorama(rng, textures),
        brightness=float(rng.uniform(0.3, 0.75)),
    )


def lamplight(rng: np.random.Generator, textures: TextureSource, lamps: list[RGB], reach: float) -> Lighting:
    """Indoors: light through a window or from a big lamp, light from the walls, and point lights at ``lamps``."""
    elevation = rng.uniform(math.radians(25), math.radians(80))
    azimuth = rng.uniform(0, 2 * math.pi)
    key = rng.uniform(0.3, 2.5)
    warmth = rng.uniform(-0.1, 0.25)
    flat = math.cos(elevation)
    fill = rng.uniform(0.2, 0.6)
    tone = tint(rng, 0.8, 1.0, 0.1)
    power = [float(rng.uniform(0.3, 1.5)) * reach for _ in lamps]
    return Lighting(
        key_direction=(flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth)),
        key_colour=(key, key * (1 - warmth), key * (1 - 2 * warmth)),
        sky=(fill * tone[0], fill * tone[1], fill * tone[2]),
        ground=(fill * 0.5, fill * 0.48, fill * 0.45),
        panorama_HW3=panorama(rng, textures),
        points=tuple(lamps),
        point_colours=tuple((p, p * 0.92, p * 0.8) for p in power),
        brightness=float(rng.uniform(0.3, 0.75)),
    )


def foliage(rng: np.random.Generator, side: int = 128) -> NDArray[np.uint8]:
    """A cluster of leaves as a cut-out (RGBA) for cards 1 m wide."""
    hue = tint(rng, 0.25, 0.6, 0.0)
    green = np.array([hue[0] * rng.uniform(0.5, 1.0), hue[1], hue[2] * rng.uniform(0.25, 0.6)]) * 255
    image = np.zeros((side, side, 4), np.uint8)
    image[..., :3] = green.astype(np.uint8)
    length = side * rng.uniform(0.06, 0.16)
    for _ in range(int(rng.integers(50, 110))):
        tone = np.clip(green * rng.uniform(0.55, 1.35) + rng.normal(0, 8, 3), 0, 255)
        centre = np.clip(rng.normal(side / 2, side / 5, 2), 0, side).astype(int).tolist()
        axes = (max(2, int(length * rng.uniform(0.6, 1.2))), max(1, int(length * rng.uniform(0.2, 0.45))))
        cv2.ellipse(image, centre, axes, rng.uniform(0, 360), 0, 360, (*tone.tolist(), 255), -1)
    return image


def dress(looks: Looks, asset: Asset, size: float) -> tuple[Material, ...]:
    """Materials for a library model ``size`` metres large: its own textures and colours, some replaced by ours.

    A third of the models get one of the scene's textures where they have none of their own, so that plain colours do
    not dominate; now and then a model is repainted altogether.
    """
    rng = looks.rng
    repaint, enrich = rng.random() < 0.12, rng.random() < 0.35
    materials = []
    for own, image in zip(asset.materials, asset.textures, strict=True):
        if repaint or (image is None and enrich and own.opacity > 0.95):
            # uvs of a model are in its own repeats, or box-mapped over its unit size
            materials.append(replace(looks.any(size), metres=float(rng.uniform(0.3, 1.2))))
            continue
        f0 = min(0.02 + 0.12 * max(own.specular), 0.12) if rng.random() < 0.5 else 0.0
        red, green, blue = own.diffuse if image is None else (1.0, 1.0, 1.0)
        texture = looks.stage.texture(image) if image is not None else -1
        materials.append(
            Material(
                colour=(max(red, 0.03), max(green, 0.03), max(blue, 0.03)),
                texture=texture,
                f0=f0,
                shininess=max(own.exponent, 8.0),
                opacity=max(own.opacity, 0.1) if own.opacity < 0.8 else 1.0,
                blur=1.0,
                cut=image is not None and image.shape[2] == 4,
            )
        )
    return tuple(materials)
