"""Is the surface right? Errors of normals and of depth edges, from depth that has been aligned to the truth.

Normals (degrees; mean squared error over pixels and the three components): from both depth maps in the same way, with
the camera where it is known (pinhole), else under the scaled orthographic camera of :mod:`depthlight.geometry.normals`
with both maps divided by the truth's median in the mask. Only pixels count whose truth, and that of their neighbours
up, down, left and right, is in the mask; where the estimate has no positive depth there, its normal is (0, 0, −1).

Boundary F1 (0–1) after Depth Pro (Bochkovskii et al., arXiv 2410.02073, section on boundary metrics): of two neighbours
the farther lies behind an edge if it is more than t times as far. Precision is the share of the estimate's edges that
are the truth's too, recall the share of the truth's that the estimate has, over all pairs of neighbours across and
down of which both are in the mask, the same pixel being in front. F1 at ten thresholds t = 1.05 … 1.25 is averaged with
weights proportional to t; thresholds at which the truth has no edge are left out. Estimates below 0 count as 0. (The
authors' code averages precision and recall over four directions; here the pairs are pooled, as in the paper's formula.)

No torch. Shapes: H, W image size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..geometry.normals import has_normal, normals_orthographic, normals_pinhole

Intrinsics: TypeAlias = "tuple[float, float, float, float]"  # fx, fy, cx, cy in px of the image size
EDGE_RATIOS = tuple(float(ratio) for ratio in np.linspace(1.05, 1.25, 10))


@dataclass(frozen=True, kw_only=True)
class ShapeMetrics:
    """Degrees, degrees, squared, 0–1; ``None`` where the truth has no normal or no edge."""

    normal_mean: float | None
    normal_median: float | None
    normal_mse: float | None
    boundary_f1: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Plain mapping, in the order of the fields."""
        return asdict(self)


def shape_metrics(
    depth_HW: NDArray[np.floating[Any]],
    truth_HW: NDArray[np.floating[Any]],
    mask_HW: NDArray[np.bool_],
    intrinsics: Intrinsics | None = None,
) -> ShapeMetrics:
    """Errors of the surface of one image.

    Args:
        depth_HW: the aligned estimate, in the unit of the truth; zero or negative values have no surface.
        truth_HW: depth, read only in the mask.
        intrinsics: fx, fy, cx, cy; ``None`` for the orthographic camera.

    Raises:
        InputError: shapes differ, or no pixel counts.
    """
    if depth_HW.shape != truth_HW.shape or mask_HW.shape != truth_HW.shape:
        raise InputError(
            f"estimate {depth_HW.shape}, truth {truth_HW.shape}, mask {mask_HW.shape}", expected="the same shape"
        )
    if not mask_HW.any():
        raise InputError("no pixel counts", expected="at least one with truth in the mask")
    estimate_HW = depth_HW.astype(np.float64)
    truth_HW = np.where(mask_HW, truth_HW, 0.0).astype(np.float64)
    measured_HW = has_normal(truth_HW, mask_HW)
    angle_N = np.empty(0)
    if measured_HW.any():
        unit = float(np.median(truth_HW[mask_HW]))
        ours_N3, true_N3 = (
            _normals(values_HW / unit, intrinsics)[measured_HW] for values_HW in (estimate_HW, truth_HW)
        )
        angle_N = angles(ours_N3, true_N3)
    return ShapeMetrics(
        normal_mean=float(angle_N.mean()) if angle_N.size else None,
        normal_median=float(np.median(angle_N)) if angle_N.size else None,
        normal_mse=float(((ours_N3 - true_N3) ** 2).mean()) if angle_N.size else None,
        boundary_f1=boundary_f1(estimate_HW, truth_HW, mask_HW),
    )


def angles(first_N3: NDArray[np.floating[Any]], second_N3: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Angles (N,) in degrees, 0..180, between vectors; exact also for small ones."""
    sine_N = np.linalg.norm(np.cross(first_N3, second_N3), axis=-1)
    return np.asarray(np.degrees(np.arctan2(sine_N, (first_N3 * second_N3).sum(-1))), np.float64)


def boundary_f1(
    depth_HW: NDArray[np.floating[Any]], truth_HW: NDArray[np.floating[Any]], mask_HW: NDArray[np.bool_]
) -> float | None:
    """F1 of depth edges, 0–1; see the head of this module. ``None`` where the truth has no edge at any threshold."""
    depth_HW = np.maximum(depth_HW, 0.0)
    total = weights = 0.0
    for ratio in EDGE_RATIOS:
        both = ours = true = 0
        for (depth_a, depth_b), (truth_a, truth_b), (mask_a, mask_b) in _pairs(depth_HW, truth_HW, mask_HW):
            counted = mask_a & mask_b
            ours_here, true_here = depth_b > ratio * depth_a, truth_b > ratio * truth_a
            ours += int((ours_here & counted).sum())
            true += int((true_here & counted).sum())
            both += int((ours_here & true_here & counted).sum())
        if true:
            total += ratio * 2 * both / (ours + true)  # 2PR/(P+R) with P = both/ours, R = both/true
            weights += ratio
    return total / weights if weights else None


def _pairs(*maps_HW: NDArray[Any]) -> Iterator[tuple[tuple[NDArray[Any], NDArray[Any]], ...]]:
    """Each map's neighbours across and down, in both orders."""
    for first, second in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[1:], np.s_[:-1]),
    ):
        yield tuple((values_HW[first], values_HW[second]) for values_HW in maps_HW)


def _normals(depth_HW: NDArray[np.floating[Any]], intrinsics: Intrinsics | None) -> NDArray[np.floating[Any]]:
    return normals_orthographic(depth_HW) if intrinsics is None else normals_pinhole(depth_HW, *intrinsics)
