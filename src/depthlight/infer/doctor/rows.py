"""How far the rows of two views are off, from sparse matches.

For narrow fields of view the epipolar geometry of two cameras is affine (Shapiro, Zisserman and Brady, IJCV 1995): the
vertical error of a match is linear in its column, its row and its disparity,

    y_right - y_left = offset + by_column · x + by_row · y + by_disparity · (d - median d),

x and y from the image centre, x the mean of both views. For a rolled camera ``by_column`` is the tangent of the
relative roll, and for a zoomed one ``by_row`` is the relative scale less 1; both hold exactly. A rectified pair has
zeros everywhere. The fit is RANSAC with a fixed seed, refined by Tukey's biweight.

Where disparity itself runs along the columns or rows (a road, a wall seen at an angle), the terms cannot be told apart.
So the fit is done with and without disparity, and of roll and scale only what both confirm is reported.

Shape legend: N matches, K hypotheses, P = 4 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .matches import Matches

Float = NDArray[np.float64]
HYPOTHESES = 400
INLIER = 1.5  # px of the searched images
TUKEY = 4.685  # of standard deviations: 95 % efficient on normal errors
# What a lens and mount may do, as weak priors of the refinement: without them a flat scene leaves the four parameters
# undecided. Relative roll and scale of 0.1 are far beyond any rig; a rise with disparity of 0.05 is a tilt of 3°.
PRIOR = np.array([1e3, 0.1, 0.1, 0.05])
PLAIN = PRIOR * np.array([1, 1, 1, 1e-6])
NOISE = 0.3  # px, of one match


@dataclass(frozen=True)
class RowFit:
    """The four parameters, which matches follow them, and how well.

    ``offset`` is px at the right view's centre (positive: it is too low); ``by_column``, ``by_row`` and
    ``by_disparity`` are px per px; ``residual`` is the 90th percentile of what the inliers leave, px. ``spread`` is the
    range of disparity over which ``by_disparity`` acts, px (5th to 95th percentile of the inliers).
    """

    offset: float
    by_column: float
    by_row: float
    by_disparity: float
    spread: float
    residual: float
    inlier_N: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of matches that follow the fit."""
        return int(self.inlier_N.sum())

    @property
    def share(self) -> float:
        """Share (0..1) of the matches that follow it."""
        return float(self.inlier_N.mean()) if len(self.inlier_N) else 0.0


def fit_rows(matches: Matches, width: int, height: int) -> RowFit | None:
    """The fit for images of ``width`` × ``height`` px; None with fewer than eight matches."""
    if len(matches) < 8:
        return None
    terms_NP, error_N = _terms(matches, width, height)
    bound = INLIER * matches.reduction
    full_P, plain_P = (
        _refined(terms_NP, error_N, _ransac(terms_NP, error_N, bound, prior), bound, prior) for prior in (PRIOR, PLAIN)
    )
    rest_N = np.abs(error_N - terms_NP @ full_P)
    inlier_N = rest_N <= bound
    if not inlier_N.any():
        return None
    by_column, by_row = (_confirmed(full_P[i], plain_P[i]) for i in (1, 2))
    low, high = np.percentile(terms_NP[inlier_N, 3], (5, 95))
    right_column_N = matches.right_N2[:, 0] - (width - 1) / 2
    return RowFit(
        offset=float(np.median((error_N - by_column * right_column_N - by_row * terms_NP[:, 2])[inlier_N])),
        by_column=by_column,
        by_row=by_row,
        by_disparity=float(full_P[3]),
        spread=float(high - low),
        residual=float(np.percentile(rest_N[inlier_N], 90)),
        inlier_N=inlier_N,
    )


def _confirmed(one: float, other: float) -> float:
    """The smaller of two estimates, 0 where they do not agree on the sign."""
    return float(min(one, other, key=abs)) if one * other > 0 else 0.0


def _refined(terms_NP: Float, error_N: Float, start_P: Float, bound: float, prior_P: Float) -> Float:
    """Tukey's biweight from ``start_P`` on."""
    best_P: Float = start_P
    for _ in range(8):
        rest_N = error_N - terms_NP @ best_P
        near_N = np.abs(rest_N) <= bound
        deviation = 1.4826 * float(np.median(np.abs(rest_N[near_N]))) if near_N.any() else bound
        spread = max(NOISE * bound / INLIER, deviation)
        weight_N = np.clip(1 - (rest_N / (TUKEY * spread)) ** 2, 0, None) ** 2
        best_P = _solve(terms_NP, error_N, weight_N / spread**2, prior_P)
    return best_P


def _terms(matches: Matches, width: int, height: int) -> tuple[Float, Float]:
    left_N2, right_N2 = matches.left_N2.astype(np.float64), matches.right_N2.astype(np.float64)
    disparity_N = left_N2[:, 0] - right_N2[:, 0]
    terms_NP = np.stack(
        [
            np.ones(len(left_N2)),
            (left_N2[:, 0] + right_N2[:, 0]) / 2 - (width - 1) / 2,
            left_N2[:, 1] - (height - 1) / 2,
            disparity_N - np.median(disparity_N),
        ],
        axis=1,
    )
    return terms_NP, right_N2[:, 1] - left_N2[:, 1]


def _ransac(terms_NP: Float, error_N: Float, bound: float, prior_P: Float) -> Float:
    """The hypothesis most matches follow; among them no error at all and plain offsets, which most pairs obey."""
    random = np.random.default_rng(0)
    count, size = terms_NP.shape
    hypotheses = [np.zeros(size)]
    for index in random.integers(0, count, HYPOTHESES // 4):
        hypotheses.append(np.array([error_N[index], 0, 0, 0]))
    for _ in range(HYPOTHESES):
        sample = random.choice(count, min(count, 6), replace=False)  # more than four, with the priors: stable
        hypotheses.append(_solve(terms_NP[sample], error_N[sample], np.full(len(sample), NOISE**-2), prior_P))
    table_KP = np.array(hypotheses)
    rest_KN = np.abs(error_N[None] - table_KP @ terms_NP.T)
    score_K = np.clip(1 - (rest_KN / bound) ** 2, 0, None).sum(axis=1)
    best: Float = table_KP[int(score_K.argmax())]
    return best


def _solve(terms_NP: Float, error_N: Float, weight_N: Float, prior_P: Float) -> Float:
    """Weighted least squares with the priors; always solvable, because every parameter has one."""
    normal_PP: NDArray[Any] = (terms_NP * weight_N[:, None]).T @ terms_NP + np.diag(prior_P**-2)
    found: Float = np.linalg.solve(normal_PP, terms_NP.T @ (weight_N * error_N))
    return found
