"""Engine pairs for what lies outside a network's usual range: thin things very near, and negative disparities.

Each scene comes twice: with its thin things ``far`` px out of the usual range, and the same scene with them shifted
into it. What a search of the wide range loses is the difference between the two.

Shape legend: H W image size, 3 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.synth.camera import CameraConfig, photograph
from ..data.synth.engine import visible_mask
from ..data.synth.layered import Stage
from ..data.synth.layers import render
from ..data.synth.shapes import SOLID, THIN
from ..data.synth.textures import Textures

Image = NDArray[np.uint8]
SEED = 5
SIZE = (256, 928)
NEAREST = 170.0  # px: disparities of the scene before its thin things are moved
MOST = 330  # px by which they are moved at most
SOLIDS, RODS = 14, 7
WALLS = ("facade", "foliage")


@dataclass(frozen=True)
class WidePair:
    """A pair, its truth, and where its thin things are seen by both views (H, W bool)."""

    left_HW3: Image
    right_HW3: Image
    disparity_HW: NDArray[np.float32]
    visible_HW: NDArray[np.bool_]
    thin_HW: NDArray[np.bool_]


def thin_pair(index: int, far: int, *, size: tuple[int, int] = SIZE) -> WidePair:
    """Scene ``index``: a wall and solid things at 8 to 90 px, thin ones at 20 + ``far`` to 170 + ``far`` px.

    The same index gives the same scene for every ``far`` up to :data:`MOST`.
    """
    rng = np.random.default_rng([SEED, index])
    height, width = size
    stage = Stage(rng, height, width, NEAREST + MOST, Textures(None))
    wall = WALLS[rng.integers(len(WALLS))]  # with something to match: a plain wall has no disparity of its own
    stage.backdrop(stage.texture(wall), (0.0, 0.0, float(rng.uniform(4, 12))))
    for _ in range(SOLIDS):
        d = float(rng.uniform(8, 90))
        h, w = rng.uniform(0.15, 0.7, 2) * height
        x, y = rng.uniform(-w / 2, width + d - w / 2), rng.uniform(-h / 2, height - h / 2)
        stage.put(SOLID[rng.integers(len(SOLID))], x, y, h, w, stage.tilted(x + w / 2, y + h / 2, d, 0.04))
    behind = len(stage.layers)
    for _ in range(RODS):
        d = float(rng.uniform(20, NEAREST))
        h, w = rng.uniform(0.4, 1.2) * height, rng.uniform(0.2, 0.8) * height
        x = rng.uniform(d + MOST, max(d + MOST + 1, width - w / 2))
        y = rng.uniform(-h / 4, height - 3 * h / 4)
        stage.put(THIN[rng.integers(len(THIN))], x, y, h, w, (0.0, 0.0, d + far), kind="mixture")
    pair = render(stage.layers, height, width)
    without = render(stage.layers[:behind], height, width)
    left, right = photograph(rng, pair.left_HW3, pair.right_HW3, CameraConfig(strength=0.0))
    visible_HW = visible_mask(pair.disparity_HW, pair.right_disparity_HW)
    thin_HW = (pair.disparity_HW > without.disparity_HW + 1) & visible_HW
    return WidePair(left, right, pair.disparity_HW, visible_HW, thin_HW)


def moved_pair(pair: WidePair, by: int) -> WidePair:
    """The pair with the right view cut so that every disparity changes by ``by`` px (of either sign), none invented.

    Both views lose |``by``| columns. What is no longer seen by both is not ``visible``.
    """
    width = pair.left_HW3.shape[1] - abs(by)
    left, right = (slice(start, start + width) for start in (max(0, -by), max(0, by)))
    disparity_HW = pair.disparity_HW[:, left] + np.float32(by)
    match_HW = np.arange(width)[None, :] - disparity_HW
    inside_HW = (match_HW >= 0) & (match_HW <= width - 1)
    return WidePair(
        pair.left_HW3[:, left],
        pair.right_HW3[:, right],
        disparity_HW,
        pair.visible_HW[:, left] & inside_HW,
        pair.thin_HW[:, left] & inside_HW,
    )
