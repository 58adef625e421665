"""One scene in several materials: what a surface is made of, and what that costs a matcher.

The geometry, the camera and the lights of a scene are the same in every material, so the truth is, too.

Shape legend: H W image size, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import UnknownNameError
from ..data.samples import StereoSample
from ..data.synth import things
from ..data.synth.engine import visible_mask
from ..data.synth.solids import Mesh, quad, rotation
from ..data.synth.textures import Textures

if TYPE_CHECKING:  # numba is only needed once something is rendered
    from ..data.synth.looks import Looks
    from ..data.synth.render import Camera, Lighting, Material

SEED = 8
SIZE = (288, 480)
NEAREST = 64.0  # px: the largest disparity
FAR = 6.0  # m: the wall
THINGS = 20
DARK, NOISE = 0.012, 2.0  # brightness of the dark scenes, and the sensor's noise in gray levels in every scene


def _glossy(looks: Looks) -> Material:
    """As textured, under a varnish that reflects a sharp 15 % of the surroundings and of the lamps."""
    return replace(looks.textured(0.5), f0=0.15, shininess=120.0, blur=0.0)


MATERIALS: dict[str, Callable[[Looks], Material]] = {
    "textured": lambda looks: replace(looks.textured(0.5), f0=0.0),
    "textureless": lambda looks: replace(looks.plain(), f0=0.0),
    "repetitive": lambda looks: replace(looks.repeated(0.25), f0=0.0),
    "glossy": _glossy,
    "metal": lambda looks: replace(looks.metal(0.5), metal=1.0, blur=0.5),
    "dark": lambda looks: replace(looks.textured(0.5), f0=0.0),
}


def hard_pair(material: str, index: int, *, size: tuple[int, int] = SIZE, noise: float = NOISE) -> StereoSample:
    """Scene ``index``: things on a floor and in the air, before a wall, every surface of ``material``.

    The truth is exact in every pixel.

    Args:
        material: a name out of :data:`MATERIALS`.
        size: H, W in px.
        noise: standard deviation, in gray levels, of the noise of either view.

    Raises:
        UnknownNameError: no such material. MissingExtraError: numba is not installed.
    """
    from ..data.synth.looks import Looks
    from ..data.synth.render import Camera, Stage, backdrop, render_pair

    if material not in MATERIALS:
        raise UnknownNameError("material", material, MATERIALS)
    shapes, paint, sensor = (np.random.default_rng([SEED, index, stream]) for stream in range(3))
    height, width = size
    camera = Camera(focal=0.9 * width, position=(0.0, 1.2, 0.0), pitch=0.12, near=0.5)
    stage, textures = Stage(), Textures(None)
    looks = Looks(paint, stage, textures, pool=THINGS)
    lighting = _light(shapes, textures, dark=material == "dark")
    backdrop(stage, camera, height, width, lighting.panorama_HW3, 0.5)
    for mesh in _geometry(shapes, camera, width):
        stage.add(mesh, MATERIALS[material](looks))
    pair = render_pair(stage, camera, lighting, height, width, NEAREST)
    left_HW3, right_HW3 = (
        np.clip(np.rint(view_HW3 + noise * sensor.standard_normal(view_HW3.shape)), 0, 255).astype(np.uint8)
        for view_HW3 in (pair.left_HW3, pair.right_HW3)
    )
    return StereoSample(
        left_HW3=left_HW3,
        right_HW3=right_HW3,
        name=f"{material}-{index:03d}",
        disparity_HW=pair.disparity_HW,
        valid_HW=np.ones(size, np.bool_),
        visible_HW=visible_mask(pair.disparity_HW, pair.right_disparity_HW),
        right_disparity_HW=pair.right_disparity_HW,
    )


def _light(rng: np.random.Generator, textures: Textures, *, dark: bool) -> Lighting:
    """A lamp from behind the camera; of one direction for a scene, whatever it is made of."""
    from ..data.synth.looks import lamplight

    lighting = lamplight(rng, textures, [], 1.0)
    x, y, z = lighting.key_direction
    return replace(lighting, key_direction=(x, y, -abs(z)), shadow_reach=1.5 * FAR, brightness=DARK if dark else 0.5)


def _geometry(rng: np.random.Generator, camera: Camera, width: int) -> list[Mesh]:
    """A floor, a wall a little askew, and between 1.4 m and the wall things, half of which stand on the floor."""
    wide = 2 * FAR * width / camera.focal
    floor = quad((-wide, 0, 0), (2 * wide, 0, 0), (0, 0, 2 * FAR), cells=6)
    wall = quad((-wide, -1, 0), (2 * wide, 0, 0), (0, 2 * FAR, 0), cells=6).turned(rng.uniform(-0.3, 0.3)).moved(z=FAR)
    found = [floor, wall]
    for _ in range(THINGS):
        z = 1 / rng.uniform(1 / (0.9 * FAR), 1 / 1.4)
        x = rng.uniform(-0.5, 0.5) * width * z / camera.focal
        y = max(0.0, rng.uniform(-0.4, 0.4) * z + camera.position[1] - 0.3)
        mesh = things.SOLIDS[rng.integers(len(things.SOLIDS))](rng)
        largest = float(np.ptp(mesh.positions_F33.reshape(-1, 3), axis=0).max())
        mesh = mesh.transformed(rotation(rng.uniform(0, 6.3)) * rng.uniform(0.25, 0.9) / largest)
        found.append(mesh.moved(x, y if rng.random() < 0.5 else 0.0, z))
    return found
