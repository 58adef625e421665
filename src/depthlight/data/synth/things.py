"""Built-in things made of solids: furniture, plants, vehicles, street furniture, wires.

Every function takes (rng) and returns a mesh at its true size in metres, standing on y = 0, with up to four slots
(main, second, accents). Closed solids only, except leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .solids import (
    Doubles,
    Mesh,
    box,
    cone,
    copies,
    cylinder,
    extruded,
    join,
    lathe,
    quad,
    rotation,
    sphere,
    spline,
    superquadric,
    surface,
    torus,
    tube,
)

Thing = Callable[[np.random.Generator], Mesh]


def crate(rng: np.random.Generator) -> Mesh:
    """A box of any proportions."""
    w, h, d = np.exp(rng.uniform(math.log(0.2), math.log(1.2), 3))
    return box(w, h, d)


def ball(rng: np.random.Generator) -> Mesh:
    """A sphere."""
    r = rng.uniform(0.15, 0.6)
    return sphere(r).moved(y=r)


def pebble(rng: np.random.Generator) -> Mesh:
    """A superquadric: anything between box, ball and diamond."""
    a, b, c = rng.uniform(0.12, 0.6, 3)
    return superquadric((a, b, c), (rng.uniform(0.15, 1.8), rng.uniform(0.15, 1.8))).moved(y=b)


def drum(rng: np.random.Generator) -> Mesh:
    """A cylinder or a cone, thick or thin."""
    shape = cylinder if rng.random() < 0.7 else cone
    return shape(rng.uniform(0.05, 0.5), rng.uniform(0.3, 1.5))


def doughnut(rng: np.random.Generator) -> Mesh:
    """A torus standing or lying."""
    radius = rng.uniform(0.2, 0.6)
    thick = radius * rng.uniform(0.05, 0.4)
    ring = torus(radius, thick)
    return (
        ring.moved(y=thick)
        if rng.random() < 0.4
        else ring.transformed(rotation(pitch=math.pi / 2)).moved(y=radius + thick)
    )


def plate(rng: np.random.Generator) -> Mesh:
    """A thick slab with a random star-shaped outline."""
    count = int(rng.integers(3, 13))
    angle = np.sort(rng.uniform(0, 2 * math.pi / count * 0.6, count)) + np.arange(count) * 2 * math.pi / count
    radius = rng.uniform(0.25, 0.7, count) if rng.random() < 0.5 else np.full(count, rng.uniform(0.3, 0.6))
    outline = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    mesh = extruded(outline, float(np.exp(rng.uniform(math.log(0.02), math.log(0.5)))))
    return mesh.moved(y=-float(mesh.positions_F33[..., 1].min()))


def vase(rng: np.random.Generator) -> Mesh:
    """A turned body: vases, bottles, lamps, pawns."""
    height = rng.uniform(0.3, 1.2)
    radii = np.maximum(spline(np.c_[np.zeros(6), rng.uniform(0.05, 0.4, 6), np.zeros(6)], 24)[:, 1], 0.02)
    levels = np.linspace(0, height, 24)
    return lathe([(0.0, 0.0), *zip(radii.tolist(), levels.tolist(), strict=True), (0.0, height)], 24)


def wire(rng: np.random.Generator) -> Mesh:
    """A cable or rod along a curve."""
    points = np.cumsum(rng.normal(0, 0.35, (6, 3)), axis=0)
    path = spline(points, 48)
    mesh = tube(path, float(np.exp(rng.uniform(math.log(0.004), math.log(0.04)))), 6)
    return mesh.moved(y=-float(mesh.positions_F33[..., 1].min()))


def _legs(width: float, depth: float, height: float, thick: float, round_: bool) -> list[Mesh]:
    leg = cylinder(thick / 2, height, 10) if round_ else box(thick, height, thick)
    x, z = width / 2 - thick / 2, depth / 2 - thick / 2
    return [leg.moved(x=sx * x, z=sz * z).in_slot(1) for sx in (-1, 1) for sz in (-1, 1)]


def table(rng: np.random.Generator) -> Mesh:
    """A top on four legs, square or round."""
    w, d, h = rng.uniform(0.6, 2.0), rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.8)
    top = rng.uniform(0.02, 0.06)
    slab = box(w, top, d) if rng.random() < 0.7 else cylinder(d / 2, top, 28).transformed(np.diag([w / d, 1, 1]))
    return join([slab.moved(y=h), *_legs(w * 0.8, d * 0.8, h, rng.uniform(0.02, 0.07), rng.random() < 0.5)])


def chair(rng: np.random.Generator) -> Mesh:
    """Seat, four legs, a back of slats."""
    w, h = rng.uniform(0.38, 0.55), rng.uniform(0.4, 0.5)
    parts = [box(w, rng.uniform(0.02, 0.1), w).moved(y=h), *_legs(w, w, h, rng.uniform(0.02, 0.05), rng.random() < 0.5)]
    back, post = rng.uniform(0.35, 0.6), rng.uniform(0.02, 0.04)
    parts += [box(post, back, post).moved(x=s * (w - post) / 2, y=h, z=(w - post) / 2).in_slot(1) for s in (-1, 1)]
    if rng.random() < 0.5:
        parts.append(box(w, back * 0.6, 0.02).moved(y=h + back * 0.4, z=w / 2 - 0.01))
    else:
        parts += [box(w, 0.04, 0.015).moved(y=h + back * t, z=w / 2 - 0.01) for t in np.linspace(0.3, 0.95, 4)]
    return join(parts)


def shelf(rng: np.random.Generator) -> Mesh:
    """Boards between two sides, with rows of boxes on them."""
    w, h, d = rng.uniform(0.6, 1.6), rng.uniform(0.8, 2.0), rng.uniform(0.25, 0.4)
    count = int(rng.integers(2, 6))
    parts = [box(0.02, h, d).moved(x=s * w / 2) for s in (-1, 1)]
    for level in np.linspace(0, h - 0.02, count + 1):
        parts.append(box(w, 0.02, d).moved(y=float(level)))
        x = -w / 2 + 0.05
        while level < h - 0.1 and x < w / 2 - 0.08:
            bw, bh = rng.uniform(0.02, 0.12), rng.uniform(0.3, 0.9) * h / count
            if rng.random() < 0.8:
                parts.append(
                    box(bw, bh, d * 0.7).moved(x=x + bw / 2, y=float(level) + 0.02).in_slot(int(rng.integers(1, 3)))
                )
            x += bw * 1.05
    return join(parts)


def sofa(rng: np.random.Generator) -> Mesh:
    """Cushions: seat, back, arms."""
    w, d, h = rng.uniform(0.9, 2.2), rng.uniform(0.75, 1.0), rng.uniform(0.35, 0.45)

    def cushion(a: float, b: float, c: float) -> Mesh:
        return superquadric((a / 2, b / 2, c / 2), (0.25, 0.25), 20).moved(y=b / 2)

    arms = [cushion(0.2, h + 0.2, d).moved(x=s * (w / 2 + 0.08)).in_slot(1) for s in (-1, 1)]
    return join([cushion(w, h, d), cushion(w, 0.5, 0.25).moved(y=h * 0.8, z=d / 2 - 0.1), *arms])


def railing(rng: np.random.Generator) -> Mesh:
    """Posts and rails: fences, banisters, ladders."""
    w, h = rng.uniform(1.2, 4.0), rng.uniform(0.7, 1.6)
    thick, gap = rng.uniform(0.008, 0.03), rng.uniform(0.08, 0.3)
    x = np.arange(-w / 2, w / 2 + 0.01, gap)
    posts = copies(cylinder(thick, h, 6), np.tile(np.eye(3), (len(x), 1, 1)), np.c_[x, 0 * x, 0 * x])
    rails = [box(w, 2.5 * thick, 2.5 * thick).moved(y=h * t) for t in (0.1, 0.98)]
    return join([posts, *[rail.in_slot(1) for rail in rails]])


def ladder(rng: np.random.Generator) -> Mesh:
    """Two poles and rungs, leaning."""
    w, h = rng.uniform(0.35, 0.6), rng.uniform(1.5, 3.0)
    poles = [cylinder(0.02, h, 8).moved(x=s * w / 2) for s in (-1, 1)]
    rung = cylinder(0.013, w, 6).transformed(rotation(roll=math.pi / 2)).moved(x=w / 2)
    rungs = [rung.moved(y=float(y)).in_slot(1) for y in np.arange(0.25, h, 0.28)]
    return join([*poles, *rungs]).transformed(rotation(pitch=rng.uniform(0, 0.3)))


def lamp(rng: np.random.Generator) -> Mesh:
    """A floor lamp: foot, thin stem, shade."""
    h = rng.uniform(1.0, 1.8)
    shade = lathe([(0, 0.02), (0.22, 0.0), (0.14, 0.28), (0, 0.26)], 20, sharp=True)
    return join([cylinder(0.16, 0.03).in_slot(1), cylinder(0.012, h, 8).in_slot(1), shade.moved(y=h - 0.1)])


def _leaf(length: float, width: float, bend: float) -> Mesh:
    """One leaf growing along +y from the origin, bending over towards z."""
    t = np.linspace(0, 1, 5)
    half = width / 2 * np.sin(math.pi * np.clip(t * 0.94 + 0.04, 0, 1))
    y, z = length * (t - 0.3 * bend * t**2), length * 0.6 * bend * t**2
    middle = np.stack([0 * t, y, z], -1)
    side = np.stack([half, 0 * t, 0 * t], -1)
    return join([surface(np.stack([middle - side, middle])), surface(np.stack([middle, middle + side]))])


def plant(rng: np.random.Generator) -> Mesh:
    """A pot with long leaves."""
    pot = lathe([(0, 0), (0.12, 0), (0.17, 0.25), (0.15, 0.25), (0, 0.22)], 18, sharp=True).in_slot(1)
    length, width = rng.uniform(0.3, 1.1), rng.uniform(0.02, 0.12)
    leaf = _leaf(length, width, rng.uniform(0.1, 1.3))
    count = int(rng.integers(15, 45))
    turns = [
        rotation(rng.uniform(0, 6.3)) @ rotation(pitch=rng.uniform(-0.3, 0.9)) * rng.uniform(0.5, 1)
        for _ in range(count)
    ]
    return join([pot, copies(leaf, turns, np.tile([0, 0.22, 0], (count, 1)))])


def grass(rng: np.random.Generator) -> Mesh:
    """A tuft of blades."""
    length = rng.uniform(0.15, 0.6)
    count = int(rng.integers(20, 50))
    blade = _leaf(length, 0.02, rng.uniform(0.2, 1.2))
    turns = [
        rotation(rng.uniform(0, 6.3)) @ rotation(pitch=rng.uniform(-0.3, 0.5)) * rng.uniform(0.5, 1)
        for _ in range(count)
    ]
    return copies(blade, turns, np.c_[rng.normal(0, 0.12, count), np.zeros(count), rng.normal(0, 0.12, count)])


def _cards(rng: np.random.Generator, centres_N3: Doubles, size: float) -> Mesh:
    """Square cards of foliage (slot 0, one texture repeat each) at points, turned at random."""
    card = quad((-0.5, -0.5, 0), (1, 0, 0), (0, 1, 0))
    turns = [rotation(rng.uniform(0, 6.3), rng.uniform(-1.2, 1.2)) * size * rng.uniform(0.7, 1.3) for _ in centres_N3]
    return copies(card, turns, centres_N3)


def tree(rng: np.random.Generator) -> Mesh:
    """Trunk, branches (slot 1) and a crown of foliage cards (slot 0, wants a cut-out texture 1 m wide)."""
    height, reach = rng.uniform(4, 10), rng.uniform(1.2, 2.8)
    low = height * rng.uniform(0.25, 0.5)
    trunk = tube(
        spline(np.c_[rng.normal(0, 0.15, 4), np.linspace(0, height * 0.85, 4), rng.normal(0, 0.15, 4)], 8),
        0.04 * height**0.7,
        8,
    )
    parts = [trunk.in_slot(1)]
    for _ in range(int(rng.integers(4, 9))):
        y, a = rng.uniform(low, height * 0.8), rng.uniform(0, 6.3)
        tip = np.array([reach * 0.8 * math.cos(a), rng.uniform(0.3, 1.2), reach * 0.8 * math.sin(a)])
        parts.append(tube(np.linspace(0.0, 1.0, 3)[:, None] * tip + np.array([0.0, y, 0.0]), 0.03, 5).in_slot(1))
    where = rng.normal(size=(int(rng.integers(50, 110)), 3))
    where *= (rng.uniform(0.4, 1.0, len(where)) / np.linalg.norm(where, axis=1))[:, None]
    where = where * (reach, (height - low) / 2, reach) + (0, (height + low) / 2, 0)
    return join([*parts, _cards(rng, where, reach * 0.55)])


def bush(rng: np.random.Generator) -> Mesh:
    """A dome of foliage cards (slot 0)."""
    reach, height = rng.uniform(0.4, 1.2), rng.uniform(0.5, 1.6)
    where = rng.normal(size=(int(rng.integers(20, 45)), 3))
    where *= (rng.uniform(0.5, 1.0, len(where)) / np.linalg.norm(where, axis=1))[:, None]
    return _cards(rng, where * (reach, height / 2, reach) + (0, height / 2, 0), reach * 0.7)


def hedge(rng: np.random.Generator, length: float) -> Mesh:
    """A clipped or shaggy hedge along z from 0, open below: lumpy skin (slot 0), twigs of leaves standing out (slot 1).

    The skin wants a texture of leaves that repeats every metre, the twigs a cut-out one 1 m wide.
    """
    wide, tall = rng.uniform(0.5, 1.6), rng.uniform(0.8, 3.2)
    corner = rng.uniform(0.05, 0.4) * min(wide, tall)
    side, top = np.linspace(0, tall - corner, 7), np.linspace(-wide / 2 + corner, wide / 2 - corner, 4)
    profile = [(-wide / 2, y) for y in side] + [(x, tall) for x in top] + [(wide / 2, y) for y in side[::-1]]
    z = np.arange(0.0, length, 0.3)
    points = np.empty((len(z), len(profile), 3))
    points[..., :2], points[..., 2] = np.array(profile), z[:, None]
    waves = rng.normal(size=(10, 3)) * np.exp(rng.uniform(math.log(1), math.log(12), (10, 1)))
    swell = np.sin(points @ waves.T + rng.uniform(0, 6.3, 10)) @ (rng.uniform(0.5, 2.0) / np.linalg.norm(waves, axis=1))
    away = points[..., :2] - (0.0, tall * 0.5)
    points[..., :2] += 0.3 * swell[..., None] * away / (np.linalg.norm(away, axis=-1, keepdims=True) + 0.2)
    points[..., 1] = np.maximum(points[..., 1], 0.0)
    parts = [surface(points)]
    count = int(rng.uniform(0, 6) * min(length, 25.0))
    if count:
        rows = (rng.random(count) ** 1.5 * len(z)).astype(int)
        where = points[rows, rng.integers(3, len(profile) - 3, count)]
        parts.append(_cards(rng, where, rng.uniform(0.15, 0.45)).in_slot(1))
    return join(parts)


def rock(rng: np.random.Generator) -> Mesh:
    """A bumpy boulder, half in the ground."""
    mesh = sphere(1.0, 24)
    bumps = rng.normal(size=(8, 3)) * 2.2
    phase = rng.uniform(0, 6.3, 8)
    points = mesh.positions_F33.astype(np.float64)
    swell = 1 + 0.07 * np.sin(points @ bumps.T + phase).sum(axis=-1, keepdims=True)
    size = np.exp(rng.uniform(math.log(0.15), math.log(1.2))) * rng.uniform(0.6, 1.2, 3)
    mesh = Mesh((points * swell).astype(np.float32), mesh.normals_F33, mesh.uvs_F32, mesh.slot_F)
    return mesh.transformed(np.diag(size)).moved(y=float(size[1]) * 0.5)


def car(rng: np.random.Generator) -> Mesh:
    """Body (slot 0), windows (slot 1), wheels and bumpers (slot 2), lamps and plates (slot 3); nose towards -z."""
    length, width, waist = rng.uniform(3.6, 5.0), rng.uniform(1.65, 1.95), rng.uniform(0.85, 1.05)
    roof = waist + rng.uniform(0.45, 0.9)
    nose, tail = -length / 2, length / 2
    bonnet, boot = rng.uniform(0.15, 0.32) * length, rng.uniform(0.0, 0.25) * length
    body = [
        (nose, 0.3),
        (tail, 0.3),
        (tail, waist * 0.95),
        (tail - boot, waist),
        (nose + bonnet, waist),
        (nose, waist * 0.75),
    ]
    cabin = [
        (nose + bonnet, waist), (tail - boot * 0.8, waist), (tail - boot - rng.uniform(0.1, 0.4), roof),
        (nose + bonnet + rng.uniform(0.4, 0.9), roof),
    ]  # fmt: skip
    aside = rotation(math.pi / 2)
    parts = [extruded(np.array(body) * (-1, 1), width).transformed(aside)]
    glass = np.array(cabin) * (-1, 1)
    parts.append(extruded(glass, width * 0.86).transformed(aside).in_slot(1))
    parts.append(
        box(width * 0.84, 0.05, abs(cabin[2][0] - cabin[3][0])).moved(y=roof - 0.02, z=(cabin[2][0] + cabin[3][0]) / 2)
    )
    wheel = cylinder(rng.uniform(0.29, 0.36), 0.22, 18).transformed(rotation(roll=math.pi / 2)).moved(x=0.11, y=0.33)
    for x in (-1, 1):
        for z in (nose + 0.2 * length, tail - 0.2 * length):
            parts.append(wheel.moved(x=x * (width / 2 - 0.1), z=z).in_slot(2))
    lamp_box = box(0.34, 0.14, 0.06).in_slot(3)
    for z in (nose, tail - 0.01):
        parts += [lamp_box.moved(x=x * (width / 2 - 0.22), y=0.6, z=z) for x in (-1, 1)]
        parts.append(box(0.5, 0.11, 0.06).moved(y=0.5, z=z).in_slot(3))
    bumper = box(width * 0.98, 0.18, 0.15).in_slot(2)
    return join([*parts, bumper.moved(y=0.32, z=nose), bumper.moved(y=0.32, z=tail)])


def pole(rng: np.random.Generator) -> Mesh:
    """A street lamp or a bare pole."""
    h, r = rng.uniform(2.5, 8), math.exp(rng.uniform(math.log(0.02), math.log(0.12)))
    parts = [cylinder(r, h, 10)]
    if rng.random() < 0.6:
        reach = rng.uniform(0.6, 2.0) * rng.choice([-1, 1])
        arm = spline([(0, h - 0.1, 0), (reach * 0.4, h + 0.3, 0), (reach, h + 0.35, 0)], 8)
        parts += [tube(arm, r * 0.6, 6), box(0.5, 0.12, 0.2).moved(x=reach, y=h + 0.3).in_slot(1)]
    return join(parts)


def sign(rng: np.random.Generator) -> Mesh:
    """A traffic sign: a plate (slot 0) with a rim (slot 2) on a post (slot 1)."""
    h, r = rng.uniform(1.8, 2.8), rng.uniform(0.28, 0.45)
    sides = int(rng.choice([3, 4, 8, 24]))
    angle = np.arange(sides) * 2 * math.pi / sides + math.pi / 2 + (math.pi / 4 if sides == 4 else 0)
    outline = r * np.stack([np.cos(angle), np.sin(angle)], -1)
    face = extruded(outline * 0.82, 0.03).moved(y=h, z=-0.05)
    return join([face, extruded(outline, 0.02).moved(y=h, z=-0.045).in_slot(2), cylinder(0.03, h + 0.2, 8).in_slot(1)])


def bin_(rng: np.random.Generator) -> Mesh:
    """A bin, bollard or hydrant."""
    r, h = rng.uniform(0.08, 0.3), rng.uniform(0.6, 1.1)
    return join(
        [cylinder(r, h, 16), lathe([(0, 0), (r * 1.1, 0), (r * 0.6, r * 0.6), (0, r * 0.7)], 16).moved(y=h).in_slot(1)]
    )


SOLIDS: tuple[Thing, ...] = (crate, ball, pebble, drum, doughnut, plate, vase)
THIN: tuple[Thing, ...] = (wire, railing, ladder, lamp, plant, grass, chair, doughnut)
FURNITURE: tuple[Thing, ...] = (table, chair, shelf, sofa, lamp, plant, crate, vase)
NATURE: tuple[Thing, ...] = (tree, bush, grass, rock, plant)
STREET: tuple[Thing, ...] = (pole, sign, bin_)
ALL: tuple[Thing, ...] = tuple(dict.fromkeys((*SOLIDS, *THIN, *FURNITURE, *NATURE, *STREET, car)))
