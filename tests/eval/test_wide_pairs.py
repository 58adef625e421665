"""Scenes outside of the usual range, and what the search of them loses against the same scene within it."""

from __future__ import annotations

import numpy as np
import pytest

import depthlight as dl
from depthlight.core.tolerances import tolerance
from depthlight.eval.wide_pairs import moved_pair, thin_pair


@pytest.fixture(scope="module")
def model():
    return dl.load(threads=1)


@pytest.fixture(scope="module")
def scene():
    return thin_pair(0, 0)


def error(found, pair, counted_HW):
    return float(np.abs(found.disparity - pair.disparity_HW)[counted_HW].mean())


def test_the_thin_things_move_and_the_rest_stays(scene):
    far = thin_pair(0, 200)
    both = scene.thin_HW & far.thin_HW
    assert both.mean() > 0.02
    np.testing.assert_allclose(far.disparity_HW[both], scene.disparity_HW[both] + 200, atol=1e-3)
    same = far.disparity_HW == scene.disparity_HW
    changed = (far.left_HW3 != scene.left_HW3).any(axis=2) & same
    assert changed.mean() < 0.01  # edges, where surfaces blend
    assert far.disparity_HW[far.thin_HW].min() >= 200


@pytest.mark.parametrize("by", [-24, 0, 288])
def test_a_moved_pair_keeps_its_matches(scene, by):
    pair = moved_pair(scene, by)
    rows, columns = np.nonzero(pair.visible_HW)
    match = np.rint(columns - pair.disparity_HW[rows, columns]).astype(int)
    assert match.min() >= 0
    assert match.max() < pair.right_HW3.shape[1]
    difference = np.abs(pair.left_HW3[rows, columns].astype(int) - pair.right_HW3[rows, match])
    assert np.median(difference) <= 12


@pytest.mark.parametrize(("by", "low", "high"), [(-24, -24, 160), (288, 288, 480)])
def test_where_a_window_holds_the_range_nothing_is_lost(model, scene, by, low, high):
    pair = moved_pair(scene, by)
    found = model.predict(pair.left_HW3, pair.right_HW3, min_disp=low, max_disp=high)
    first = max(0, -by)
    width = pair.disparity_HW.shape[1]
    left, right = (view[:, first : first + width] for view in (scene.left_HW3, scene.right_HW3))
    plain = model.predict(left, right)
    counted = pair.visible_HW & (np.arange(width) >= pair.disparity_HW - by)
    within = float(np.abs(plain.disparity - scene.disparity_HW[:, first : first + width])[counted].mean())
    assert error(found, pair, counted) <= tolerance("range.ratio") * within


@pytest.mark.slow
def test_a_wide_range_beats_half_size(model):
    from depthlight.infer.search_range import look

    pair = thin_pair(0, 330)
    wide = model.predict(pair.left_HW3, pair.right_HW3, max_disp=512)
    half = look(model.backend, pair.left_HW3[None], pair.right_HW3[None], 2, 192, 0)[0][0]
    for counted in (pair.thin_HW, pair.visible_HW):
        assert error(wide, pair, counted) < 0.5 * float(np.abs(half - pair.disparity_HW)[counted].mean())
