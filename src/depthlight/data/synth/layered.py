"""The layered family: planar and curved pieces, many of them floating or thin, over structured background planes.

Three stages: a street (sky, ground, fronts, things standing on the ground), a room (walls, table or floor, ceiling),
and free floating planes. All geometry is planes and reliefs in disparity (:mod:`.layers`), so the truth is exact in
both views. Occluder counts and the background planes follow the ablations of Infinigen-Stereo's data study
(10 to 30 floating objects best; background structure and a wide range of disparities needed).

Shape legend: h, w of a raster. Coordinates are px of the left view; the canvas reaches past its right edge by the
largest disparity, because the right view sees that far.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .layers import Layer, Plane, render, trimmed
from .materials import Detail, blurred, car_parts, piece, raster
from .patterns import PATTERNS, bare
from .perspective import project
from .scene import FloatImage, RenderedPair, TextureSource
from .shapes import SOLID, THIN, Mask, Pen, Shape, crown, figure, railing, rods, vase, vehicle

EDGE = 6  # px by which background planes reach beyond what is seen
FLOATING = (8, 34)
CALM = 0.25  # share of scenes with next to nothing in the air, in which large surfaces stay whole
CALM_FLOATING = (0, 3)
PLAIN = 0.2  # share of scenes with many bare surfaces
BARE_WALL = 0.3  # share of rooms with a bare wall far behind whatever stands in them
STEEPEST = 0.45  # |∂d/∂x| of any plane


class Stage:
    """A scene being set up: its frame, its ground if it has one, and the layers so far."""

    def __init__(
        self, rng: np.random.Generator, height: int, width: int, max_disp: float, textures: TextureSource
    ) -> None:
        self.rng, self.textures = rng, textures
        self.height, self.width, self.max_disp = height, width, max_disp
        self.reach = width + int(np.ceil(max_disp)) + 2 * EDGE  # canvas columns, from x = -EDGE
        self.far = 0.3
        self.horizon = height * rng.uniform(0.25, 0.6)
        self.vanishing = width * rng.uniform(0.3, 0.7)
        self.steep = max_disp * rng.uniform(0.5, 0.98) / (height - self.horizon)  # ground: d = steep·(y − horizon)
        self.layers: list[Layer] = []
        self.shadow_HC: FloatImage = np.ones((height, self.reach), np.float32)  # on the ground
        self.plainness = rng.uniform(0.3, 0.8) if rng.random() < PLAIN else 0.0  # share of surfaces without a texture

    def backdrop(self, image_HC3: FloatImage, plane: Plane, mask_HC: Mask | None = None) -> None:
        """A background plane over the whole canvas."""
        left = -EDGE - self.rng.random()  # between pixels: a plane is as blurred as in the other view
        if mask_HC is None:
            full = np.full(image_HC3.shape[:2], 255, np.uint8)
            self.layers.append(Layer(raster(image_HC3, full), left, 0, plane))
        else:
            self.layers.append(Layer(*trimmed(raster(image_HC3, mask_HC), left, 0), plane))

    def texture(self, kind: str | None = None) -> FloatImage:
        """A canvas-sized texture."""
        if kind is not None:
            return PATTERNS[kind](self.rng, self.height, self.reach)
        return self.surface(self.height, self.reach)

    def surface(self, height: int, width: int) -> FloatImage:
        """A texture of any kind, or hardly one where the scene is plain."""
        if self.rng.random() < self.plainness:
            return bare(self.rng, height, width)
        return self.textures.sample(self.rng, height, width)

    def put(
        self,
        shape: Shape,
        x: float,
        top: float,
        height: float,
        width: float,
        plane: Plane,
        *,
        depth: float = 0.0,
        kind: str | None = None,
        detail: Detail | None = None,
    ) -> None:
        """A piece of ``shape`` filling the given rectangle; skipped where it would be invisibly small or far off."""
        h, w = int(np.clip(height, 4, self.height * 1.6)), int(np.clip(width, 4, self.width * 1.5))
        y = int(np.clip(top, -h + 2, self.height - 2))
        if x > self.width + self.max_disp or x + w < 0:
            return
        mask = shape(self.rng, h, w)
        if kind is None and self.rng.random() < self.plainness / 2:  # rather the walls are bare than the things
            kind = "flat" if self.rng.random() < 0.7 else "glossy"
        a, b, c = plane
        nearest = c + max(a * max(0.0, x), a * (x + w)) + max(b * max(0, y), b * min(self.height, y + h))
        plane = (a, b, c - max(0.0, nearest + depth - self.max_disp))
        self.layers += piece(self.rng, self.textures, mask, x, y, plane, kind=kind, depth=depth, detail=detail)

    def tilted(self, x: float, y: float, disparity: float, amount: float) -> Plane:
        """A plane through (x, y, disparity), leaning at random: larger ``amount``, more lean."""
        scale = amount * min(1.0, disparity / 40)
        a = float(np.clip(self.rng.normal(0, scale), -STEEPEST * 0.7, STEEPEST * 0.7))
        b = float(np.clip(self.rng.normal(0, scale), -0.4, 0.4))
        return a, b, disparity - a * x - b * y

    def disparity(self, low: float, power: float = 1.0) -> float:
        """A disparity between ``low`` and the scene's largest; larger ``power``, more far ones."""
        return float(low + (self.max_disp * 0.97 - low) * self.rng.random() ** power)


def layered(
    rng: np.random.Generator, height: int, width: int, max_disp: float, textures: TextureSource
) -> RenderedPair:
    """One layered scene; see the module's text. A :class:`~depthlight.data.synth.scene.Family`."""
    stage = Stage(rng, height, width, max_disp, textures)
    kind = rng.choice(3, p=[0.4, 0.33, 0.27])
    (_street, _room, _free)[kind](stage)
    calm = rng.random() < CALM
    _floating(stage, *(CALM_FLOATING if calm else FLOATING))
    if rng.random() < (0.2 if calm else 0.85):
        _thin(stage)
    return render(stage.layers, height, width)


# --- stages ---------------------------------------------------------------------------------------------------------


def _street(stage: Stage) -> None:
    rng, size = stage.rng, (stage.height, stage.reach)
    stage.far = max(0.02, stage.max_disp * rng.uniform(0.005, 0.06))
    sky = PATTERNS["sky"](rng, *size) if rng.random() < 0.85 else stage.texture()
    stage.backdrop(sky, (0.0, 0.0, float(rng.uniform(0.005, min(0.3, stage.far)))))
    skyline = stage.horizon - np.abs(_walk(rng, stage.reach, stage.height * 0.25)) - stage.height * 0.02
    mask = _below(skyline, stage.height)
    stage.backdrop(stage.texture(), (0.0, 0.0, stage.far), mask)
    for side in (-1, 1):
        if rng.random() < 0.6:
            _front(stage, side)
    for _ in range(int(rng.integers(2, 12))):
        _standing(stage)
    _ground(stage, "road" if rng.random() < 0.6 else None)


def _room(stage: Stage) -> None:
    rng = stage.rng
    bare_wall = rng.random() < BARE_WALL
    share = float(np.exp(rng.uniform(np.log(0.03), np.log(0.4)))) if bare_wall else rng.uniform(0.08, 0.5)
    stage.far = stage.max_disp * share
    a = float(np.clip(rng.normal(0, 0.03), -0.1, 0.1)) * min(1.0, stage.far / 20)
    wall = (a, 0.0, stage.far - a * stage.vanishing)
    image = bare(rng, stage.height, stage.reach) if bare_wall else stage.texture()
    most = 1 if bare_wall or stage.plainness else 5  # pictures, doors, shelves: the same plane, with a soft shadow
    for _ in range(int(rng.integers(0, most + 1))):
        h, w = int(stage.height * rng.uniform(0.1, 0.5)), int(stage.width * rng.uniform(0.05, 0.3))
        y, x = int(rng.integers(0, stage.height - h)), int(rng.integers(0, stage.reach - w))
        _darken(image, y, x, h, w, rng.uniform(0.2, 0.6))
        image[y : y + h, x : x + w] = stage.textures.sample(rng, h, w)
    stage.backdrop(image, wall)
    stage.steep = stage.max_disp * rng.uniform(0.4, 0.98) / (stage.height - stage.horizon)
    for side in (-1, 1):
        if rng.random() < 0.4:
            _front(stage, side)
    if rng.random() < 0.35:
        up = stage.max_disp * rng.uniform(0.3, 0.9) / stage.horizon
        image = receding(rng, stage, stage.height - stage.horizon)[::-1]
        stage.backdrop(np.ascontiguousarray(image), (0.0, -up, up * stage.horizon))
    for _ in range(int(rng.integers(3, 14))):
        _standing(stage)
    if rng.random() < 0.8:
        _ground(stage, None)


def _free(stage: Stage) -> None:
    rng = stage.rng
    stage.far = stage.max_disp * rng.uniform(0.02, 0.4)
    tilt = float(rng.normal(0, 0.02)) * min(1.0, stage.far / 20)
    stage.backdrop(stage.texture(), (0.0, tilt, stage.far - tilt * stage.height / 2))
    stage.backdrop(stage.texture(), (0.0, 0.0, stage.far * 0.5))  # behind, where the first tilts away
    for _ in range(int(rng.integers(0, 4))):
        h, w = stage.height * rng.uniform(0.4, 1.2), stage.width * rng.uniform(0.2, 0.8)
        x, y = rng.uniform(-0.2, 0.9) * stage.width, rng.uniform(-0.3, 0.7) * stage.height
        d = stage.disparity(stage.far, 2.5)
        depth = 0.1 * d if rng.random() < 0.4 else 0.0
        stage.put(_any(rng, SOLID), x, y, h, w, stage.tilted(x + w / 2, y + h / 2, d, 0.12), depth=depth)
    if rng.random() < 0.4:
        _ground(stage, None)


def _ground(stage: Stage, kind: str | None) -> None:
    """The ground with its contact shadows, drawn last of the standing things' stage (order is by disparity anyway)."""
    rng = stage.rng
    image = receding(rng, stage, stage.horizon, kind)
    image *= stage.shadow_HC[..., None]
    roll = float(rng.normal(0, 0.006)) * min(1.0, stage.max_disp / 60)
    plane = (roll, stage.steep, -stage.steep * stage.horizon - roll * stage.vanishing)
    stage.backdrop(image, plane)


def _front(stage: Stage, side: int) -> None:
    """A house front or side wall running towards the vanishing point, left (−1) or right (+1)."""
    rng = stage.rng
    edge = (stage.width if side > 0 else 0) - stage.vanishing
    slope = min(STEEPEST * 0.9, stage.max_disp * rng.uniform(0.4, 0.98) / abs(edge))
    a = slope * side
    x = np.arange(stage.reach, dtype=np.float32) - EDGE - np.float32(stage.vanishing)
    away = np.clip(x * side, 0, None)
    roof = stage.horizon - away * np.float32(slope / stage.steep * rng.uniform(0.4, 4))
    hedge = rng.random() < 0.35
    if hedge:
        roof -= _walk(rng, stage.reach, 30) * np.clip(away / 150, 0.1, 2) + rng.normal(0, 1.5, stage.reach)
    elif rng.random() < 0.35:
        roof[:] = -10
    near, far = sorted(rng.uniform(0.02, 1.4, 2) * abs(edge))
    mask = _below(roof, stage.height)
    mask[:, (away < near * 0.3) | ((away > far + 40) & bool(rng.random() < 0.4))] = 0
    style = "foliage" if hedge and rng.random() < 0.6 else "facade" if not hedge and rng.random() < 0.35 else None
    texture = PATTERNS[style](rng, 512, 512) if style else stage.surface(512, 512)
    mask[:, away * slope > stage.max_disp] = 0  # only the right view sees so near
    image = project(np.clip(texture, 0, 255), stage.reach, stage.height, -x[0] * side, side, stage.horizon, rng)
    stage.backdrop(image.transpose(1, 0, 2).copy(), (a, 0.0, -a * stage.vanishing), mask)


def receding(rng: np.random.Generator, stage: Stage, horizon: float, kind: str | None = None) -> FloatImage:
    """A canvas-sized ground texture in perspective, its horizon at row ``horizon``."""
    texture = PATTERNS[kind](rng, 640, 512) if kind else stage.surface(512, 512)
    return project(np.clip(texture, 0, 255), stage.height, stage.reach, horizon, 1, stage.vanishing + EDGE, rng)


def _walk(rng: np.random.Generator, count: int, height: float) -> FloatImage:
    """A skyline: steps or smooth hills, 0..height."""
    points = rng.random(int(rng.integers(4, 40))).astype(np.float32)[None, :]
    way = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(points, (count, 1), interpolation=way)[0] * np.float32(height), np.float32)


def _below(line_C: NDArray[Any], height: int) -> Mask:
    """Coverage of everything below a line, antialiased."""
    y = np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(np.clip(y - line_C[None, :] + 0.5, 0, 1) * 255, np.uint8)


def _darken(image_HC3: FloatImage, y: int, x: int, h: int, w: int, strength: float) -> None:
    """A soft shadow around a rectangle on a plane, in place."""
    pad = 3 + h // 12
    y0, x0 = max(0, y - pad), max(0, x - pad)
    y1, x1 = min(image_HC3.shape[0], y + h + pad), min(image_HC3.shape[1], x + w + pad)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    mask[y - y0 : y - y0 + h, x - x0 : x - x0 + w] = 255
    image_HC3[y0:y1, x0:x1] *= 1 - blurred(mask, max(1.0, pad / 2))[..., None] * np.float32(strength / 255)


# --- things ---------------------------------------------------------------------------------------------------------


def _any(rng: np.random.Generator, shapes: tuple[Shape, ...]) -> Shape:
    return shapes[rng.integers(len(shapes))]


def _standing(stage: Stage) -> None:
    """A thing on the ground, as large as its distance says: box, vehicle, person, tree, pole, fence, vase."""
    rng = stage.rng
    d = float(np.exp(rng.uniform(np.log(max(stage.far, stage.max_disp * 0.03)), np.log(stage.max_disp * 0.9))))
    foot, unit = stage.horizon + d / stage.steep, d / stage.steep  # unit: camera height over the ground, in px here
    x = rng.uniform(-0.1, 1.0) * (stage.width + d)
    style = rng.integers(8)
    if style <= 1:
        _box(stage, x, d)
        return
    shape, tall, wide = (
        (vehicle, rng.uniform(0.7, 1.2), rng.uniform(1.5, 3.0)),
        (figure, rng.uniform(0.8, 1.3), 0.45),
        (rods, rng.uniform(1.5, 5), rng.uniform(0.05, 0.6)),
        (railing, rng.uniform(0.4, 1.3), rng.uniform(2, 8)),
        (vase, rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.5)),
        (crown, rng.uniform(1, 3), rng.uniform(0.7, 2.2)),
    )[style - 2]
    height, width = tall * unit, wide * unit
    lean = float(np.clip(rng.normal(0, 0.08), -0.3, 0.3)) * min(1.0, d / 30) if shape is railing else 0.0
    plane = (lean, 0.0, d - lean * (x + width / 2))
    if shape is crown:
        _trunk(stage, x + width / 2, foot, unit * rng.uniform(0.8, 1.6), d)
        foot -= unit * 0.7
    depth = 0.12 * d if shape in (vehicle, vase, crown) and rng.random() < 0.7 else 0.0
    kind, detail = None, None
    if shape is vehicle and rng.random() < 0.8:
        kind, detail = str(rng.choice(["flat", "glossy", "metal"])), car_parts
    elif shape is crown and rng.random() < 0.7:
        kind = "foliage"
    stage.put(shape, x, foot - height, height, width, plane, depth=min(depth, 12), kind=kind, detail=detail)
    _shadow(stage, x, foot, width, unit)


def _trunk(stage: Stage, x: float, foot: float, height: float, d: float) -> None:
    width = max(5.0, height * stage.rng.uniform(0.06, 0.2))
    stage.put(vase, x - width / 2, foot - height, height, width, (0.0, 0.0, d), depth=0.04 * d)


def _shadow(stage: Stage, x: float, foot: float, width: float, unit: float) -> None:
    """A contact shadow on the ground below a standing thing."""
    rng = stage.rng
    if unit < 6 or rng.random() < 0.25:
        return
    length = unit * rng.uniform(0.05, 0.3)
    mask = np.zeros(stage.shadow_HC.shape, np.uint8)
    centre = (int(x + width / 2 + EDGE + rng.normal(0, 0.3) * width), int(foot))
    cv2.ellipse(mask, centre, (int(width * 0.6) + 1, int(length) + 1), 0, 0, 360, 255, -1)
    stage.shadow_HC *= 1 - blurred(mask, 1 + unit * 0.04) * np.float32(rng.uniform(0.2, 0.7) / 255)


def _box(stage: Stage, x: float, d: float) -> None:
    """A cuboid in one-point perspective: front, the side that faces us, the top if it lies below the horizon."""
    rng, horizon, vanishing = stage.rng, stage.horizon, stage.vanishing
    unit = d / stage.steep
    width = min(unit * rng.uniform(0.3, 2.5), stage.width * 0.45)
    height = min(unit * rng.uniform(0.2, 1.6), stage.height * 0.75)
    back = d * rng.uniform(0.35, 0.9)
    foot = horizon + unit
    top, right, k = foot - height, x + width, back / d
    kind = str(rng.choice(["mixture", "flat", "glossy", "repeat"], p=[0.6, 0.2, 0.1, 0.1]))
    _face(stage, [[x, top], [right, top], [right, foot], [x, foot]], (0.0, 0.0, d), kind)
    corner = right if right < vanishing else x
    if corner == right or x > vanishing:
        a = d / (corner - vanishing)
        inner, upper, lower = vanishing + (corner - vanishing) * k, horizon - (horizon - top) * k, horizon + unit * k
        if abs(a) < STEEPEST:
            quad = [[corner, top], [inner, upper], [inner, lower], [corner, foot]]
            _face(stage, quad, (a, 0.0, -a * vanishing), kind)
    if top > horizon + 2:
        b, upper = d / (top - horizon), horizon + (top - horizon) * k
        ends = [vanishing + (edge - vanishing) * k for edge in (right, x)]
        _face(stage, [[x, top], [right, top], [ends[0], upper], [ends[1], upper]], (0.0, b, -b * horizon), kind)
    _shadow(stage, x, foot, width, unit)


def _face(stage: Stage, corners: list[list[float]], plane: Plane, kind: str) -> None:
    """A polygon in left-view coordinates as a piece, cut to the canvas."""
    points = np.array(corners)
    low = np.maximum(np.floor(points.min(axis=0)) - 3, [-EDGE - 3, -3])
    high = np.minimum(np.ceil(points.max(axis=0)) + 3, [stage.reach, stage.height + 3])
    w, h = (high - low).astype(int)
    if w < 5 or h < 5:
        return

    def quad(_: np.random.Generator, height: int, width: int) -> Mask:
        pen = Pen(height, width)
        pen.polygon(points - low)
        return pen.done()

    # a face is cut by the canvas, never resized: its mask is drawn at the size asked for
    mask = quad(stage.rng, h, w)
    stage.layers += piece(stage.rng, stage.textures, mask, float(low[0]), int(low[1]), plane, kind=kind)


def _floating(stage: Stage, least: int, most: int) -> None:
    """Pieces in the air at any distance and angle."""
    rng = stage.rng
    for _ in range(int(rng.integers(least, most + 1))):
        d = stage.disparity(stage.far, 1.6)
        size = float(np.exp(rng.uniform(np.log(10), np.log(stage.height * 0.55))))
        h, w = size * rng.uniform(0.4, 1.4), size * rng.uniform(0.4, 1.6)
        x, y = rng.uniform(-w / 2, stage.width + d - w / 2), rng.uniform(-h / 2, stage.height - h / 2)
        plane = (0.0, 0.0, d) if rng.random() < 0.35 else stage.tilted(x + w / 2, y + h / 2, d, 0.1)
        depth = min(rng.uniform(0.03, 0.2) * d, 14) if rng.random() < 0.4 else 0.0
        stage.put(_any(rng, SOLID), x, y, h, w, plane, depth=depth)


def _thin(stage: Stage) -> None:
    """Rods, cables, railings, nets, branches, leaves, writing; foliage in sheets at several distances."""
    rng = stage.rng
    for _ in range(int(rng.integers(1, 11))):
        shape = _any(rng, THIN)
        d = stage.disparity(stage.far, 1.3)
        size = float(np.exp(rng.uniform(np.log(40), np.log(stage.height * 1.3))))
        h, w = size * rng.uniform(0.4, 1.3), size * rng.uniform(0.4, 2.0)
        x, y = rng.uniform(-w / 2, stage.width + d - w / 2), rng.uniform(-h / 2, stage.height - h / 2)
        sheets = int(rng.integers(1, 4)) if shape is crown or rng.random() < 0.2 else 1
        for _ in range(sheets):
            near = min(d * rng.uniform(0.9, 1.1), stage.max_disp * 0.97)
            plane = (0.0, 0.0, near) if rng.random() < 0.5 else stage.tilted(x + w / 2, y + h / 2, near, 0.06)
            depth = 0.08 * d if rng.random() < 0.3 else 0.0
            stage.put(shape, x, y, h, w, plane, depth=depth)
