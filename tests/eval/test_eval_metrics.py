"""X16: the metrics against hand-worked fixtures, a second implementation, and properties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from depthlight.core.errors import InputError, NonFiniteError
from depthlight.core.tolerances import tolerance
from depthlight.eval.metrics import ErrorSums, StereoMetrics, error_sums, mean_metrics, stereo_metrics

CLOSE = tolerance("metrics")
Maps = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]


@st.composite
def maps(draw: st.DrawFn) -> Maps:
    """Estimate, truth, a mask with at least one pixel, and where there was an estimate."""
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth_HW = rng.uniform(0, 250, (height, width)).astype(np.float32)
    # errors that often sit exactly on a threshold
    error_HW = rng.choice([0, 0.25, 1, 1.5, 2, 3, 3.5, 40], (height, width)) * rng.choice([-1, 1], (height, width))
    mask_HW = rng.random((height, width)) < 0.7
    mask_HW.flat[rng.integers(mask_HW.size)] = True
    return (truth_HW + error_HW).astype(np.float32), truth_HW, mask_HW, rng.random((height, width)) < 0.8


def by_the_book(
    disparity_HW: NDArray[np.float32],
    truth_HW: NDArray[np.float32],
    mask_HW: NDArray[np.bool_],
    estimated_HW: NDArray[np.bool_],
) -> dict[str, float]:
    """A second implementation: one pixel at a time, in exact rational arithmetic."""
    total = {"epe": Fraction(0), "bad1": 0, "bad2": 0, "bad3": 0, "d1": 0, "density": 0}
    count = 0
    for row, column in zip(*np.nonzero(mask_HW), strict=True):
        truth = Fraction(float(truth_HW[row, column]))
        error = abs(Fraction(float(disparity_HW[row, column])) - truth)
        count += 1
        total["epe"] += error
        for limit in (1, 2, 3):
            total[f"bad{limit}"] += error > limit
        total["d1"] += error > 3 and error * 20 > truth
        total["density"] += bool(estimated_HW[row, column])
    return {key: float(Fraction(value) / count * (1 if key == "epe" else 100)) for key, value in total.items()}


def test_a_worked_example() -> None:
    truth_HW = np.array([[10, 10, 10, 100], [100, 7, 0, 50]], np.float32)
    # errors:              0   1   1.5  4      6    3   9  unknown
    disparity_HW = np.array([[10, 11, 11.5, 104], [94, 10, 9, 1]], np.float32)
    mask_HW = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
    estimated_HW = np.array([[1, 1, 1, 0], [1, 1, 0, 1]], bool)
    found = stereo_metrics(disparity_HW, truth_HW, mask_HW, estimated_HW)
    seventh = 100 / 7
    # 4 px at 100 px are bad3 but within 5 %; an error of exactly N px is not above N
    expected = StereoMetrics(
        epe=24.5 / 7, bad1=5 * seventh, bad2=4 * seventh, bad3=3 * seventh, d1=2 * seventh, density=5 * seventh
    )
    assert found.to_dict() == pytest.approx(expected.to_dict(), abs=CLOSE)


def test_errors_are_taken_in_float64() -> None:
    truth_HW = np.array([[1 + 2.0**-23]], np.float32)
    disparity_HW = np.array([[2.0**-23 - 2.0**-26]], np.float32)
    assert (truth_HW - disparity_HW).item() == 1.0  # float32 rounds an error of 1 + 2⁻²⁶ px down to the threshold
    assert stereo_metrics(disparity_HW, truth_HW, np.ones((1, 1), bool)).bad1 == 100.0


@settings(max_examples=60, deadline=None)
@given(maps())
def test_agrees_with_a_second_implementation(case: Maps) -> None:
    assert stereo_metrics(*case).to_dict() == pytest.approx(by_the_book(*case), rel=CLOSE, abs=CLOSE)


@settings(max_examples=60, deadline=None)
@given(maps(), st.integers(0, 2**32 - 1))
def test_the_order_of_pixels_does_not_matter(case: Maps, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(case[0].size)
    shuffled = [a.ravel()[order].reshape(a.shape) for a in case]
    assert stereo_metrics(*shuffled).to_dict() == pytest.approx(stereo_metrics(*case).to_dict(), rel=CLOSE, abs=CLOSE)


@settings(max_examples=60, deadline=None)
@given(maps())
def test_pixels_outside_the_mask_do_not_matter(case: Maps) -> None:
    disparity_HW, truth_HW, mask_HW, estimated_HW = (a.copy() for a in case)
    disparity_HW[~mask_HW], truth_HW[~mask_HW] = np.nan, np.inf
    estimated_HW[~mask_HW] ^= True
    assert error_sums(disparity_HW, truth_HW, mask_HW, estimated_HW) == error_sums(*case)


@settings(max_examples=60, deadline=None)
@given(maps())
def test_the_parts_of_a_mask_add_up(case: Maps) -> None:
    disparity_HW, truth_HW, mask_HW, estimated_HW = case
    left_HW = mask_HW & (np.arange(mask_HW.shape[1]) % 2 == 0)
    parts = [error_sums(disparity_HW, truth_HW, part, estimated_HW) for part in (left_HW, mask_HW & ~left_HW)]
    together = sum(parts, ErrorSums()).metrics()
    assert together.to_dict() == pytest.approx(stereo_metrics(*case).to_dict(), rel=CLOSE, abs=CLOSE)


@settings(max_examples=60, deadline=None)
@given(maps())
def test_doubling_all_disparities_doubles_the_error(case: Maps) -> None:
    disparity_HW, truth_HW, mask_HW, _ = case
    once, twice = (
        stereo_metrics(disparity_HW, truth_HW, mask_HW),
        stereo_metrics(disparity_HW * 2, truth_HW * 2, mask_HW),
    )
    assert twice.epe == pytest.approx(2 * once.epe, rel=CLOSE, abs=CLOSE)
    assert twice.bad2 == pytest.approx(once.bad1, abs=CLOSE)


@settings(max_examples=60, deadline=None)
@given(maps())
def test_the_truth_has_no_error_and_percentages_are_percentages(case: Maps) -> None:
    _, truth_HW, mask_HW, _ = case
    assert set(stereo_metrics(truth_HW, truth_HW, mask_HW).to_dict().values()) == {0.0, 100.0}  # 100: density
    found = stereo_metrics(*case)
    assert 100 >= found.bad1 >= found.bad2 >= found.bad3 >= found.d1 >= 0


def test_mean_weighs_images_alike() -> None:
    rows = [
        StereoMetrics(epe=1, bad1=10, bad2=6, bad3=4, d1=2, density=100),
        StereoMetrics(epe=3, bad1=20, bad2=8, bad3=4, d1=0, density=50),
    ]
    assert mean_metrics(rows) == StereoMetrics(epe=2, bad1=15, bad2=7, bad3=4, d1=1, density=75)


def test_a_non_finite_estimate_is_refused_with_its_position() -> None:
    disparity_HW = np.zeros((3, 4), np.float32)
    disparity_HW[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match="row 2, column 1"):
        stereo_metrics(disparity_HW, np.zeros((3, 4), np.float32), np.ones((3, 4), bool))


def test_wrong_shapes_and_empty_masks_are_refused() -> None:
    zeros_HW = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="truth has shape"):
        stereo_metrics(zeros_HW, zeros_HW.T, np.ones((2, 3), bool))
    with pytest.raises(InputError, match="no ground-truth pixel"):
        stereo_metrics(zeros_HW, zeros_HW, np.zeros((2, 3), bool))
    with pytest.raises(InputError, match="no image"):
        mean_metrics([])
