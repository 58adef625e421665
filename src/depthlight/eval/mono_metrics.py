"""Errors of a single-image depth map against the truth, and the alignments that come first.

Metrics, over the pixels of a mask, with p the estimate and g the truth, both depth in the unit of the truth:

===================  ===============================================================================================
abs_rel              mean of |p − g| / g
sq_rel               mean of (p − g)² / g
rmse                 root of the mean of (p − g)²
rmse_log             root of the mean of e², e = ln p − ln g
silog                100 · root of (mean of e² − (mean of e)²); Eigen et al. 2014 with the whole of the second term
log10                mean of |log10 p − log10 g|
delta1, 2, 3         share of max(p/g, g/p) < 1.25, 1.25², 1.25³
clamped              share of pixels at which the alignment had no usable value and put its bound instead
floored              share of pixels with p < 0.001, which count as 0.001 in the logarithms and in delta, and as they
                     are elsewhere (zero and negative values come from the paper's second alignment only)
===================  ===============================================================================================

Shares are percentages, 0–100. Everything is computed in float64. No torch.

Raw disparity is relative inverse depth, affine-ambiguous. Shapes: H, W image size; N pixels of the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, NonFiniteError, UnknownNameError

Alignment = Literal["affine", "paper", "none"]
Quantity = Literal["inverse_depth", "depth"]
MIN_TRUTH, MAX_TRUTH = 1e-3, 1e4  # the paper's mask where there is none
FLOOR = 1e-3


@dataclass(frozen=True, kw_only=True)
class DepthMetrics:
    """See the head of this module; ``rmse`` in the unit of the truth, shares in percent."""

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    silog: float
    log10: float
    delta1: float
    delta2: float
    delta3: float
    clamped: float
    floored: float

    def to_dict(self) -> dict[str, float]:
        """Plain mapping, in the order of the fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class AlignedDepth:
    """An estimate brought to the unit of the truth.

    Attributes:
        depth_HW: float64. May hold 0 and negative values after ``"paper"``, never after ``"affine"``.
        clamped_HW: where the aligned inverse depth was of no use and its bound stands instead.
        scale, shift: of the fit in inverse depth; 1 and 0 for ``"none"``. A negative scale means that the estimate
            has near and far swapped and the fit turned it round.
        depth_scale, depth_shift: of the paper's second fit, in depth; 1 and 0 otherwise.
    """

    depth_HW: NDArray[np.float64]
    clamped_HW: NDArray[np.bool_]
    scale: float = 1.0
    shift: float = 0.0
    depth_scale: float = 1.0
    depth_shift: float = 0.0


def truth_mask(
    truth_HW: NDArray[np.floating[Any]],
    given_HW: NDArray[np.bool_] | None = None,
    *,
    max_depth: float | None = None,
) -> NDArray[np.bool_]:
    """The pixels that count: those of the given mask, else 0.001 < truth < 10000; with a cap also truth <= cap.

    A truth that is not finite and positive never counts.
    """
    known_HW = np.isfinite(truth_HW) & (truth_HW > 0)
    counted_HW = known_HW & given_HW if given_HW is not None else known_HW & (truth_HW > MIN_TRUTH)
    if given_HW is None:
        counted_HW &= truth_HW < MAX_TRUTH
    return np.asarray(counted_HW if max_depth is None else counted_HW & (truth_HW <= max_depth))


def fit_scale_shift(values_N: NDArray[np.floating[Any]], target_N: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Least squares: the scale and shift that bring ``values_N`` nearest to ``target_N``.

    Values that are all equal carry nothing: scale 0, shift the mean of the target.

    Raises:
        InputError: fewer than two pixels, or the numbers differ.
    """
    values_N, target_N = np.asarray(values_N, np.float64), np.asarray(target_N, np.float64)
    if values_N.shape != target_N.shape or values_N.size < 2:
        raise InputError(f"cannot align {values_N.size} values to {target_N.size}", expected="as many, at least two")
    centred_N = values_N - values_N.mean()
    spread = float(centred_N @ centred_N)
    # below the rounding of the mean, differences are not the estimate's
    if spread <= values_N.size * (4 * np.finfo(np.float64).eps * float(np.abs(values_N).max())) ** 2:
        return 0.0, float(target_N.mean())
    scale = float(centred_N @ (target_N - target_N.mean())) / spread
    return scale, float(target_N.mean() - scale * values_N.mean())


def align_affine(
    raw_HW: NDArray[np.floating[Any]],
    truth_HW: NDArray[np.floating[Any]],
    mask_HW: NDArray[np.bool_],
    *,
    max_depth: float | None = None,
) -> AlignedDepth:
    """The standard affine-invariant alignment (MiDaS, Ranftl et al., TPAMI 2022; Depth Anything).

    Raw disparity is fitted to 1/truth by scale and shift in the mask. Aligned inverse depth below 1/cap becomes 1/cap
    (``clamped_HW``), then depth is its inverse. The cap is ``max_depth``, or without one the largest truth in the mask.

    Raises:
        InputError: shapes differ, fewer than two pixels count, or ``max_depth`` is not positive.
        NonFiniteError: the estimate is not finite somewhere, or the truth in the mask.
    """
    _check(raw_HW, truth_HW, mask_HW)
    if max_depth is not None and not max_depth > 0:
        raise InputError(f"max depth is {max_depth}", expected="a positive number")
    inverse_HW, scale, shift = _aligned_inverse(raw_HW, truth_HW, mask_HW)
    least = 1.0 / (float(truth_HW[mask_HW].max()) if max_depth is None else max_depth)
    clamped_HW = inverse_HW < least
    return AlignedDepth(depth_HW=1.0 / np.maximum(inverse_HW, least), clamped_HW=clamped_HW, scale=scale, shift=shift)


def align_paper(
    raw_HW: NDArray[np.floating[Any]], truth_HW: NDArray[np.floating[Any]], mask_HW: NDArray[np.bool_]
) -> AlignedDepth:
    """The double alignment of Re-Depth Anything (arXiv 2512.17908), as its code does it.

    Raw disparity is fitted to 1/truth by scale and shift in the mask, and inverted; where it is not positive, depth
    becomes 0 (``clamped_HW``). Then that depth, zeros included, is fitted to the truth by scale and shift. There is no
    cap: a value just above 0 becomes a very large depth and pulls the second fit. The result may be negative.

    Raises:
        InputError: shapes differ, or fewer than two pixels count.
        NonFiniteError: the estimate is not finite somewhere, or the truth in the mask.
    """
    _check(raw_HW, truth_HW, mask_HW)
    inverse_HW, scale, shift = _aligned_inverse(raw_HW, truth_HW, mask_HW)
    positive_HW = inverse_HW > 0
    depth_HW = np.where(positive_HW, 1.0 / np.where(positive_HW, inverse_HW, 1.0), 0.0)
    depth_scale, depth_shift = fit_scale_shift(depth_HW[mask_HW], truth_HW[mask_HW])
    return AlignedDepth(
        depth_HW=depth_scale * depth_HW + depth_shift,
        clamped_HW=~positive_HW,
        scale=scale,
        shift=shift,
        depth_scale=depth_scale,
        depth_shift=depth_shift,
    )


def align(
    values_HW: NDArray[np.floating[Any]],
    truth_HW: NDArray[np.floating[Any]],
    mask_HW: NDArray[np.bool_],
    alignment: Alignment = "affine",
    *,
    quantity: Quantity = "inverse_depth",
    max_depth: float | None = None,
) -> AlignedDepth:
    """Bring an estimate to the unit of the truth.

    Metric depth is inverted first where an alignment is asked for; with ``"none"`` it stands as it is.

    Raises:
        UnknownNameError: no such alignment or quantity.
        InputError: see the alignments; also relative inverse depth without alignment, and depth that is not positive.
        NonFiniteError: the estimate is not finite somewhere, or the truth in the mask.
    """
    check_unit(quantity, alignment)
    if quantity == "depth":
        _check(values_HW, truth_HW, mask_HW)
        if not (values_HW > 0).all():
            raise InputError("the estimated depth has values that are not positive", expected="metres above 0")
    if alignment == "none":
        return AlignedDepth(depth_HW=values_HW.astype(np.float64), clamped_HW=np.zeros(values_HW.shape, np.bool_))
    raw_HW = 1.0 / values_HW.astype(np.float64) if quantity == "depth" else values_HW
    if alignment == "paper":
        return align_paper(raw_HW, truth_HW, mask_HW)
    return align_affine(raw_HW, truth_HW, mask_HW, max_depth=max_depth)


def check_unit(quantity: Quantity, alignment: Alignment) -> None:
    """Refuse what has no unit where nothing brings it to one.

    Raises:
        UnknownNameError: no such alignment or quantity.
        InputError: relative inverse depth without alignment.
    """
    if alignment not in get_args(Alignment):
        raise UnknownNameError("alignment", alignment, get_args(Alignment))
    if quantity not in get_args(Quantity):
        raise UnknownNameError("quantity", quantity, get_args(Quantity))
    if alignment == "none" and quantity != "depth":
        raise InputError(
            "relative inverse depth has no unit and cannot be measured without alignment",
            hint="Use --alignment affine or paper, or a model that gives metric depth",
        )


def depth_metrics(
    estimate: AlignedDepth, truth_HW: NDArray[np.floating[Any]], mask_HW: NDArray[np.bool_]
) -> DepthMetrics:
    """The metrics of one image; see the head of this module.

    Raises:
        InputError: shapes differ, no pixel counts, or a truth in the mask is not positive.
        NonFiniteError: estimate or truth is not finite in the mask.
    """
    _check(np.where(mask_HW, estimate.depth_HW, 0.0), truth_HW, mask_HW, least=1)
    p_N = estimate.depth_HW[mask_HW].astype(np.float64)
    g_N = truth_HW[mask_HW].astype(np.float64)
    difference_N = p_N - g_N
    floored_N = np.maximum(p_N, FLOOR)
    log_N = np.log(floored_N) - np.log(g_N)
    ratio_N = np.maximum(floored_N / g_N, g_N / floored_N)
    log_square = float((log_N**2).mean())
    return DepthMetrics(
        abs_rel=float((np.abs(difference_N) / g_N).mean()),
        sq_rel=float((difference_N**2 / g_N).mean()),
        rmse=float(np.sqrt((difference_N**2).mean())),
        rmse_log=float(np.sqrt(log_square)),
        silog=100.0 * float(log_N.std()),
        log10=float(np.abs(log_N).mean() / np.log(10)),
        delta1=_percent(ratio_N < 1.25),
        delta2=_percent(ratio_N < 1.25**2),
        delta3=_percent(ratio_N < 1.25**3),
        clamped=_percent(estimate.clamped_HW[mask_HW]),
        floored=_percent(p_N < FLOOR),
    )


def mean_depth_metrics(rows: Sequence[DepthMetrics]) -> DepthMetrics:
    """The mean over images, each weighing the same.

    Raises:
        InputError: ``rows`` is empty.
    """
    if not rows:
        raise InputError("no image to average over")
    return DepthMetrics(
        **{f.name: float(np.mean([getattr(row, f.name) for row in rows])) for f in fields(DepthMetrics)}
    )


def _aligned_inverse(
    raw_HW: NDArray[Any], truth_HW: NDArray[Any], mask_HW: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float, float]:
    scale, shift = fit_scale_shift(raw_HW[mask_HW], 1.0 / truth_HW[mask_HW].astype(np.float64))
    return scale * raw_HW.astype(np.float64) + shift, scale, shift


def _percent(which_N: NDArray[np.bool_]) -> float:
    return 100.0 * float(which_N.mean())


def _check(values_HW: NDArray[Any], truth_HW: NDArray[Any], mask_HW: NDArray[np.bool_], *, least: int = 2) -> None:
    for what, array in (("truth", truth_HW), ("mask", mask_HW)):
        if array.shape != values_HW.shape:
            raise InputError(f"{what} has shape {array.shape}", expected=f"that of the estimate, {values_HW.shape}")
    if mask_HW.dtype != np.bool_:
        raise InputError(f"the mask is {mask_HW.dtype}", expected="bool")
    for what, bad_HW in (
        ("the estimate", ~np.isfinite(values_HW)),
        ("the truth", ~np.isfinite(truth_HW) & mask_HW),
    ):
        if bad_HW.any():
            row, column = (int(i) for i in np.argwhere(bad_HW)[0])
            raise NonFiniteError(f"{what} is not finite at row {row}, column {column}", row=row, column=column)
    if int(mask_HW.sum()) < least:
        raise InputError(f"{int(mask_HW.sum())} pixels count", expected=f"at least {least} with truth in the mask")
    if not (truth_HW[mask_HW] > 0).all():
        raise InputError("the truth has depths in the mask that are not positive", expected="depth above 0")
