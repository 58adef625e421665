from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from depthlight.core.errors import ConfigError, InputError, LimitError, UnknownNameError
from depthlight.infer.sgbm import MODES, SgbmConfig, SgbmMatcher, SgbmOracle, fill_holes, load_sgbm, truth_range


def shifted_pair(shift: int, height: int = 40, width: int = 120) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A random texture seen with one disparity everywhere."""
    texture = np.random.default_rng(3).integers(0, 256, (height, width + shift, 3), dtype=np.uint8)
    return texture[:, :width], texture[:, shift:]


def fill_by_the_book(disparity_HW: NDArray[np.float32], known_HW: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The rule of fill_holes, one pixel at a time."""
    height, width = disparity_HW.shape
    rows: list[list[float] | None] = []
    for row in range(height):
        columns = [column for column in range(width) if known_HW[row, column]]
        if not columns:
            rows.append(None)
            continue
        values = []
        for column in range(width):
            left = [c for c in columns if c <= column][-1:]
            right = [c for c in columns if c >= column][:1]
            values.append(min(disparity_HW[row, c] for c in left + right))
        rows.append(values)
    for row in range(height):
        if rows[row] is None:
            donors = [r for r in range(row - 1, -1, -1) if known_HW[r].any()] or [
                r for r in range(row + 1, height) if known_HW[r].any()
            ]
            rows[row] = rows[donors[0]] if donors else [0.0] * width
    return np.array(rows, np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_filling_follows_the_rule(height: int, width: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    disparity_HW = rng.uniform(1, 90, (height, width)).astype(np.float32)
    known_HW = rng.random((height, width)) < share
    filled_HW = fill_holes(disparity_HW, known_HW)
    np.testing.assert_array_equal(filled_HW, fill_by_the_book(disparity_HW, known_HW))
    assert filled_HW.dtype == np.float32


def test_a_hole_takes_the_background() -> None:
    disparity_HW = np.array([[0, 9, 0, 0, 4, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    expected = [[9, 9, 4, 4, 4, 4]] * 2
    np.testing.assert_array_equal(fill_holes(disparity_HW, disparity_HW > 0), expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_known_shift_is_found(mode: str) -> None:
    left, right = shifted_pair(7)
    prediction = SgbmMatcher(SgbmConfig(mode=mode)).predict(left, right, max_disp=32)
    inner = np.s_[5:-5, 40:-5]
    assert np.abs(prediction.disparity[inner] - 7).max() <= 0.25
    assert prediction.density > 0.8
    assert prediction.valid[inner].all()
    assert prediction.saturated == 0


def test_confidence_is_one_where_estimated_and_zero_where_filled() -> None:
    left, right = shifted_pair(7)
    right = right.copy()
    right[:, 50:80] = 0  # nothing to match there
    prediction = SgbmMatcher().predict(left, right, max_disp=32)
    estimated = prediction.estimated
    np.testing.assert_array_equal(prediction.confidence, estimated.astype(np.float32))
    assert prediction.density == pytest.approx(estimated.mean())
    assert 0 < prediction.density < 1
    assert not (prediction.valid & ~estimated).any()
    assert prediction.disparity.dtype == np.float32
    assert np.isfinite(prediction.disparity).all()


def test_the_range_limit_is_counted_and_not_valid() -> None:
    left, right = shifted_pair(30)
    prediction = SgbmMatcher().predict(left, right, max_disp=32)
    assert prediction.saturated > 0.3
    assert not (prediction.valid & (prediction.disparity >= 30)).any()
    assert SgbmMatcher().predict(left, right, max_disp=64).saturated < 0.05


def test_batches_and_ranges_are_those_of_every_matcher() -> None:
    matcher = SgbmMatcher()
    pairs = [shifted_pair(3), shifted_pair(5, 20, 60)]
    for found, pair in zip(matcher.predict_batch(pairs, max_disp=32), pairs, strict=True):
        np.testing.assert_array_equal(found.disparity, matcher.predict(*pair, max_disp=32).disparity)
        assert found.model == matcher.identity
    with pytest.raises(InputError, match="left-right"):
        matcher.predict(*pairs[0], left_right=True)
    with pytest.raises(InputError, match="left-right"):
        matcher.predict_batch(pairs, left_right=True)
    matcher.check_range(None)
    with pytest.raises(LimitError, match="2032"):
        matcher.check_range(4000)
    with pytest.raises(InputError, match="ground truth"):
        load_sgbm("sgbm-oracle").check_range(None)


def test_identity_and_range_are_stated() -> None:
    left, right = shifted_pair(3)
    prediction = SgbmMatcher().predict(left, right, max_disp=20)
    assert (prediction.model.name, prediction.model.weights_sha256, prediction.max_disp) == ("sgbm", None, 32)
    assert SgbmMatcher().predict(left, right).max_disp == 192


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (5, 2), (3, 40), (1, 400)])
def test_any_size_is_dense_and_finite(mode: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2))
    prediction = SgbmMatcher(SgbmConfig(mode=mode)).predict(left, right)
    assert prediction.disparity.shape == prediction.confidence.shape == prediction.valid.shape == size
    assert np.isfinite(prediction.disparity).all()
    assert (prediction.disparity >= 0).all()


def test_a_constant_pair_has_no_estimate_and_no_confidence() -> None:
    gray = np.full((30, 50, 3), 99, np.uint8)
    prediction = SgbmMatcher().predict(gray, gray)
    assert prediction.density == 0
    assert not prediction.disparity.any()
    assert not prediction.confidence.any()


@pytest.mark.parametrize("mode", MODES)
def test_threads_change_nothing(mode: str) -> None:
    rng = np.random.default_rng(1)
    left, right = shifted_pair(5, 64, 160)
    right = (right + rng.integers(0, 20, right.shape)).clip(0, 255).astype(np.uint8)
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            found.append(SgbmMatcher(SgbmConfig(mode=mode)).predict(left, right, max_disp=64).disparity)
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_channels_order_does_not_matter_and_gray_is_taken() -> None:
    left, right = shifted_pair(5)
    rgb = SgbmMatcher().predict(left, right, max_disp=32).disparity
    bgr = SgbmMatcher().predict(left[..., ::-1].copy(), right[..., ::-1].copy(), max_disp=32).disparity
    np.testing.assert_array_equal(rgb, bgr)
    assert SgbmMatcher().predict(left[..., 0], right[..., 0], max_disp=32).disparity.shape == left.shape[:2]


def test_the_oracle_range_lies_above_the_truth() -> None:
    truth_HW = np.array([[3.0, 15.99, 300.0]], np.float32)
    valid_HW = np.array([[True, True, False]])
    assert truth_range(truth_HW, valid_HW) == 16
    assert truth_range(truth_HW + np.float32(0.01), valid_HW) == 32
    with pytest.raises(InputError, match="from the truth"):
        truth_range(truth_HW, np.zeros_like(valid_HW))


def test_the_oracle_needs_the_truth() -> None:
    left, right = shifted_pair(20)
    truth_HW = np.full(left.shape[:2], 20, np.float32)
    oracle = load_sgbm("sgbm-oracle")
    assert isinstance(oracle, SgbmOracle)
    prediction = oracle.predict_with_truth(left, right, truth_HW, np.ones_like(truth_HW, bool))
    assert (prediction.max_disp, prediction.model.name) == (32, "sgbm-oracle")
    with pytest.raises(InputError, match="ground truth"):
        oracle.predict(left, right)


def test_bad_arguments_are_refused() -> None:
    left, right = shifted_pair(3)
    matcher = SgbmMatcher()
    with pytest.raises(InputError, match="left is 120×40 and right is 119×40"):
        matcher.predict(left, right[:, 1:])
    with pytest.raises(InputError, match="max_disp is 0"):
        matcher.predict(left, right, max_disp=0)
    with pytest.raises(LimitError, match="2032"):
        matcher.predict(left, right, max_disp=4000)
    with pytest.raises(UnknownNameError, match="'HH'"):
        SgbmConfig(mode="H")
    with pytest.raises(ConfigError, match="block_size"):
        SgbmConfig(block_size=4)
    with pytest.raises(ConfigError, match="penalties"):
        SgbmConfig(p1=2400, p2=600)
    with pytest.raises(UnknownNameError):
        load_sgbm("sgbm-hh")


def test_a_volume_beyond_the_limit_is_refused_before_it_is_allocated() -> None:
    tall = np.zeros((40_000, 300, 3), np.uint8)
    with pytest.raises(LimitError, match="GiB"):
        SgbmMatcher().predict(tall, tall)
