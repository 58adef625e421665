"""Relative inverse depth of one photo made metric by measured depth: of a stereo pair, a laser, a few known points.

First one scale and one shift for the whole photo, robust against wrong anchors: pairs of anchors propose, the largest
agreement wins, and reweighted least squares with Tukey's weights settles it (RANSAC, Fischler & Bolles 1981; Beaton &
Tukey 1974). Anchors that fit are trusted, and those that their neighbours bear out. Then a smooth field corrects what
is left, so that the result passes through the trusted anchors and keeps the network's detail between them; it does not
cross the network's own depth edges. Needs no torch.

Shapes: H × W the photo, N anchors. Inverse depth in 1/m, depth in metres along the optical axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, InputError, NonFiniteError
from ..infer.mono_prediction import MonoPrediction, need_focal

Floats = NDArray[np.float64]
_LEAST_ANCHORS = 20
_TRIES = 500
_SAMPLE = 20_000  # anchors that vote and fit; more change nothing
_TUKEY = 4.685  # robust standard deviations at which an anchor counts no more
_SIGMA = 1.4826  # standard deviations per median absolute deviation
_ROUNDS = 30
_PER_CELL = 4
_LEAST_NEIGHBOURS = 6  # that make a vote
_SMALLEST = 24  # px of the shorter side of the coarsest grid of the correction
_ITERATIONS = 60  # of conjugate gradients on every grid


@dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """How a map is anchored.

    Attributes:
        tolerance: relative difference of inverse depth within which an anchor agrees with a proposed scale and shift.
        least_agreement: share of the anchors that must agree, or the two maps do not show the same scene; and of an
            anchor's neighbours for it to be trusted where the map is wrong.
        smoothness: of the correction, against passing through the anchors; 0 leaves the correction out.
        edge: jump of inverse depth between neighbours, as a share of the map's range, that holds the correction back.
        farthest: results beyond this many times the deepest trusted anchor are unknown.
        seed: of the proposals.
    """

    tolerance: float = 0.1
    least_agreement: float = 0.3
    smoothness: float = 0.3
    edge: float = 0.02
    farthest: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tolerance", "least_agreement", "edge", "farthest"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}", expected="above 0")
        if not (math.isfinite(self.smoothness) and self.smoothness >= 0):
            raise ConfigError(f"smoothness is {self.smoothness}", expected="0 or more")


@dataclass(frozen=True)
class Anchored:
    """A metric depth map.

    Attributes:
        depth: (H, W) float32 metres; 0 where it is unknown (behind the farthest that can be told).
        scale, shift: ``1 / depth = scale · relative + shift`` before the correction; 1/m per unit of the relative map,
            and 1/m.
        anchors: measured pixels; ``trusted`` is the share that the fit believes, ``trusted_HW`` (bool) says which.
        error_before, error_after: median relative depth error at the trusted anchors, without and with the correction.
    """

    depth: NDArray[np.float32]
    scale: float
    shift: float
    anchors: int
    trusted: float
    trusted_HW: NDArray[np.bool_]
    error_before: float
    error_after: float

    def summary(self) -> dict[str, Any]:
        """The facts of ``result.json``."""
        return {
            "scale": self.scale,
            "shift": self.shift,
            "units": {"scale": "1/m per unit of relative inverse depth", "shift": "1/m"},
            "anchors": self.anchors,
            "trusted_share": self.trusted,
            "error_at_anchors_before": self.error_before,
            "error_at_anchors_after": self.error_after,
            "unknown_share": float((self.depth == 0).mean()),
        }


def anchor(
    inverse_HW: NDArray[np.floating[Any]],
    depth_HW: NDArray[np.floating[Any]],
    *,
    valid_HW: NDArray[np.bool_] | None = None,
    config: AnchorConfig | None = None,
) -> Anchored:
    """Metric depth from relative inverse depth and measured depth of some of its pixels.

    Args:
        inverse_HW: relative inverse depth, right up to scale and shift, larger is nearer.
        depth_HW: measured depth in metres at the same size.
        valid_HW: where it was measured; by default where it is finite and above 0.
        config: see :class:`AnchorConfig`.

    Raises:
        InputError: the shapes differ, there are fewer than 20 anchors, they all have one depth or one relative depth
            (so that no scale follows), too few agree, or nearer things are deeper in them.
        NonFiniteError: the relative map holds NaN or infinity, or a pixel given as valid has no depth above 0.
    """
    config = config or AnchorConfig()
    inverse_HW, measured_HW, valid_HW = _checked(inverse_HW, depth_HW, valid_HW)
    relative_N, target_N = inverse_HW[valid_HW], 1 / measured_HW[valid_HW]
    scale, shift = _fit(*_some(relative_N, target_N), config)
    fitted_N = scale * relative_N + shift
    believed_N = _trust(target_N - fitted_N, fitted_N, config)
    borne_out_N = _borne_out(np.argwhere(valid_HW), target_N, target_N - fitted_N, believed_N > 0, config)
    trust_HW = np.zeros(inverse_HW.shape)
    trust_HW[valid_HW] = np.where(borne_out_N, 1.0, believed_N)
    aligned_HW = scale * inverse_HW + shift
    residual_HW = np.where(valid_HW, np.divide(1, measured_HW, where=valid_HW, out=np.zeros_like(measured_HW)), 0)
    residual_HW = np.where(trust_HW > 0, residual_HW - aligned_HW, 0)
    metric_HW = aligned_HW
    if config.smoothness:
        span = float(aligned_HW.max() - aligned_HW.min())
        metric_HW = aligned_HW + smooth_field(residual_HW, trust_HW, aligned_HW / (config.edge * span), config)
    trusted_HW = trust_HW > 0
    deepest = config.farthest * float(measured_HW[trusted_HW].max())
    known_HW = metric_HW * deepest >= 1
    depth = np.divide(1, metric_HW, where=known_HW, out=np.zeros_like(metric_HW)).astype(np.float32)
    return Anchored(
        depth=depth,
        scale=scale,
        shift=shift,
        anchors=int(valid_HW.sum()),
        trusted=float(trusted_HW.sum() / valid_HW.sum()),
        trusted_HW=trusted_HW,
        error_before=_relative_error(aligned_HW, measured_HW, trusted_HW),
        error_after=_relative_error(metric_HW, measured_HW, trusted_HW),
    )


def anchor_prediction(
    prediction: MonoPrediction,
    depth_HW: NDArray[np.floating[Any]],
    *,
    valid_HW: NDArray[np.bool_] | None = None,
    focal: float | None = None,
    config: AnchorConfig | None = None,
) -> tuple[MonoPrediction, Anchored]:
    """The prediction in metres; ``focal`` (px of the photo) makes clouds and pinhole normals possible.

    Raises:
        InputError: the prediction is metric already, or the focal length no camera's; also what :func:`anchor` raises.
    """
    if prediction.is_metric:
        raise InputError(f"{prediction.model.name} gives metres already", hint="Anchor a relative model")
    if focal is not None:
        need_focal(focal)
    found = anchor(prediction.values, depth_HW, valid_HW=valid_HW, config=config)
    given = None if focal is None else "given"
    return replace(prediction, values=found.depth, quantity="depth", focal=focal, focal_from=given), found


def wanted_change(
    before_HW: NDArray[np.floating[Any]], depth_HW: NDArray[np.floating[Any]], found: Anchored, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """By how much the relative map should change to meet the trusted anchors, at ``size`` (h, w), and their weights.

    Args:
        before_HW: the relative map that was anchored.
        depth_HW: the measured depth, m.
        found: what :func:`anchor` made of the two.
        size: of the result.

    Returns:
        (h, w) float32 in the unit of ``before_HW``, 0 where there is no anchor; and 0..1, the share of each cell that
        trusted anchors are.
    """
    height, width = size
    trusted_HW = found.trusted_HW.astype(np.float32)
    target_HW = np.where(found.trusted_HW, (1 / np.where(found.trusted_HW, depth_HW, 1) - found.shift) / found.scale, 0)
    change_HW = np.where(found.trusted_HW, target_HW - before_HW, 0).astype(np.float32)
    share_hw = np.asarray(cv2.resize(trusted_HW, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    total_hw = np.asarray(cv2.resize(change_HW, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    return np.where(share_hw > 0, total_hw / np.maximum(share_hw, 1e-9), 0).astype(np.float32), share_hw


# ------------------------------------------------------------------------------------------------ scale and shift


def _checked(
    inverse_HW: NDArray[np.floating[Any]], depth_HW: NDArray[np.floating[Any]], valid_HW: NDArray[np.bool_] | None
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    if inverse_HW.ndim != 2 or depth_HW.shape != inverse_HW.shape:
        raise InputError(
            f"the relative map has shape {inverse_HW.shape} and the measured depth {depth_HW.shape}",
            expected="one (H, W)",
            hint="Measure and predict the same image, at the same size",
        )
    if not np.isfinite(inverse_HW).all():
        raise NonFiniteError("the relative map holds NaN or infinity", expected="finite values")
    measured_HW = np.isfinite(depth_HW) & (depth_HW > 0)
    if valid_HW is None:
        valid_HW = measured_HW
    elif valid_HW.shape != depth_HW.shape:
        raise InputError(f"valid has shape {valid_HW.shape}", expected=f"that of the depth, {depth_HW.shape}")
    elif (valid_HW & ~measured_HW).any():
        y, x = np.argwhere(valid_HW & ~measured_HW)[0]
        raise NonFiniteError(f"the depth at ({y}, {x}) is {depth_HW[y, x]}", expected="metres above 0 where valid")
    if valid_HW.sum() < _LEAST_ANCHORS:
        raise InputError(
            f"only {int(valid_HW.sum())} pixels have a measured depth", expected=f"{_LEAST_ANCHORS} or more"
        )
    return inverse_HW.astype(np.float64), depth_HW.astype(np.float64), np.asarray(valid_HW, bool)


def _some(relative_N: Floats, target_N: Floats) -> tuple[Floats, Floats]:
    step = math.ceil(len(relative_N) / _SAMPLE)
    return relative_N[::step], target_N[::step]


def _fit(relative_N: Floats, target_N: Floats, config: AnchorConfig) -> tuple[float, float]:
    """Scale and shift with the largest agreement, then reweighted least squares."""
    if not _spread(relative_N):
        raise InputError("the anchors all have one relative depth", expected="anchors near and far")
    if not _spread(target_N):
        raise InputError("the measured depth does not vary", expected="anchors near and far")
    scale, shift, agreeing = _propose(relative_N, target_N, 0.05 * _spread(relative_N), config)
    if agreeing < config.least_agreement:
        raise InputError(
            f"at most {100 * agreeing:.0f} % of the anchors agree with one scale and shift",
            expected=f"at least {100 * config.least_agreement:.0f} %",
            hint="Check that photo and measured depth show the same view, and that the depth is in metres",
        )
    for _ in range(_ROUNDS):
        fitted_N = scale * relative_N + shift
        weight_N = _trust(target_N - fitted_N, fitted_N, config) / np.square(target_N)  # relative errors
        mean_r, mean_t = (float(np.average(values, weights=weight_N)) for values in (relative_N, target_N))
        centred_N = relative_N - mean_r
        slope = float((weight_N * centred_N * target_N).sum() / (weight_N * centred_N * centred_N).sum())
        before = scale, shift
        scale, shift = slope, mean_t - slope * mean_r
        if math.isclose(scale, before[0], rel_tol=1e-9) and math.isclose(shift, before[1], rel_tol=1e-9):
            break
    if not scale > 0:
        raise InputError("nearer things are deeper in the anchors", hint="Give depth in metres, not inverse depth")
    return scale, shift


def _spread(values_N: Floats) -> float:
    """From the 5 % to the 95 % quantile; 0 where that is nothing beside the values themselves."""
    spread = float(np.subtract(*np.percentile(values_N, (95, 5))))
    return spread if spread > 1e-6 * max(float(np.abs(values_N).max()), 1e-12) else 0.0


def _propose(relative_N: Floats, target_N: Floats, apart: float, config: AnchorConfig) -> tuple[float, float, float]:
    """The best of many lines through two anchors, with a positive slope: (scale, shift, share that agrees)."""
    rng = np.random.default_rng(config.seed)
    first, second = rng.integers(len(relative_N), size=(2, _TRIES))
    best = (0.0, 0.0, 0.0)
    for i, j in zip(first, second, strict=True):
        run = float(relative_N[j] - relative_N[i])
        if abs(run) < apart:
            continue
        scale = float(target_N[j] - target_N[i]) / run
        if not scale > 0:
            continue
        shift = float(target_N[i]) - scale * float(relative_N[i])
        share = float((np.abs(scale * relative_N + shift - target_N) <= config.tolerance * target_N).mean())
        if share > best[2]:
            best = scale, shift, share
    return best


def _trust(residual_N: Floats, fitted_N: Floats, config: AnchorConfig) -> Floats:
    """Tukey's weights (0..1) of relative residuals; their scale is that of the anchors within the tolerance."""
    relative_N = np.abs(residual_N) / np.maximum(np.abs(fitted_N), 1e-12)
    near_N = relative_N[relative_N <= config.tolerance]
    sigma = _SIGMA * float(np.median(near_N)) if near_N.size else config.tolerance
    reach = _TUKEY * max(sigma, 1e-4)
    return np.asarray(np.square(np.maximum(1 - np.square(relative_N / reach), 0)), np.float64)


def _borne_out(
    place_N2: NDArray[np.integer[Any]],
    target_N: Floats,
    residual_N: Floats,
    believed_N: NDArray[np.bool_],
    config: AnchorConfig,
) -> NDArray[np.bool_]:
    """Which anchors have neighbours that agree with them: in what scale and shift leave, or in depth.

    Where the network is wrong, right measurements do not fit its map; they do fit each other. Agreement in depth counts
    only from neighbours that do not fit the map either: elsewhere the map knows better. The neighbours are those in the
    3 x 3 cells around, of a grid with about :data:`_PER_CELL` anchors to a cell.
    """
    step = math.ceil(len(target_N) / _SAMPLE)
    extent = np.ptp(place_N2, axis=0) + 1
    side = max(1.0, math.sqrt(_PER_CELL * step * float(np.prod(extent)) / len(target_N)))
    cell_N2 = ((place_N2 - place_N2.min(axis=0)) / side).astype(int)
    members, voters = _by_cell(cell_N2, np.arange(len(cell_N2))), _by_cell(cell_N2, np.arange(0, len(cell_N2), step))
    found_N = np.zeros(len(target_N), np.bool_)
    for (row, column), mine in members.items():
        around = [voters.get((row + dy, column + dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        theirs = np.concatenate([part for part in around if part is not None] or [np.zeros(0, int)])
        reach_m1 = config.tolerance * target_N[mine, None]
        agrees = (np.abs(target_N[mine, None] - target_N[theirs]) <= reach_m1) & ~believed_N[theirs]
        agrees |= np.abs(residual_N[mine, None] - residual_N[theirs]) <= reach_m1
        other = mine[:, None] != theirs
        count_m = other.sum(1)
        found_N[mine] = (count_m >= _LEAST_NEIGHBOURS) & ((agrees & other).sum(1) >= config.least_agreement * count_m)
    return found_N


def _by_cell(cell_N2: NDArray[np.integer[Any]], of: NDArray[np.integer[Any]]) -> dict[tuple[int, int], NDArray[Any]]:
    """The indices ``of`` anchors, by the cell they lie in."""
    cells = cell_N2[of]
    order = np.lexsort((cells[:, 1], cells[:, 0]))
    ends = np.flatnonzero(np.any(np.diff(cells[order], axis=0) != 0, axis=1)) + 1
    parts = np.split(of[order], ends)
    return {(int(cell_N2[part[0], 0]), int(cell_N2[part[0], 1])): part for part in parts}


def _relative_error(inverse_HW: Floats, measured_HW: Floats, where_HW: NDArray[np.bool_]) -> float:
    """Median |z - measured| / measured."""
    product = inverse_HW[where_HW] * measured_HW[where_HW]
    return float(np.median(np.abs(1 / np.maximum(product, 1e-12) - 1)))


# ------------------------------------------------------------------------------------------------ the correction


def smooth_field(values_HW: Floats, weight_HW: Floats, guide_HW: Floats, config: AnchorConfig) -> Floats:
    """The field c that minimises ``Σ weight (c - values)² + smoothness Σ exp(-|∇guide|) |∇c|²``.

    Solved by conjugate gradients from coarse to fine grids, so that few anchors reach far. Where no weight is anywhere
    the field is 0.
    """
    height, width = values_HW.shape
    start_HW = np.zeros_like(values_HW)
    if min(height, width) >= 2 * _SMALLEST:
        half = (width + 1) // 2, (height + 1) // 2
        mass_hw = _shrunk(weight_HW, half)
        mean_hw = _shrunk(weight_HW * values_HW, half) / np.maximum(mass_hw, 1e-12)
        # a coarse cell stands for four: its data count four times, its differences as they are
        coarse_hw = smooth_field(mean_hw, 4 * mass_hw, _shrunk(guide_HW, half), config)
        start_HW = np.asarray(cv2.resize(coarse_hw, (width, height), interpolation=cv2.INTER_LINEAR), np.float64)
    return _conjugate_gradients(start_HW, values_HW, weight_HW, guide_HW, config.smoothness)


def _conjugate_gradients(
    field_HW: Floats, values_HW: Floats, weight_HW: Floats, guide_HW: Floats, smoothness: float
) -> Floats:
    across_HW, down_HW = (smoothness * np.exp(-np.abs(np.diff(guide_HW, axis=axis))) for axis in (1, 0))

    def apply(c_HW: Floats) -> Floats:
        out_HW = weight_HW * c_HW
        flow_x, flow_y = across_HW * np.diff(c_HW, axis=1), down_HW * np.diff(c_HW, axis=0)
        out_HW[:, :-1] -= flow_x
        out_HW[:, 1:] += flow_x
        out_HW[:-1] -= flow_y
        out_HW[1:] += flow_y
        return np.asarray(out_HW, np.float64)

    rest_HW = weight_HW * values_HW - apply(field_HW)
    direction_HW, energy = rest_HW.copy(), float((rest_HW * rest_HW).sum())
    goal = 1e-16 * float(np.square(weight_HW * values_HW).sum())
    for _ in range(_ITERATIONS):
        if energy <= goal:
            break
        applied_HW = apply(direction_HW)
        step = energy / float((direction_HW * applied_HW).sum())
        field_HW = field_HW + step * direction_HW
        rest_HW = rest_HW - step * applied_HW
        energy, last = float((rest_HW * rest_HW).sum()), energy
        direction_HW = rest_HW + energy / last * direction_HW
    return field_HW


def _shrunk(values_HW: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(values_HW, size, interpolation=cv2.INTER_AREA), np.float64)
