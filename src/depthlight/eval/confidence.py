"""How well a confidence map ranks the errors: AUSE, and bad2 after dropping the least confident pixels.

Sparsification: keep the k most confident of n pixels and take the mean error of those, for k = 1 … n. The oracle keeps
the k pixels of smallest error instead. The sparsification error is the difference of the two curves, divided by the
mean error of all pixels (EPE); AUSE is its mean over all k, that is the area under it over the kept share 0 … 1
(Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", ECCV 2018, who normalise the same
way). 0 is a perfect ranking; a constant map scores what a random ranking does.

Pixels of equal confidence have no order: every figure is the expectation over their random order, so it depends
neither on the layout of the image nor on the sorting algorithm. All in float64.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, NonFiniteError

KEPT_SHARE = 0.8
BAD_PIXELS = 2.0


@dataclass(frozen=True, kw_only=True)
class ConfidenceMetrics:
    """``ause`` without unit, ≥ 0; ``bad2_kept80`` in percent (0–100), over the 80 % most confident pixels."""

    ause: float
    bad2_kept80: float

    def to_dict(self) -> dict[str, float]:
        """Plain mapping, in the order of the fields."""
        return asdict(self)


def ause(error_N: NDArray[np.floating], confidence_N: NDArray[np.floating]) -> float:
    """Area under the sparsification error curve of EPE, normalised by EPE; 0 where there is no error at all.

    Raises:
        InputError: no pixel, or the lengths differ.
        NonFiniteError: a value is NaN or infinite.
    """
    _check(error_N, confidence_N)
    exact_N = error_N.astype(np.float64)
    epe = float(exact_N.mean())
    if epe == 0.0:
        return 0.0
    kept_N = np.arange(1, exact_N.size + 1)
    curve_N = np.cumsum(_most_confident_first(exact_N, confidence_N)) / kept_N
    oracle_N = np.cumsum(np.sort(exact_N)) / kept_N
    return max(0.0, float((curve_N - oracle_N).mean()) / epe)


def bad_of_kept(
    error_N: NDArray[np.floating],
    confidence_N: NDArray[np.floating],
    *,
    share: float = KEPT_SHARE,
    threshold: float = BAD_PIXELS,
) -> float:
    """Percent (0–100) of errors above ``threshold`` px among the ``share`` of pixels with the highest confidence.

    The number kept is ``share`` × n rounded up, at least 1.

    Raises:
        InputError: no pixel, the lengths differ, or ``share`` is not in (0, 1].
        NonFiniteError: a value is NaN or infinite.
    """
    _check(error_N, confidence_N)
    if not 0.0 < share <= 1.0:
        raise InputError(f"kept share is {share}", expected="a number above 0 and at most 1")
    kept = int(np.ceil(round(share * error_N.size, 6)))
    bad_N = (error_N > threshold).astype(np.float64)
    return 100.0 * float(_most_confident_first(bad_N, confidence_N)[:kept].sum()) / kept


def confidence_metrics(error_N: NDArray[np.floating], confidence_N: NDArray[np.floating]) -> ConfidenceMetrics:
    """Both figures of one image; errors as in :func:`ause`."""
    return ConfidenceMetrics(ause=ause(error_N, confidence_N), bad2_kept80=bad_of_kept(error_N, confidence_N))


def relative_drop(before: float, after: float) -> float | None:
    """How much lower ``after`` is than ``before``, in percent; ``None`` where ``before`` is 0."""
    return None if before == 0.0 else 100.0 * (before - after) / before


def _most_confident_first(values_N: NDArray[np.float64], confidence_N: NDArray[np.floating]) -> NDArray[np.float64]:
    """``values_N`` by falling confidence, each replaced by the mean over the pixels of the same confidence."""
    _, group_N, count_G = np.unique(-confidence_N.astype(np.float64), return_inverse=True, return_counts=True)
    mean_G = np.bincount(group_N, weights=values_N) / count_G
    return np.repeat(mean_G, count_G)


def _check(error_N: NDArray[np.floating], confidence_N: NDArray[np.floating]) -> None:
    if error_N.ndim != 1 or error_N.shape != confidence_N.shape:
        raise InputError(
            f"errors have shape {error_N.shape} and confidences {confidence_N.shape}",
            expected="two vectors of one length",
        )
    if error_N.size == 0:
        raise InputError("no pixel to rank", expected="at least one")
    for what, values_N in (("error", error_N), ("confidence", confidence_N)):
        if not np.isfinite(values_N).all():
            raise NonFiniteError(f"{what} is not finite at entry {int(np.flatnonzero(~np.isfinite(values_N))[0])}")
