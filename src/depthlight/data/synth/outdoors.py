"""Streets and landscapes of the perspective family.

World space: x right, y up, z ahead, metres; the camera is over x = 0, z = 0. Distances reach the horizon; the sky has
the smallest disparity there is (1/256 px).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import patterns, things
from .library import MeshLibrary
from .scene import RenderedPair, TextureSource
from .solids import Mesh, box, facets, join, quad, spline, surface, tube

if TYPE_CHECKING:  # numba is only needed once something is rendered
    from .looks import Looks
    from .render import Material, Stage

HORIZON = 900.0


@dataclass
class _Street:
    """A street under construction: half widths of road and pavement, and how far it is built up."""

    stage: Stage
    looks: Looks
    library: MeshLibrary | None
    road: float
    pavement: float
    length: float

    @property
    def rng(self) -> np.random.Generator:
        return self.looks.rng


def street(
    rng: np.random.Generator,
    height: int,
    width: int,
    max_disp: float,
    textures: TextureSource,
    library: MeshLibrary | None,
) -> RenderedPair:
    """A road seen from a car: wide view, camera 1.65 m up, horizon near the middle of the picture."""
    from .looks import Looks, daylight
    from .render import Camera, Stage, backdrop, render_pair

    road, pavement = rng.uniform(3.2, 8.0), rng.uniform(1.2, 4.0)
    camera = Camera(
        focal=width * rng.uniform(0.5, 0.75), position=(road * rng.uniform(-0.55, 0.3), rng.uniform(1.4, 2.0), 0.0),
        yaw=rng.normal(0, 0.06), pitch=rng.normal(0.02, 0.025), roll=rng.normal(0, 0.012), near=2.0,
    )  # fmt: skip
    stage = Stage()
    looks = Looks(rng, stage, textures, pool=8)
    backdrop(stage, camera, height, width, patterns.sky(rng, 192, 384), rng.uniform(0.7, 1.6))
    build = _Street(stage, looks, library, road, pavement, rng.uniform(50, 160))
    _ground(build)
    _markings(build)
    for side in (-1, 1):
        _row_of_houses(build, side) if rng.random() < 0.6 else _row_of_green(build, side)
        _street_furniture(build, side)
        if rng.random() < 0.4:
            _border(build, side)
    _traffic(build, camera.position[0])
    _overhead(build)
    lighting = replace(daylight(rng, textures), shadow_reach=45.0)
    return render_pair(stage, camera, lighting, height, width, max_disp)


def _ground(build: _Street) -> None:
    rng, looks, road = build.rng, build.looks, build.road
    from .render import Material

    asphalt = Material(texture=looks.stage.texture(_asphalt(rng)), metres=rng.uniform(2.5, 5.0))
    if rng.random() < 0.15:
        asphalt = replace(asphalt, f0=0.05, shininess=30.0, blur=1.0)  # wet
    build.stage.add(quad((-road, 0, -5), (2 * road, 0, 0), (0, 0, HORIZON)), asphalt, casts=False)
    build.stage.add(quad((-HORIZON, -0.02, -5), (2 * HORIZON, 0, 0), (0, 0, HORIZON)), looks.textured(4.0), casts=False)
    paving = looks.repeated(1.2) if rng.random() < 0.5 else looks.textured(2.0)
    kerb = looks.plain()
    for side in (-1, 1):
        x = side * (road + build.pavement / 2)
        slab = box(build.pavement, 0.14, build.length + 5).moved(x, 0, build.length / 2)
        build.stage.add(slab, paving, casts=False)
        stone = box(0.15, 0.15, build.length + 5).moved(side * (road + 0.075), 0, build.length / 2)
        build.stage.add(stone, kerb, casts=False)


def _asphalt(rng: np.random.Generator) -> NDArray[np.float32]:
    """Dark grain with patches and cracks, no paint."""
    tone = rng.uniform(55, 130) + (patterns.field(rng, 256, 256, rng.uniform(2, 8), 5)[..., None] - 0.5) * rng.uniform(
        10, 50
    )
    grain = rng.standard_normal((256, 256, 1), dtype=np.float32) * np.float32(rng.uniform(4, 16))
    return np.asarray(tone * np.ones(3) * rng.uniform(0.95, 1.05, 3) + grain, np.float32)


def _markings(build: _Street) -> None:
    """Lane lines, dashed and solid, a centimetre above the road; sometimes a zebra crossing."""
    from .render import Material

    rng, road = build.rng, build.road
    paint = Material(colour=(rng.uniform(0.75, 1.0),) * 3)
    lanes = max(2, round(2 * road / 3.5))
    strips = []
    for lane in range(lanes + 1):
        x = -road + 0.3 + lane * (2 * road - 0.6) / lanes
        solid = lane in (0, lanes) or rng.random() < 0.2
        dash, gap = (60.0, 0.0) if solid else (3.0, 6.0)
        strips += [(x - 0.07, z, 0.14, dash) for z in np.arange(rng.uniform(-5, 0), build.length + 100, dash + gap)]
    if rng.random() < 0.3:
        start = rng.uniform(6, 40)
        strips += [(x, start, 0.5, 3.0) for x in np.arange(-road + 0.5, road - 0.5, 1.0)]
    cells = [[(x, 0.01, z), (x + w, 0.01, z), (x + w, 0.01, z + d), (x, 0.01, z + d)] for x, z, w, d in strips]
    build.stage.add(facets(cells), paint, casts=False)


def _house_front(build: _Street) -> Material:
    from .render import Material

    pattern = patterns.facade(build.rng, 320, 320)
    return Material(texture=build.stage.texture(pattern), metres=build.rng.uniform(7, 14), f0=0.0)


def _row_of_houses(build: _Street, side: int) -> None:
    """Houses wall to wall or with gaps, with doors, ledges and balconies standing out."""
    rng, looks = build.rng, build.looks
    fronts = [_house_front(build) for _ in range(3)] + [looks.textured(5.0), looks.repeated(3.0)]
    z = rng.uniform(-8, 4)
    setback = rng.uniform(0, 4)
    while z < build.length:
        length, tall, deep = rng.uniform(6, 20), rng.uniform(4, 18), rng.uniform(6, 12)
        x = side * (build.road + build.pavement + setback + rng.uniform(0, 0.6) + deep / 2)
        front = fronts[int(rng.integers(len(fronts)))]
        if rng.random() < 0.4:
            front = replace(front, metal=0.0, f0=0.06, blur=0.0)
        build.stage.add(box(deep, tall, length).moved(x, 0, z + length / 2), front)
        face = x - side * deep / 2
        parts = [
            box(0.5, rng.uniform(0.1, 0.4), length).moved(face, float(y), z + length / 2)
            for y in (tall, rng.uniform(2.8, 3.5))
        ]
        parts += [
            box(1.4, 1.0, 2.4).moved(face, float(rng.uniform(3, max(3.5, tall - 1))), z + float(t))
            for t in rng.uniform(1, max(length - 1, 1.5), int(rng.integers(0, 4)))
        ]
        parts.append(box(0.3, 2.2, 1.1).moved(face, 0.1, z + length * rng.uniform(0.2, 0.8)))
        build.stage.add(join(parts), looks.any(1.5))
        if rng.random() < 0.3:
            roof = box(deep * 0.72, deep * 0.72, length).transformed(
                np.array([[0.7, -0.7, 0.0], [0.35, 0.35, 0.0], [0.0, 0.0, 1.0]])
            )
            build.stage.add(roof.moved(x + deep * 0.25, tall, z + length / 2), looks.textured(2.0))
        z += length + (rng.uniform(1, 10) if rng.random() < 0.35 else 0.0)


def _row_of_green(build: _Street, side: int) -> None:
    """Trees and bushes instead of houses."""
    rng = build.rng
    edge = build.road + build.pavement
    for z in np.arange(rng.uniform(4, 10), build.length, rng.uniform(4, 12)):
        kind = things.tree if rng.random() < 0.6 else things.bush
        plant_green(build.stage, build.looks, kind(rng).moved(side * (edge + rng.uniform(0.5, 8)), 0, float(z)))


def _border(build: _Street, side: int) -> None:
    """A hedge, a wall or a fence along the pavement's edge, from beside the camera on, with gaps."""
    from .looks import foliage
    from .render import Material

    rng, looks = build.rng, build.looks
    x = side * (build.road + build.pavement * rng.uniform(0.2, 1.0) + rng.uniform(0.2, 1.0))
    kind = rng.choice(3, p=[0.6, 0.25, 0.15])
    z = rng.uniform(-2, 8)
    while z < min(build.length, 60.0):
        length = rng.uniform(6, 30)
        if kind == 0:
            skin = Material(texture=looks.pattern("foliage"), metres=rng.uniform(0.5, 1.5))
            twigs = Material(texture=build.stage.texture(foliage(rng)), metres=1.0, cut=True)
            build.stage.add(things.hedge(rng, length).moved(x, 0.1, z), skin, twigs)
        elif kind == 1:
            finish = looks.bare(2.0) if rng.random() < 0.4 else looks.any(2.0)
            build.stage.add(box(0.3, rng.uniform(0.5, 2.2), length).moved(x, 0.1, z + length / 2), finish)
        else:
            fence = things.railing(rng).turned(math.pi / 2)
            places = np.arange(z, z + length, float(np.ptp(fence.positions_F33[..., 2])))
            row = [fence.moved(x, 0.1, float(place)) for place in places]
            build.stage.add(join(row), looks.any(1.0), looks.plain())
        z += length + (rng.uniform(1, 6) if rng.random() < 0.5 else 0.0)


def plant_green(stage: Stage, looks: Looks, mesh: Mesh) -> None:
    """Place a tree or bush with a cut-out foliage texture."""
    from .looks import foliage, tint
    from .render import Material

    leaves = Material(texture=stage.texture(foliage(looks.rng)), metres=1.0, cut=True)
    bark = looks.textured(0.8) if looks.rng.random() < 0.5 else Material(colour=tint(looks.rng, 0.2, 0.5, 0.0))
    stage.add(mesh, leaves, bark, bark)


def _street_furniture(build: _Street, side: int) -> None:
    """Poles, signs, bins, fences, trees in the pavement, models of the library."""
    from .looks import dress

    rng, looks = build.rng, build.looks
    x = side * (build.road + 0.6)
    for z in np.arange(rng.uniform(4, 9), build.length, rng.uniform(3, 12)):
        choice, here = rng.random(), float(z + rng.uniform(-2, 2))
        if choice < 0.55:
            thing = things.STREET[int(rng.integers(len(things.STREET)))](rng)
            thing = thing.transformed(np.diag([-side, 1, 1]))
            stage_materials = (looks.any(0.5), looks.metal(1.0), looks.plain())
            build.stage.add(thing.moved(x, 0.14, here), *stage_materials)
        elif choice < 0.7:
            plant_green(build.stage, looks, things.tree(rng).moved(x + side * 0.5, 0.1, here))
        elif choice < 0.85:
            build.stage.add(
                things.railing(rng).turned(math.pi / 2).moved(x, 0.14, here), looks.metal(1.0), looks.plain()
            )
        elif build.library is not None:
            asset = build.library.sample(rng)
            size = min(asset.metres or 1.0, 1.8)
            build.stage.add(
                asset.mesh.transformed(np.eye(3) * size).moved(x + side * 0.5, 0.14, here), *dress(looks, asset, size)
            )


def _traffic(build: _Street, own_x: float) -> None:
    """Cars parked at the kerbs and driving in the lanes, none nearer than a few metres."""
    from .looks import tint
    from .render import Material

    rng = build.rng
    dark = Material(colour=(0.12, 0.12, 0.13))

    def park(x: float, z: float, turn: float) -> None:
        shine, blur = rng.uniform(0.05, 0.12), rng.uniform(0, 0.8)
        paint = Material(colour=tint(rng, 0.1, 0.95, 0.5), f0=shine, shininess=90.0, blur=blur)
        window = Material(colour=tint(rng, 0.1, 0.3, 0.0), f0=0.12, shininess=150.0, blur=0.0)
        lamps = Material(colour=(0.95, 0.9, 0.8) if rng.random() < 0.5 else (0.8, 0.1, 0.1), f0=0.06)
        build.stage.add(things.car(rng).turned(turn).moved(x, 0, z), paint, window, dark, lamps)

    for side in (-1, 1):
        z = rng.uniform(5, 12)
        busy = rng.uniform(0, 0.9)
        while z < min(build.length, 70):
            if rng.random() < busy:
                park(side * (build.road - 1.05) + rng.normal(0, 0.08), z, math.pi * (side < 0) + rng.normal(0, 0.03))
            z += rng.uniform(5.3, 8)
    for _ in range(int(rng.integers(0, 4))):
        x = rng.uniform(-build.road + 3, build.road - 3) if build.road > 3.5 else 0.0
        park(x, rng.uniform(9, 70), math.pi * (x < own_x))


def _overhead(build: _Street) -> None:
    """Cables across or along the street."""
    rng = build.rng
    for _ in range(int(rng.integers(0, 4))):
        y, z, sag = rng.uniform(5, 8), rng.uniform(8, 60), rng.uniform(0.1, 0.8)
        reach = build.road + build.pavement
        ends = [(-reach, y, z), (0.0, y - sag, z + rng.normal(0, 2)), (reach, y, z)]
        if rng.random() < 0.5:
            side = float(rng.choice([-1, 1])) * (build.road + 0.6)
            ends = [(side, y, 2.5), (side, y - sag, 20.0), (side, y, 60.0)]
        build.stage.add(tube(spline(ends, 16), 0.02, 5), build.looks.plain())


def terrain(
    rng: np.random.Generator,
    height: int,
    width: int,
    max_disp: float,
    textures: TextureSource,
    library: MeshLibrary | None,
) -> RenderedPair:
    """Open country: hills to the horizon, rocks, grass, bushes, trees; ``library`` models now and then."""
    from .looks import Looks, daylight
    from .render import Camera, Stage, backdrop, render_pair

    focal, eye = width * rng.uniform(0.55, 0.95), rng.uniform(0.9, 3.0)
    hills = _Hills(rng)
    camera = Camera(
        focal=focal, position=(0.0, hills.height(0.0, 0.0) + eye, 0.0), pitch=rng.normal(0.06, 0.06),
        roll=rng.normal(0, 0.02), near=0.5,
    )  # fmt: skip
    stage = Stage()
    looks = Looks(rng, stage, textures, pool=6)
    backdrop(stage, camera, height, width, patterns.sky(rng, 192, 384), rng.uniform(0.7, 1.6))
    z = np.geomspace(0.4, 600.0, 150)
    x = np.linspace(-1.0, 1.0, 130)[None, :] * (z[:, None] * 0.75 * width / focal + 1.5)
    mesh = _draped(x, np.broadcast_to(z[:, None], x.shape), hills)
    stage.add(mesh, looks.textured(rng.uniform(1.5, 6.0)))
    greens = [looks.any(0.5) for _ in range(3)]
    for _ in range(int(rng.integers(25, 80))):
        distance = 1 / rng.uniform(1 / 60, 1 / (1.2 * eye + 1))
        side = rng.uniform(-0.6, 0.6) * distance * width / focal
        kind = things.NATURE[int(rng.integers(len(things.NATURE)))]
        if (kind is things.tree and distance < 6) or (kind is things.bush and distance < 4):
            kind = things.rock if rng.random() < 0.5 else things.grass
        thing = kind(rng).turned(rng.uniform(0, 6.3)).moved(side, hills.height(side, distance) - 0.08, distance)
        if kind in (things.tree, things.bush):
            plant_green(stage, looks, thing)
        else:
            stage.add(
                thing, greens[int(rng.integers(3))] if kind is not things.rock else looks.textured(1.0), greens[0]
            )
    if library is not None and rng.random() < 0.5:
        from .rooms import furnish

        for _ in range(int(rng.integers(1, 6))):
            distance = rng.uniform(3, 20)
            side = rng.uniform(-0.4, 0.4) * distance * width / focal
            furnish(
                stage, looks, library, (side, hills.height(side, distance) - 0.03, distance), rng.uniform(0, 6.3), 2.5
            )
    lighting = replace(daylight(rng, textures), shadow_reach=35.0)
    return render_pair(stage, camera, lighting, height, width, max_disp)


class _Hills:
    """A smooth random height: waves of all lengths, small ones low, far ones high."""

    def __init__(self, rng: np.random.Generator) -> None:
        lengths = np.geomspace(1.2, 120.0, 14)
        angle, self.phase = rng.uniform(0, 2 * math.pi, 14), rng.uniform(0, 2 * math.pi, 14)
        self.waves = 2 * math.pi / lengths * np.stack([np.cos(angle), np.sin(angle)])
        self.amplitudes = lengths * rng.uniform(0.005, 0.022, 14) * rng.uniform(0.3, 1.4)

    def heights(self, x: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights at points of any common shape."""
        waves = np.sin(x[..., None] * self.waves[0] + z[..., None] * self.waves[1] + self.phase)
        growth = np.minimum(0.35 + np.hypot(x, z) / 60.0, 6.0)
        return np.asarray((waves @ self.amplitudes) * growth)

    def height(self, x: float, z: float) -> float:
        """The height at one point."""
        return float(self.heights(np.array(x), np.array(z)))


def _draped(x_NM: NDArray[np.float64], z_NM: NDArray[np.float64], hills: _Hills) -> Mesh:
    """The hills over a fan-shaped grid, dense near the camera; texture laid on from above."""
    mesh = surface(np.stack([x_NM, hills.heights(x_NM, z_NM), z_NM], axis=-1))
    return replace(mesh, uvs_F32=np.ascontiguousarray(mesh.positions_F33[..., [0, 2]]))
