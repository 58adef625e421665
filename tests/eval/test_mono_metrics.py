"""Metrics and alignments of single-image depth: golden parity, worked by hand, and against a second implementation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.core.errors import InputError, NonFiniteError, UnknownNameError
from depthlight.core.tolerances import tolerance
from depthlight.eval.mono_metrics import (
    AlignedDepth,
    align,
    align_affine,
    align_paper,
    depth_metrics,
    fit_scale_shift,
    mean_depth_metrics,
    truth_mask,
)
from depthlight.eval.mono_shape import EDGE_RATIOS, angles, boundary_f1, shape_metrics

GOLDEN = np.load(Path(__file__).parents[1] / "refine" / "golden" / "relight.golden.npz", allow_pickle=False)
OFFICIAL = {  # ours: (official, factor)
    "abs_rel": ("abs_rel", 1),
    "sq_rel": ("sq_rel", 1),
    "rmse": ("rmse", 1),
    "rmse_log": ("rmse_log", 1),
    "silog": ("silog", 1),
    "log10": ("log_10", 1),
    "delta1": ("a1", 100),
    "delta2": ("a2", 100),
    "delta3": ("a3", 100),
}


def plain(depth_HW, clamped_HW=None):
    depth_HW = np.asarray(depth_HW, np.float64)
    return AlignedDepth(
        depth_HW=depth_HW, clamped_HW=np.zeros(depth_HW.shape, bool) if clamped_HW is None else clamped_HW
    )


def everywhere(array):
    return np.ones(np.shape(array), bool)


def scene(seed, height=9, width=13):
    """Truth, a raw disparity that is related to it, and a mask with holes."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 20, (height, width))
    raw = np.maximum(0, 3 / truth + 0.4 + rng.normal(0, 0.15, truth.shape))
    mask = rng.random(truth.shape) < 0.7
    mask[0, :2] = True
    return truth, raw, mask


# against the official code


@pytest.mark.parametrize("case", ["", "noisy_"])
def test_the_papers_double_alignment_equals_the_official_code(case):
    truth, mask = GOLDEN[f"{case}gt_depth"], GOLDEN[f"{case}mask"]
    aligned = align_paper(GOLDEN["raw_disparity"], truth, mask)
    assert np.abs(aligned.depth_HW - GOLDEN[f"{case}aligned_depth"]).max() <= tolerance("relight.depth")
    metrics = depth_metrics(aligned, truth, mask).to_dict()
    for ours, (official, factor) in OFFICIAL.items():
        assert abs(metrics[ours] / factor - GOLDEN[f"{case}metric_{official}"]) <= tolerance("relight.depth"), ours


def test_metrics_of_the_official_depth_equal_the_official_ones():
    aligned, mask = plain(GOLDEN["noisy_aligned_depth"]), GOLDEN["noisy_mask"]
    metrics = depth_metrics(aligned, GOLDEN["noisy_gt_depth"], mask).to_dict()
    for ours, (official, factor) in OFFICIAL.items():
        assert abs(metrics[ours] / factor - GOLDEN[f"noisy_metric_{official}"]) <= tolerance("relight.depth"), ours


# by hand


def test_metrics_by_hand():
    truth = np.array([[1.0, 2.0, 4.0, 99.0]])
    estimate = np.array([[1.0, 3.0, 2.0, 1.0]])
    mask = np.array([[True, True, True, False]])
    found = depth_metrics(plain(estimate), truth, mask)
    logs = [0.0, math.log(1.5), math.log(0.5)]
    squares, mean = sum(e * e for e in logs) / 3, sum(logs) / 3
    expected = {
        "abs_rel": (0 + 1 / 2 + 2 / 4) / 3,
        "sq_rel": (0 + 1 / 2 + 4 / 4) / 3,
        "rmse": math.sqrt((0 + 1 + 4) / 3),
        "rmse_log": math.sqrt(squares),
        "silog": 100 * math.sqrt(squares - mean * mean),
        "log10": (math.log10(1.5) + math.log10(2)) / 3,
        "delta1": 100 / 3,  # ratios 1, 1.5, 2 against 1.25, 1.5625, 1.953
        "delta2": 200 / 3,
        "delta3": 200 / 3,
        "clamped": 0.0,
        "floored": 0.0,
    }
    assert found.to_dict() == pytest.approx(expected, abs=tolerance("metrics"))


def test_fit_by_hand():
    assert fit_scale_shift(np.array([0.0, 1, 2]), np.array([1.0, 3, 5])) == pytest.approx((2, 1))
    assert fit_scale_shift(np.array([0.0, 1, 2]), np.array([1.0, 3, 2])) == pytest.approx((0.5, 1.5))
    assert fit_scale_shift(np.full(4, 0.3), np.array([1.0, 2, 3, 6])) == (0.0, 3.0)  # nothing to fit: the mean
    with pytest.raises(InputError, match="at least two"):
        fit_scale_shift(np.ones(1), np.ones(1))


def test_affine_alignment_by_hand():
    truth = np.array([[1.0, 2.0, 4.0, 8.0]])
    raw = 2 / truth + 3  # scale 1/2, shift −1.5
    raw[0, 3] = 0.0  # outside the mask; aligned to −1.5
    mask = np.array([[True, True, True, False]])
    found = align_affine(raw, truth, mask)
    assert (found.scale, found.shift) == pytest.approx((0.5, -1.5))
    assert found.depth_HW == pytest.approx(np.array([[1.0, 2.0, 4.0, 4.0]]))  # the cap: the largest truth in the mask
    assert found.clamped_HW.tolist() == [[False, False, False, True]]
    capped = align_affine(raw, truth, mask, max_depth=10)
    assert capped.depth_HW == pytest.approx(np.array([[1.0, 2.0, 4.0, 10.0]]))


def test_paper_alignment_by_hand():
    truth = np.array([[1.0, 1.0, 2.0, 2.0]])
    raw = np.array([[1.0, 1.0, 0.5, 0.5]])
    mask = everywhere(truth)
    exact = align_paper(raw, truth, mask)
    assert exact.depth_HW == pytest.approx(truth)
    assert (exact.scale, exact.shift, exact.depth_scale, exact.depth_shift) == pytest.approx((1, 0, 1, 0))
    # an outlier far below the fit: its inverse depth is negative, its depth 0, and then the second fit's shift
    raw = np.array([[1.0, 1.0, 0.5, 0.5, -9.0]])
    outside = align_paper(raw, np.append(truth, [[7.0]], 1), np.append(mask, [[False]], 1))
    assert outside.clamped_HW.tolist() == [[False, False, False, False, True]]
    assert outside.depth_HW[0, 4] == pytest.approx(outside.depth_shift)


def test_clamped_pixels_inside_the_mask_take_part_in_the_second_fit():
    truth = np.array([[1.0] * 5 + [100.0] * 6])
    raw = np.array([[3.0] * 5 + [2.0] * 5 + [1.0]])
    mask = everywhere(truth)
    found = align_paper(raw, truth, mask)
    inverse = found.scale * raw + found.shift
    assert (inverse <= 0).tolist() == found.clamped_HW.tolist()
    assert found.clamped_HW.any()
    depth = np.zeros_like(inverse)
    depth[inverse > 0] = 1 / inverse[inverse > 0]
    system = np.stack([depth.ravel(), np.ones(11)], 1)
    (scale, shift), *_ = np.linalg.lstsq(system, truth.ravel(), rcond=None)
    assert (found.depth_scale, found.depth_shift) == pytest.approx((scale, shift))
    assert depth_metrics(found, truth, mask).clamped == pytest.approx(100 * found.clamped_HW.mean())


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-4])
def test_values_near_and_below_zero_are_counted_and_floored_in_logs_only(value):
    truth, estimate = np.array([[2.0, 2.0]]), np.array([[2.0, value]])
    found = depth_metrics(plain(estimate), truth, everywhere(truth))
    assert found.floored == 50
    assert found.abs_rel == pytest.approx(abs(value - 2) / 2 / 2)  # as it is
    assert found.rmse == pytest.approx(math.sqrt((value - 2) ** 2 / 2))
    assert found.rmse_log == pytest.approx(math.sqrt(math.log(0.001 / 2) ** 2 / 2))
    assert found.delta3 == 50  # a negative estimate is never within the ratio


def test_affine_alignment_never_gives_depth_that_is_not_positive():
    truth, raw, mask = scene(3)
    found = align_affine(1 - raw, truth, mask)  # near and far swapped: the fit turns it round and says so
    assert found.scale < 0
    assert (found.depth_HW > 0).all()
    assert found.depth_HW[mask].max() <= truth[mask].max() * (1 + 1e-12)


def test_metric_depth_needs_no_alignment_and_relative_needs_one():
    truth, raw, mask = scene(4)
    assert align(truth + 1, truth, mask, "none", quantity="depth").depth_HW == pytest.approx(truth + 1)
    with pytest.raises(InputError, match="no unit"):
        align(raw, truth, mask, "none")
    as_depth = align(truth, truth, mask, "affine", quantity="depth")
    assert as_depth.depth_HW[mask] == pytest.approx(truth[mask])
    assert align(truth, truth, mask, "paper", quantity="depth").depth_HW == pytest.approx(truth)
    with pytest.raises(InputError, match="not positive"):
        align(truth - truth.min(), truth, mask, "none", quantity="depth")


def test_the_mask():
    truth = np.array([[0.0, np.nan, 5e-4, 1.0, 70.0, 2e4, -1.0, np.inf]])
    assert truth_mask(truth).tolist() == [[False, False, False, True, True, False, False, False]]
    assert truth_mask(truth, max_depth=50).tolist() == [[False, False, False, True, False, False, False, False]]
    given_mask = np.array([[True, True, True, False, True, True, True, True]])  # a file replaces the range, not sense
    assert truth_mask(truth, given_mask).tolist() == [[False, False, True, False, True, True, False, False]]


def test_what_cannot_be_measured_is_refused():
    truth, raw, mask = scene(5)
    with pytest.raises(InputError, match="shape"):
        align_affine(raw[1:], truth, mask)
    with pytest.raises(InputError, match="at least 2"):
        align_paper(raw, truth, np.zeros_like(mask))
    with pytest.raises(InputError, match="bool"):
        align_affine(raw, truth, mask.astype(np.uint8))
    with pytest.raises(InputError, match="max depth"):
        align_affine(raw, truth, mask, max_depth=0)
    with pytest.raises(NonFiniteError, match="row 0, column 1"):
        align_affine(np.where(np.arange(13) == 1, np.nan, raw), truth, mask)
    with pytest.raises(InputError, match="not positive"):
        depth_metrics(plain(truth), np.zeros_like(truth), mask)
    with pytest.raises(UnknownNameError, match="alignment"):
        align(raw, truth, mask, "median")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="quantity"):
        align(raw, truth, mask, quantity="disparity")  # type: ignore[arg-type]


# a second implementation: loops, and numpy's solver


def _second_fit(values, target):
    system = np.array([[v, 1.0] for v in values])
    return np.linalg.lstsq(system, np.array(target), rcond=None)[0]


def _second_metrics(estimate, truth):
    n = len(truth)
    floored = [max(p, 0.001) for p in estimate]
    logs = [math.log(p) - math.log(g) for p, g in zip(floored, truth, strict=True)]
    mean = math.fsum(logs) / n
    within = lambda k: 100 * sum(max(p / g, g / p) < 1.25**k for p, g in zip(floored, truth, strict=True)) / n  # noqa: E731
    pairs = list(zip(estimate, truth, strict=True))
    return {
        "abs_rel": math.fsum(abs(p - g) / g for p, g in pairs) / n,
        "sq_rel": math.fsum((p - g) ** 2 / g for p, g in pairs) / n,
        "rmse": math.sqrt(math.fsum((p - g) ** 2 for p, g in pairs) / n),
        "rmse_log": math.sqrt(math.fsum(e * e for e in logs) / n),
        "silog": 100 * math.sqrt(math.fsum((e - mean) ** 2 for e in logs) / n),
        "log10": math.fsum(abs(math.log10(p / g)) for p, g in zip(floored, truth, strict=True)) / n,
        "delta1": within(1),
        "delta2": within(2),
        "delta3": within(3),
        "floored": 100 * sum(p < 0.001 for p in estimate) / n,
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("how", ["affine", "paper"])
def test_equal_to_a_second_implementation(seed, how):
    truth, raw, mask = scene(seed)
    raw[raw < np.quantile(raw, 0.05)] = 0
    g, r = truth[mask].tolist(), raw[mask].tolist()
    scale, shift = _second_fit(r, [1 / v for v in g])
    inverse = [scale * v + shift for v in r]
    if how == "affine":
        expected = [1 / max(v, 1 / max(g)) for v in inverse]
    else:
        depth = [1 / v if v > 0 else 0.0 for v in inverse]
        second_scale, second_shift = _second_fit(depth, g)
        expected = [second_scale * v + second_shift for v in depth]
    aligned = align(raw, truth, mask, how)
    found = depth_metrics(aligned, truth, mask).to_dict()
    assert np.abs(aligned.depth_HW[mask] - expected).max() <= tolerance("metrics") * max(map(abs, expected))
    for name, value in _second_metrics(aligned.depth_HW[mask].tolist(), g).items():
        assert found[name] == pytest.approx(value, rel=tolerance("metrics"), abs=tolerance("metrics")), name


def _second_boundary_f1(estimate, truth, mask):
    height, width = truth.shape
    total = weights = 0.0
    for ratio in np.linspace(1.05, 1.25, 10):
        ours, true = set(), set()
        for row in range(height):
            for column in range(width):
                for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                    r, c = row + down, column + right
                    if not (0 <= r < height and 0 <= c < width and mask[row, column] and mask[r, c]):
                        continue
                    if estimate[r, c] / estimate[row, column] > ratio:
                        ours.add((row, column, r, c))
                    if truth[r, c] / truth[row, column] > ratio:
                        true.add((row, column, r, c))
        if not true:
            continue
        precision = len(ours & true) / len(ours) if ours else 0.0
        recall = len(ours & true) / len(true)
        total += ratio * (2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        weights += ratio
    return total / weights if weights else None


@pytest.mark.parametrize("seed", range(4))
def test_boundary_f1_equals_a_second_implementation(seed):
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.normal(0, 0.15, (8, 9)))
    estimate = truth * np.exp(rng.normal(0, 0.05, (8, 9)))
    mask = rng.random((8, 9)) < 0.8
    found = boundary_f1(estimate, truth, mask)
    assert found == pytest.approx(_second_boundary_f1(estimate, truth, mask), abs=tolerance("metrics"))
    assert 0 < found < 1


# edges and normals


def test_boundary_f1_by_hand():
    truth = np.ones((4, 6))
    truth[:, 3:] = 2
    mask = everywhere(truth)
    assert boundary_f1(truth, truth, mask) == 1
    assert boundary_f1(5 * truth, truth, mask) == 1  # scale does not matter
    assert boundary_f1(np.ones_like(truth), truth, mask) == 0  # no edge found
    assert boundary_f1(truth, np.ones_like(truth), mask) is None  # no edge to find
    assert boundary_f1(1 / truth, truth, mask) == 0  # the wrong side is in front
    moved = np.ones((4, 6))
    moved[:, 4:] = 2
    assert boundary_f1(moved, truth, mask) == 0
    half = np.where(np.arange(4)[:, None] < 2, truth, 1.0)
    # in the upper half the edge is right, below there is none: precision 2/4 (its own lower rim counts), recall 2/4
    rim = 3  # the columns where the half ends
    assert boundary_f1(half, truth, mask) == pytest.approx(2 * 2 / (2 + rim + 4))
    below = truth.copy()
    below[:, :3] = -1  # no depth: counts as 0, so what is behind is infinitely farther
    assert boundary_f1(below, truth, mask) == 1


def test_boundary_f1_weighs_the_thresholds_the_truth_has():
    truth = np.array([[1.0, 1.1, 1.1, 1.1]])  # an edge for ratios below 1.1 only
    estimate = np.array([[1.0, 1.06, 1.06, 1.06]])
    mask = everywhere(truth)
    present = [ratio for ratio in EDGE_RATIOS if ratio < 1.1]
    right = [ratio for ratio in EDGE_RATIOS if ratio < 1.06]
    assert boundary_f1(estimate, truth, mask) == pytest.approx(sum(right) / sum(present))


def test_angles_are_exact_for_small_and_large_ones():
    axis = np.array([[0.0, 0, 1]] * 4)
    degrees = np.array([0.0, 1e-6, 90, 180])
    turned = np.stack([np.sin(np.radians(degrees)), np.zeros(4), np.cos(np.radians(degrees))], -1)
    assert angles(turned, axis) == pytest.approx(degrees, abs=1e-12)


def test_normal_errors_by_hand():
    intrinsics = (50.0, 50.0, 4.0, 3.0)
    columns = np.arange(9.0)
    flat = np.full((7, 9), 2.0)
    tilted = np.broadcast_to(1 / (0.5 - 0.5 * (columns - 4) / 50), (7, 9))  # the plane z − x = 2: 45°
    found = shape_metrics(tilted, flat, everywhere(flat), intrinsics)
    assert found.normal_mean == pytest.approx(45)
    assert found.normal_median == pytest.approx(45)
    half = math.sqrt(0.5)
    assert found.normal_mse == pytest.approx((half**2 + (1 - half) ** 2) / 3)
    assert found.boundary_f1 is None
    assert shape_metrics(7 * tilted, flat, everywhere(flat), intrinsics).normal_mean == pytest.approx(45)


def test_normals_count_only_where_the_truth_has_its_neighbours():
    flat = np.full((5, 5), 2.0)
    mask = np.zeros((5, 5), bool)
    mask[2, 1:4] = mask[1:4, 2] = True  # one cross: one normal, in its middle
    estimate = flat.copy()
    estimate[0, 0] = 50  # far from the cross
    assert shape_metrics(estimate, flat, mask).normal_mean == pytest.approx(0, abs=1e-9)
    estimate[2, 3] = 0  # no depth in the stencil: the normal faces away, and the pixel still counts
    assert shape_metrics(estimate, flat, mask).normal_mean == pytest.approx(180)
    mask[2, 2] = False
    assert shape_metrics(estimate, flat, mask).normal_mean is None


# properties


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), gain=st.floats(0.01, 100), offset=st.floats(-5, 5))
@pytest.mark.parametrize("how", ["affine", "paper"])
def test_scale_and_shift_of_the_estimate_do_not_matter(how, seed, gain, offset):
    truth, raw, mask = scene(seed)
    first = depth_metrics(align(raw, truth, mask, how), truth, mask).to_dict()
    second = depth_metrics(align(gain * raw + offset, truth, mask, how), truth, mask).to_dict()
    assert first == pytest.approx(second, rel=1e-5, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), unit=st.floats(0.1, 10))
def test_the_unit_of_the_truth_does_not_matter_for_relative_metrics(seed, unit):
    truth, raw, mask = scene(seed)
    first = depth_metrics(align_affine(raw, truth, mask), truth, mask)
    second = depth_metrics(align_affine(raw, unit * truth, mask), unit * truth, mask)
    for name in ("abs_rel", "rmse_log", "silog", "log10"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-9), name
    assert second.rmse == pytest.approx(unit * first.rmse, rel=1e-9)
    assert second.sq_rel == pytest.approx(unit * first.sq_rel, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize("how", ["affine", "paper"])
def test_order_and_what_lies_outside_the_mask_do_not_matter(how, seed):
    truth, raw, mask = scene(seed)
    first = depth_metrics(align(raw, truth, mask, how), truth, mask).to_dict()
    other = np.where(mask, raw, 123.0)
    order = np.random.default_rng(seed).permutation(raw.size)
    shuffled = [values.ravel()[order].reshape(raw.shape) for values in (other, np.where(mask, truth, np.nan), mask)]
    second = depth_metrics(align(shuffled[0], shuffled[1], shuffled[2], how), shuffled[1], shuffled[2]).to_dict()
    assert first == pytest.approx(second, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10), shift=st.floats(0, 3))
@pytest.mark.parametrize("how", ["affine", "paper"])
def test_a_perfect_estimate_has_no_error(how, seed, scale, shift):
    truth, _, mask = scene(seed)
    found = depth_metrics(align(scale / truth + shift, truth, mask, how), truth, mask)
    assert found.abs_rel < 1e-9
    assert found.delta1 == 100
    shape = shape_metrics(align(scale / truth + shift, truth, mask, how).depth_HW, truth, mask)
    assert shape.boundary_f1 is None or shape.boundary_f1 > 0.99


def test_mean_over_images():
    truth, raw, mask = scene(1)
    rows = [depth_metrics(align(raw**power, truth, mask), truth, mask) for power in (1, 2)]
    assert mean_depth_metrics(rows).abs_rel == pytest.approx((rows[0].abs_rel + rows[1].abs_rel) / 2)
    with pytest.raises(InputError):
        mean_depth_metrics([])
