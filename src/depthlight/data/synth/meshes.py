"""The mesh family: lit, textured things floating and standing before structured backgrounds, with shadows.

In the spirit of FlyingThings3D (Mayer et al., CVPR 2016), with what WMGStereo (arXiv 2504.16930) found to matter: many
random occluders, a background of planes, every kind of material, a wide range of disparities. Depths are drawn so that
disparities spread evenly; sizes are drawn in the image, so that no thing eats the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from . import things
from .library import MeshLibrary
from .scene import FloatImage, RenderedPair, TextureSource
from .solids import Mesh, box, quad, rotation

if TYPE_CHECKING:  # numba is only needed once something is rendered
    from .looks import Looks
    from .render import Camera, Stage

TRIANGLE_BUDGET = 110_000


@dataclass(frozen=True)
class _Frame:
    """The space a scene is built in: what the camera sees between ``near`` and ``far`` metres."""

    camera: Camera
    height: int
    width: int
    near: float
    far: float

    def place(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """A point in view (x, y relative to the camera, z), its disparity evenly spread."""
        inverse = rng.uniform(1 / self.far, 1 / self.near)
        z = 1 / inverse
        x = rng.uniform(-0.55, 0.55) * self.width * z / self.camera.focal
        y = rng.uniform(-0.5, 0.5) * self.height * z / self.camera.focal
        return x, y, z


def meshes(
    rng: np.random.Generator,
    height: int,
    width: int,
    max_disp: float,
    textures: TextureSource,
    library: MeshLibrary | None = None,
) -> RenderedPair:
    """One scene of 12 to 40 things from ``library`` or of built-in shapes.

    Args:
        height, width: image size, px. max_disp: disparity of the nearest visible point, px.

    Raises:
        MissingExtraError: numba is not installed. FileFormatError, LimitError: a model of the library is unusable.
    """
    from . import looks as looks_module
    from .render import Camera, Stage, backdrop, render_pair

    near, ratio = rng.uniform(0.8, 1.5), math.exp(rng.uniform(math.log(4), math.log(30)))
    eye = rng.uniform(0.35, 1.3) * near
    camera = Camera(
        focal=width * rng.uniform(0.6, 1.2), position=(0.0, eye, 0.0), pitch=rng.uniform(-0.08, 0.25),
        roll=rng.normal(0, 0.03), near=0.3 * near,
    )  # fmt: skip
    frame = _Frame(camera, height, width, near, near * ratio)
    stage = Stage()
    looks = looks_module.Looks(rng, stage, textures, pool=12)
    backdrop(stage, camera, height, width, _behind(rng, textures), rng.uniform(0.4, 1.2))
    standing = _background(rng, frame, stage, looks)
    for _ in range(int(rng.integers(12, 41))):
        if stage.triangles() > TRIANGLE_BUDGET:
            break
        _add_thing(rng, frame, stage, looks, library, standing and rng.random() < 0.5)
    lamps = [frame.place(rng) for _ in range(int(rng.integers(0, 3)))]
    if rng.random() < 0.5:
        lighting = looks_module.daylight(rng, textures)
    else:
        lighting = looks_module.lamplight(rng, textures, [(x, y + eye, z * 0.8) for x, y, z in lamps], near * 2)
    lighting = replace(lighting, key_direction=_frontal(lighting.key_direction), shadow_reach=frame.far)
    return render_pair(stage, camera, lighting, height, width, max_disp)


def _frontal(direction: tuple[float, float, float]) -> tuple[float, float, float]:
    """The key light mostly from behind the camera, so that what it sees is lit."""
    x, y, z = direction
    return (x, y, -abs(z)) if z > 0.35 else direction


def _behind(rng: np.random.Generator, textures: TextureSource) -> FloatImage:
    from .patterns import sky

    return sky(rng, 256, 512) if rng.random() < 0.4 else textures.photo(rng)


def _background(rng: np.random.Generator, frame: _Frame, stage: Stage, looks: Looks) -> bool:
    """Ground, walls and big slabs; returns whether there is a ground to stand on."""
    far = frame.far
    wide = far * frame.width / frame.camera.focal
    standing = rng.random() < 0.8
    if standing:
        mesh = quad((-2 * wide, 0, 0), (4 * wide, 0, 0), (0, 0, 2.5 * far), cells=6)
        stage.add(mesh, looks.any(far * rng.uniform(0.08, 0.4)), casts=False)
    if rng.random() < 0.75:
        wall = quad((-3 * wide, -far, 0), (6 * wide, 0, 0), (0, 4 * far, 0), cells=6).turned(rng.normal(0, 0.35))
        stage.add(wall.moved(z=far * 1.15), looks.any(far * rng.uniform(0.1, 0.5)), casts=False)
    for side in (-1, 1):
        if rng.random() < 0.25:
            wall = quad((0, 0, 0), (0, 0, 2 * far), (0, 3 * far, 0), cells=6).turned(rng.normal(0, 0.2))
            stage.add(wall.moved(x=side * wide * rng.uniform(0.3, 0.6)), looks.any(far * 0.3), casts=False)
    for _ in range(int(rng.integers(1, 6))):
        x, y, z = frame.place(rng)
        z = max(z, 0.35 * far)
        size = z * frame.width / frame.camera.focal * rng.uniform(0.15, 0.5)
        slab = box(size, size * rng.uniform(0.5, 2.5), size * rng.uniform(0.05, 0.6)).turned(rng.uniform(-1, 1))
        lift = 0.0 if standing else y + frame.camera.position[1]
        stage.add(slab.moved(x, lift, z + size), looks.any(size * rng.uniform(0.3, 1.0)))
    return standing


def _add_thing(
    rng: np.random.Generator, frame: _Frame, stage: Stage, looks: Looks, library: MeshLibrary | None, standing: bool
) -> None:
    """Place one thing, floating anywhere or standing on the ground, entirely beyond the near distance."""
    from .looks import dress, foliage
    from .render import Material

    x, y, z = frame.place(rng)
    image_size = math.exp(rng.uniform(math.log(0.12), math.log(0.75))) * frame.height
    size = image_size * z / frame.camera.focal
    turn = rotation(rng.uniform(0, 6.3)) if standing else rotation(*rng.uniform(0, 6.3, 3))
    stretch = np.exp(rng.normal(0, 0.3, 3)) if rng.random() < 0.4 else np.ones(3)
    from_library = library is not None and rng.random() < 0.8
    if from_library and library is not None:
        asset = library.sample(rng)
        mesh, materials = asset.mesh, dress(looks, asset, size)
    else:
        pool = things.THIN if rng.random() < 0.3 else things.SOLIDS if rng.random() < 0.5 else things.ALL
        thing = pool[rng.integers(len(pool))]
        mesh = _unit(thing(rng))
        materials = tuple(looks.any(rng.uniform(0.3, 1.2)) for _ in range(3))
        if thing in (things.tree, things.bush):
            leaves = Material(texture=stage.texture(foliage(rng)), metres=float(mesh.uvs_F32.max()), cut=True)
            materials = (leaves, *materials[1:])
    mesh = mesh.transformed(turn @ np.diag(stretch) * size)
    points = mesh.positions_F33.reshape(-1, 3)
    if not standing:
        mesh = mesh.moved(*(-float(c) for c in points.mean(axis=0)))
        y += frame.camera.position[1]
    depth = z + max(0.0, frame.near - z - float(mesh.positions_F33[..., 2].min()))
    stage.add(mesh.moved(x, 0.0 if standing else y, depth), *materials)
    if rng.random() < 0.05:
        pane = quad((-size / 2, -size / 2, 0), (size, 0, 0), (0, size, 0)).turned(rng.uniform(-0.8, 0.8))
        stage.add(pane.moved(x, y, max(depth * 0.8, frame.near)), looks.glass(), casts=False)


def _unit(mesh: Mesh) -> Mesh:
    """Scaled to a largest side of 1, texture coordinates with it."""
    points = mesh.positions_F33.reshape(-1, 3)
    scale = 1 / float(np.ptp(points, axis=0).max())
    return replace(mesh.transformed(np.eye(3) * scale), uvs_F32=mesh.uvs_F32 * np.float32(scale))
