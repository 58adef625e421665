"""Everything the doctor measures on a pair, as plain numbers; ``rules.py`` judges them.

Shape legend: H W image size, N matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..prediction import StereoMatcher
from . import appearance
from .dense import DenseAnswer, dense_answer
from .matches import WORKING_SIDE, Matches, find_matches
from .rows import RowFit, fit_rows

Image = NDArray[np.uint8]
ENOUGH_MATCHES = 25  # below, sparse matches decide nothing and the network is asked more
NEIGHBOURS = 6
MOVED = 1.0  # px: a disparity of more has a sign, beyond the noise of a match
STILL = 0.5  # px: two points nearer than this have not moved


ROW_NAMES = ("offset", "by_column", "by_row", "by_disparity", "residual")


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


@dataclass(frozen=True)
class View:
    """One image: size in px, ``contrast`` and ``noise`` in gray levels, ``blur`` of its sharper edges in px (σ)."""

    width: int
    height: int
    contrast: float
    blur: float
    noise: float


@dataclass(frozen=True)
class Disparities:
    """Of matches that follow the row fit and agree with a neighbour; px, roll and scale of the right view undone."""

    count: int
    low: float  # 2nd percentile
    median: float
    high: float  # 98th percentile
    negative: float  # share below -1 px
    positive: float  # share above 1 px
    beyond: float  # share above the range
    still: float  # share of matches that are at the same place in both views


@dataclass(frozen=True)
class Measurements:
    """What was measured; None where it could not be."""

    left: View
    right: View
    max_disp: int
    difference: float | None = None  # mean absolute, gray levels; None: sizes differ
    matches: Matches | None = None
    rows: RowFit | None = None
    turn: float = 0.0  # degrees, the most frequent turn of key points
    gain: float = 1.0  # brightness, right / left
    channel_swap: float = 0.0
    disparities: Disparities | None = None
    dense: DenseAnswer | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; of the matches their number, of the row fit its parameters."""
        rows = self.rows
        return {
            "left": _rounded(asdict(self.left)),
            "right": _rounded(asdict(self.right)),
            "max_disp": self.max_disp,
            "matches": None if self.matches is None else len(self.matches),
            "rows": None
            if rows is None
            else _rounded({name: getattr(rows, name) for name in ROW_NAMES} | {"matches": rows.count}),
            "disparities": None if self.disparities is None else _rounded(asdict(self.disparities)),
            "dense": None if self.dense is None else _rounded(asdict(self.dense)),
            **_rounded({"difference": self.difference, "turn": self.turn, "gain": self.gain}),
            "channel_swap": round(self.channel_swap, 6),
        }


def measure(
    left_HW3: Image, right_HW3: Image, matcher: StereoMatcher | None, max_disp: int, *, side: int = WORKING_SIDE
) -> Measurements:
    """Measure two RGB uint8 images; what needs both is left out where their sizes differ.

    Args:
        matcher: the network asked about the pair; None leaves ``dense`` out.
        max_disp: px; disparities above it are beyond the range.
        side: longest side (px) at which matches are sought.
    """
    left, right = _view(left_HW3), _view(right_HW3)
    if left_HW3.shape != right_HW3.shape:
        return Measurements(left, right, max_disp)
    height, width = left_HW3.shape[:2]
    matches = find_matches(left_HW3, right_HW3, side)
    rows = fit_rows(matches, width, height)
    inlier_N = np.ones(len(matches), bool) if rows is None else rows.inlier_N
    colours = [
        appearance.patch_means(image, points[inlier_N])
        for image, points in ((left_HW3, matches.left_N2), (right_HW3, matches.right_N2))
    ]
    gain = appearance.gain(*colours) if inlier_N.sum() >= 10 else _mean_ratio(left_HW3, right_HW3)
    return Measurements(
        left,
        right,
        max_disp,
        difference=float(cv2.absdiff(left_HW3, right_HW3).mean()),
        matches=matches,
        rows=rows,
        turn=_turn(matches),
        gain=gain,
        channel_swap=appearance.channel_swap(*colours),
        disparities=None if rows is None else _disparities(matches, rows, width, max_disp),
        dense=None
        if matcher is None
        else dense_answer(
            matcher, left_HW3, right_HW3, max_disp, exchanged=rows is None or rows.count < ENOUGH_MATCHES
        ),
    )


def _view(image_HW3: Image) -> View:
    gray_HW = appearance.luminance(image_HW3)
    height, width = gray_HW.shape
    return View(width, height, appearance.contrast(gray_HW), appearance.edge_blur(gray_HW), appearance.noise(gray_HW))


def _mean_ratio(left_HW3: Image, right_HW3: Image) -> float:
    return float(max(1.0, float(right_HW3.mean())) / max(1.0, float(left_HW3.mean())))


def _turn(matches: Matches) -> float:
    """The fullest of bins of 10 degrees, refined by the median of what lies within 10 degrees; 0 if few agree."""
    if len(matches) < 8:
        return 0.0
    counts, edges = np.histogram(matches.turn_N, bins=36, range=(-180, 180))
    centre = edges[int(counts.argmax())] + 5
    apart_N = (matches.turn_N - centre + 180) % 360 - 180
    near_N = np.abs(apart_N) <= 10
    if near_N.sum() < max(ENOUGH_MATCHES, 0.4 * len(near_N)):
        return 0.0
    turn = centre + float(np.median(apart_N[near_N]))
    return float((turn + 180) % 360 - 180)


def _disparities(matches: Matches, rows: RowFit, width: int, max_disp: int) -> Disparities | None:
    left_N2, right_N2 = matches.left_N2[rows.inlier_N], matches.right_N2[rows.inlier_N]
    if not len(left_N2):
        return None
    still = float((np.linalg.norm(left_N2 - right_N2, axis=1) < STILL).mean())
    centre = (width - 1) / 2
    # A zoomed and rolled right view: x' - c = (1 + s) (x - c) - roll · y. Undone, so that only parallax is left.
    rolled_N = rows.by_column * (left_N2[:, 1] - left_N2[:, 1].mean())
    column_N = (right_N2[:, 0] - centre + rolled_N) / (1 + rows.by_row) + centre
    disparity_N = left_N2[:, 0] - column_N
    disparity_N = disparity_N[supported(left_N2, disparity_N)]
    if len(disparity_N) < NEIGHBOURS:
        return None
    low, median, high = (float(value) for value in np.percentile(disparity_N, (2, 50, 98)))
    return Disparities(
        len(disparity_N),
        low,
        median,
        high,
        float((disparity_N < -MOVED).mean()),
        float((disparity_N > MOVED).mean()),
        float((disparity_N > max_disp).mean()),
        still,
    )


def supported(points_N2: NDArray[np.float32], disparity_N: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Matches with two of their nearest neighbours at about their own disparity: repeated patterns rarely have them."""
    count = len(points_N2)
    if count <= NEIGHBOURS:
        return np.zeros(count, bool)
    square_N = (points_N2**2).sum(axis=1)
    apart_NN = square_N[:, None] + square_N[None] - 2 * points_N2 @ points_N2.T
    np.fill_diagonal(apart_NN, np.inf)
    near_NK = np.argpartition(apart_NN, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    bound_N = np.maximum(3.0, 0.1 * np.abs(disparity_N))
    agree_NK = np.abs(disparity_N[near_NK] - disparity_N[:, None]) <= bound_N[:, None]
    enough: NDArray[np.bool_] = agree_NK.sum(axis=1) >= 2
    return enough
