"""The perspective family: furnished rooms, table-tops, streets and terrain, with plausible sizes and cameras.

Shape legend as in :mod:`.solids`; world space: x right, y up, z ahead, metres, the camera over x = 0, z = 0.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from . import things
from .library import MeshLibrary
from .scene import RenderedPair, TextureSource
from .solids import Mesh, box, cylinder, facets, join, quad, rotation, tube

if TYPE_CHECKING:  # numba is only needed once something is rendered
    from .looks import Looks
    from .render import Material, Stage

Hole = tuple[float, float, float, float]


def rooms(
    rng: np.random.Generator,
    height: int,
    width: int,
    max_disp: float,
    textures: TextureSource,
    library: MeshLibrary | None = None,
) -> RenderedPair:
    """A room (25 %), a table-top (30 %), a street (35 %) or a landscape (10 %); arguments as for ``meshes``.

    Raises:
        MissingExtraError: numba is not installed. FileFormatError, LimitError: a model of the library is unusable.
    """
    from .outdoors import street, terrain

    kind = rng.random()
    if kind < 0.25:
        return indoor(rng, height, width, max_disp, textures, library)
    if kind < 0.55:
        return tabletop(rng, height, width, max_disp, textures, library)
    if kind < 0.9:
        return street(rng, height, width, max_disp, textures, library)
    return terrain(rng, height, width, max_disp, textures, library)


def panel(width: float, height: float, holes: list[Hole]) -> Mesh:
    """A wall in the plane z = 0 from (0, 0) to (width, height) without the holes (x0, y0, x1, y1)."""
    xs = sorted({0.0, width, *(h[0] for h in holes), *(h[2] for h in holes)})
    ys = sorted({0.0, height, *(h[1] for h in holes), *(h[3] for h in holes)})
    cells = [
        [(x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)]
        for x0, x1 in pairwise(xs)
        for y0, y1 in pairwise(ys)
        if not any(h[0] <= x0 < h[2] and h[1] <= y0 < h[3] for h in holes)
    ]
    mesh = facets(cells)
    return replace(mesh, uvs_F32=np.ascontiguousarray(mesh.positions_F33[..., :2]))


def _window(hole: Hole, looks: Looks, frame: Material) -> list[tuple[Mesh, Material]]:
    """Frame, bars and pane in a hole of a panel."""
    x0, y0, x1, y1 = hole
    w, h, thick = x1 - x0, y1 - y0, 0.06
    bars = [box(w, thick, 0.1).moved(x0 + w / 2, y, 0) for y in (y0, y1 - thick)]
    bars += [box(thick, h, 0.1).moved(x, y0, 0) for x in (x0 + thick / 2, x1 - thick / 2, x0 + w / 2)]
    if looks.rng.random() < 0.5:
        bars.append(box(w, thick / 2, 0.05).moved(x0 + w / 2, y0 + h * 0.6, 0))
    return [(join(bars), frame), (quad((x0, y0, 0), (w, 0, 0), (0, h, 0)), looks.glass())]


def _door(hole: Hole, looks: Looks, frame: Material) -> list[tuple[Mesh, Material]]:
    x0, y0, x1, y1 = hole
    w, h = x1 - x0, y1 - y0
    leaf = [box(w, h, 0.04).moved(x0 + w / 2, 0, 0.02)]
    leaf += [box(w * 0.7, h * 0.35, 0.02).moved(x0 + w / 2, h * t, -0.01) for t in (0.1, 0.55)]
    rim = [box(0.08, h, 0.12).moved(x, 0, 0) for x in (x0, x1)] + [box(w + 0.16, 0.08, 0.12).moved(x0 + w / 2, h, 0)]
    knob = cylinder(0.03, 0.12, 8).moved(x0 + w * 0.9, 1.0, -0.05)
    return [(join(leaf), looks.any(1.0)), (join(rim), frame), (knob, looks.metal(0.1))]


def _wall(
    looks: Looks, length: float, height: float, material: Material, frame: Material
) -> list[tuple[Mesh, Material]]:
    """A wall along x from 0, inside towards -z: with a window, a door, pictures, or nothing."""
    rng = looks.rng
    holes: list[Hole] = []
    parts: list[tuple[Mesh, Material]] = []
    choice = rng.random()
    if choice < 0.4 and length > 2.2:
        w, y = rng.uniform(0.9, min(2.4, length - 1)), rng.uniform(0.5, 1.0)
        x = rng.uniform(0.4, length - w - 0.4)
        holes.append((x, y, x + w, min(height - 0.25, y + rng.uniform(1.0, 1.6))))
        parts += _window(holes[0], looks, frame)
    elif choice < 0.7 and length > 1.8:
        x = rng.uniform(0.3, length - 1.3)
        holes.append((x, 0.0, x + 0.9, 2.05))
        parts += _door(holes[0], looks, frame)
    for _ in range(int(rng.integers(0, 4))):
        w, h = rng.uniform(0.25, 1.2), rng.uniform(0.25, 0.9)
        x, y = rng.uniform(0, max(length - w, 0.1)), rng.uniform(1.0, max(height - h - 0.1, 1.1))
        if not any(h0[0] - w < x < h0[2] and h0[1] - h < y < h0[3] for h0 in holes):
            parts.append((box(w, h, 0.03).moved(x + w / 2, y, -0.03), looks.textured(max(w, h))))
            parts.append((box(w + 0.06, h + 0.06, 0.02).moved(x + w / 2, y - 0.03, -0.015), frame))
    parts.append((panel(length, height, holes), material))
    parts.append((box(length, 0.1, 0.03).moved(length / 2, 0, -0.015), frame))
    return parts


def _shell(stage: Stage, looks: Looks, size: tuple[float, float, float], back: float) -> None:
    """Floor, ceiling and four walls of a room w × h × d whose rear wall is ``back`` metres behind the camera."""
    rng = looks.rng
    w, h, d = size
    wall, frame = looks.textured(rng.uniform(0.8, 3.0)), looks.plain()
    if rng.random() < 0.5:
        wall = looks.bare(rng.uniform(1.0, 4.0))
    floor = looks.any(rng.uniform(0.8, 2.5))
    places = [
        ((-w / 2, d - back), 0.0, w),
        ((w / 2, d - back), math.pi / 2, d),
        ((-w / 2, -back), -math.pi / 2, d),
        ((w / 2, -back), math.pi, w),
    ]
    for (x, z), yaw, length in places:
        own = wall if rng.random() < 0.75 else looks.any(2.0)
        for mesh, material in _wall(looks, length, h, own, frame):
            stage.add(mesh.turned(yaw).moved(x=x, z=z), material, casts=False)
    stage.add(quad((-w / 2, 0, -back), (w, 0, 0), (0, 0, d)), floor, casts=False)
    ceiling = looks.bare(2.0) if rng.random() < 0.8 else looks.any(1.0)
    stage.add(quad((-w / 2, h, -back), (w, 0, 0), (0, 0, d)), replace(ceiling, metal=0.0), casts=False)
    if rng.random() < 0.5:
        stage.add(quad((-w / 4, 0.01, d / 3), (w / 2, 0, 0), (0, 0, d / 4)), looks.textured(w / 2), casts=False)


def furnish(
    stage: Stage, looks: Looks, library: MeshLibrary | None, where: tuple[float, float, float], yaw: float, limit: float
) -> None:
    """Put one piece of furniture, at most ``limit`` metres large, on the floor at a point."""
    from .looks import dress

    rng = looks.rng
    if library is not None and rng.random() < 0.75:
        asset = library.sample(rng)
        size = min(asset.metres or rng.uniform(0.4, 1.2), limit)
        mesh, materials = asset.mesh.transformed(np.eye(3) * size), dress(looks, asset, size)
    else:
        thing = things.FURNITURE[rng.integers(len(things.FURNITURE))]
        mesh = thing(rng)
        materials = tuple(looks.any(rng.uniform(0.2, 1.0)) for _ in range(3))
        side = float(np.ptp(mesh.positions_F33.reshape(-1, 3), axis=0).max())
        mesh = mesh.transformed(np.eye(3) * min(1.0, limit / side))
    stage.add(mesh.turned(yaw).moved(*where), *materials)


def indoor(
    rng: np.random.Generator,
    height: int,
    width: int,
    max_disp: float,
    textures: TextureSource,
    library: MeshLibrary | None,
) -> RenderedPair:
    """A furnished room seen from inside, a photograph behind its windows."""
    from .looks import Looks, lamplight
    from .render import Camera, Stage, backdrop, render_pair

    w, h, d, back = rng.uniform(3, 8), rng.uniform(2.3, 3.3), rng.uniform(3.5, 10), rng.uniform(0.3, 1.0)
    eye = rng.uniform(0.8, 1.8)
    camera = Camera(
        focal=width * rng.uniform(0.5, 0.95), position=(w * rng.uniform(-0.25, 0.25), eye, 0.0),
        yaw=rng.normal(0, 0.3), pitch=rng.normal(0.1, 0.1), roll=rng.normal(0, 0.02), near=0.25,
    )  # fmt: skip
    stage = Stage()
    looks = Looks(rng, stage, textures, pool=10)
    backdrop(stage, camera, height, width, textures.photo(rng), rng.uniform(0.8, 2.5))
    _shell(stage, looks, (w, h, d), back)
    near = rng.uniform(0.9, 1.8)
    for _ in range(int(rng.integers(5, 16))):
        limit = 2.2
        x, z = rng.uniform(-w / 2 + 0.3, w / 2 - 0.3), near + (d - back - near) * rng.random()
        if rng.random() < 0.5:  # along a wall
            x = float(rng.choice([-1, 1])) * (w / 2 - 0.4)
        if math.hypot(x - camera.position[0], z) < near + 0.6:
            limit = 0.7
        furnish(stage, looks, library, (x, 0, z), float(rng.choice(4)) * math.pi / 2 + rng.normal(0, 0.2), limit)
    for _ in range(int(rng.integers(0, 4))):  # globes on cords
        x, z, drop = rng.uniform(-w / 3, w / 3), rng.uniform(near, d - back), rng.uniform(0.3, 0.8)
        stage.add(tube([(x, h, z), (x, h - drop, z)], 0.006, 5), looks.plain())
        ball = things.ball(rng)
        stage.add(ball.transformed(np.eye(3) * 0.3).moved(x, h - drop - 0.2, z), looks.any(0.4))
    lamps = [(rng.uniform(-w / 3, w / 3), h - 0.4, rng.uniform(0.5, d - back)) for _ in range(int(rng.integers(1, 4)))]
    lighting = replace(lamplight(rng, textures, lamps, 1.5), shadow_reach=2 * d)
    return render_pair(stage, camera, lighting, height, width, max_disp)


def tabletop(
    rng: np.random.Generator,
    height: int,
    width: int,
    max_disp: float,
    textures: TextureSource,
    library: MeshLibrary | None,
) -> RenderedPair:
    """Clutter on and behind a table before a wall, seen from half a metre to two metres: a still life."""
    from .looks import Looks, daylight, dress, lamplight
    from .render import Camera, Stage, backdrop, render_pair

    depth, far = rng.uniform(0.7, 1.6), rng.uniform(0.9, 2.2)
    eye = rng.uniform(0.15, 0.7)
    camera = Camera(
        focal=width * rng.uniform(0.8, 1.5), position=(0.0, eye, -far), yaw=rng.normal(0, 0.08),
        pitch=math.atan2(eye, far + depth / 2) * rng.uniform(0.3, 1.1), roll=rng.normal(0, 0.02), near=0.2,
    )  # fmt: skip
    stage = Stage()
    looks = Looks(rng, stage, textures, pool=12)
    backdrop(stage, camera, height, width, textures.photo(rng), rng.uniform(0.5, 1.2))
    plainness = rng.uniform(0.3, 0.8) if rng.random() < 0.4 else 0.1  # share of surfaces without a texture

    def finish(metres: float) -> Material:
        return looks.bare(metres) if rng.random() < plainness else looks.any(metres)

    stage.add(quad((-2, 0, -far), (4, 0, 0), (0, 0, far + depth + 0.5)), finish(rng.uniform(0.3, 1.5)), casts=False)
    if rng.random() < 0.95:
        wall = quad((-6, -2, 0), (12, 0, 0), (0, 8, 0)).turned(rng.normal(0, 0.25))
        front = looks.bare(rng.uniform(0.5, 3.0)) if rng.random() < 0.5 else looks.any(rng.uniform(0.4, 2.0))
        stage.add(wall.moved(z=depth + rng.uniform(0.2, 1.5)), front, casts=False)
    spread = (far + depth / 2) * width / camera.focal
    for _ in range(int(rng.integers(0, 5))):  # boards, leaning or standing
        board = box(rng.uniform(0.2, 1.2), rng.uniform(0.2, 1.1), rng.uniform(0.002, 0.03))
        board = board.transformed(rotation(rng.normal(0, 0.5), rng.normal(0, 0.12), rng.normal(0, 0.06)))
        stage.add(board.moved(rng.uniform(-0.5, 0.5) * spread, 0.0, depth * rng.uniform(0.2, 1.1)), finish(0.6))
    for _ in range(int(rng.integers(18, 46))):
        size = math.exp(rng.uniform(math.log(0.1), math.log(0.5)))
        x, z = rng.uniform(-0.55, 0.55) * spread, rng.uniform(-0.35 * far, depth)
        if library is not None and rng.random() < 0.6:
            asset = library.sample(rng)
            mesh, materials = asset.mesh, dress(looks, asset, size)
        else:
            pool = (*things.SOLIDS, things.vase, things.crate, things.plant, things.wire, things.chair)
            mesh = pool[rng.integers(len(pool))](rng)
            mesh = mesh.transformed(np.eye(3) / float(np.ptp(mesh.positions_F33.reshape(-1, 3), axis=0).max()))
            materials = tuple(finish(rng.uniform(0.5, 1.5)) for _ in range(3))
        lift = rng.uniform(0, 0.6) if rng.random() < 0.15 else 0.0
        stage.add(mesh.transformed(np.eye(3) * size).turned(rng.uniform(0, 6.3)).moved(x, lift, z), *materials)
    lamps = [
        (rng.uniform(-1, 1), rng.uniform(0.8, 1.8), rng.uniform(-far, 0.5)) for _ in range(int(rng.integers(0, 3)))
    ]
    lighting = daylight(rng, textures) if rng.random() < 0.3 else lamplight(rng, textures, lamps, 0.6)
    x, y, z = lighting.key_direction
    lighting = replace(lighting, key_direction=(x, y, -abs(z)), shadow_reach=far + depth + 2)
    return render_pair(stage, camera, lighting, height, width, max_disp)
