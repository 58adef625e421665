"""Errors of a disparity map against the truth: EPE, bad-N, D1, density.

Definitions, over the ground-truth pixels of a mask, with e = |estimate - truth| in px and g = truth in px:

- EPE: mean of e (Middlebury calls it avgerr).
- badN: share of e > N (Scharstein & Szeliski, IJCV 2002).
- D1: share of e > 3 and e > 0.05 g (KITTI 2015; Menze & Geiger, CVPR 2015).
- density: share of the pixels that had an estimate of their own before holes were filled.

Shares are percentages, 0–100. Everything is computed in float64. Shapes: H, W are the image size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, NonFiniteError

D1_PIXELS = 3.0
D1_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class StereoMetrics:
    """EPE in px; the others in percent (0–100)."""

    epe: float
    bad1: float
    bad2: float
    bad3: float
    d1: float
    density: float

    def to_dict(self) -> dict[str, float]:
        """Plain mapping, in the order of the fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ErrorSums:
    """What is added up over pixels; the sum of two of them is that of the two images together."""

    pixels: int = 0
    error: float = 0.0
    bad1: int = 0
    bad2: int = 0
    bad3: int = 0
    d1: int = 0
    estimated: int = 0

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def metrics(self) -> StereoMetrics:
        """The means.

        Raises:
            InputError: there is no pixel to average over.
        """
        if self.pixels == 0:
            raise InputError("no ground-truth pixel to measure", expected="at least one pixel with truth in the mask")
        shares = {name: 100.0 * getattr(self, name) / self.pixels for name in ("bad1", "bad2", "bad3", "d1")}
        return StereoMetrics(epe=self.error / self.pixels, density=100.0 * self.estimated / self.pixels, **shares)


def error_sums(
    disparity_HW: NDArray[np.floating],
    truth_HW: NDArray[np.floating],
    mask_HW: NDArray[np.bool_],
    estimated_HW: NDArray[np.bool_] | None = None,
) -> ErrorSums:
    """Add up the errors of ``disparity_HW`` over ``mask_HW``.

    Args:
        disparity_HW: the estimate, px.
        truth_HW: the truth, px; read only inside the mask.
        mask_HW: which pixels count.
        estimated_HW: where the matcher had an estimate before filling; ``None`` is everywhere.

    Raises:
        InputError: the shapes differ.
        NonFiniteError: estimate or truth is NaN or infinite at a pixel that counts.
    """
    for what, array in (("truth", truth_HW), ("mask", mask_HW), ("estimated mask", estimated_HW)):
        if array is not None and array.shape != disparity_HW.shape:
            raise InputError(f"{what} has shape {array.shape}", expected=f"that of the disparity, {disparity_HW.shape}")
    _check_finite("disparity", disparity_HW, mask_HW)
    _check_finite("ground truth", truth_HW, mask_HW)
    truth_N = truth_HW[mask_HW].astype(np.float64)
    error_N = np.abs(disparity_HW[mask_HW].astype(np.float64) - truth_N)
    return ErrorSums(
        pixels=error_N.size,
        error=float(error_N.sum()),
        bad1=int((error_N > 1).sum()),
        bad2=int((error_N > 2).sum()),
        bad3=int((error_N > 3).sum()),
        d1=int(((error_N > D1_PIXELS) & (error_N > D1_SHARE * truth_N)).sum()),
        estimated=error_N.size if estimated_HW is None else int(estimated_HW[mask_HW].sum()),
    )


def stereo_metrics(
    disparity_HW: NDArray[np.floating],
    truth_HW: NDArray[np.floating],
    mask_HW: NDArray[np.bool_],
    estimated_HW: NDArray[np.bool_] | None = None,
) -> StereoMetrics:
    """The metrics of one image; arguments and errors as in :func:`error_sums`, and at least one pixel must count."""
    return error_sums(disparity_HW, truth_HW, mask_HW, estimated_HW).metrics()


def mean_metrics(rows: list[StereoMetrics]) -> StereoMetrics:
    """The mean over images, each weighing the same.

    Raises:
        InputError: ``rows`` is empty.
    """
    if not rows:
        raise InputError("no image to average over")
    return StereoMetrics(
        **{f.name: float(np.mean([getattr(row, f.name) for row in rows])) for f in fields(StereoMetrics)}
    )


def _check_finite(what: str, values_HW: NDArray[np.floating], mask_HW: NDArray[np.bool_]) -> None:
    bad_HW = mask_HW & ~np.isfinite(values_HW)
    if bad_HW.any():
        row, column = (int(i) for i in np.argwhere(bad_HW)[0])
        raise NonFiniteError(f"{what} is not finite at row {row}, column {column}", row=row, column=column)
