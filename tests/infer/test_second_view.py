"""A second view of a photo: what both eyes see is where it should be, what only one sees is background."""

from __future__ import annotations

import numpy as np
import pytest

from depthlight.core.errors import InputError
from depthlight.infer.mono_prediction import MonoPrediction
from depthlight.infer.prediction import ModelIdentity
from depthlight.infer.second_view import second_view, side_by_side

IDENTITY = ModelIdentity("m", None, "torch", "fp32", "cpu")


def scene():
    """Left and right view (48, 120) of a red square at 12 px before a green wall at 2 px, and the left disparity."""
    rng = np.random.default_rng(0)
    wall, thing = rng.integers(0, 256, (48, 160)), rng.integers(0, 256, (20, 30))
    left, right = np.zeros((48, 120, 3), np.uint8), np.zeros((48, 120, 3), np.uint8)
    left[..., 1], right[..., 1] = wall[:, :120], wall[:, 2:122]
    disparity = np.full((48, 120), 2, np.float32)
    left[10:30, 50:80], disparity[10:30, 50:80] = np.stack([thing, 0 * thing, 0 * thing], -1), 12
    right[10:30, 38:68] = np.stack([thing, 0 * thing, 0 * thing], -1)
    return left, right, disparity


def test_what_both_see_is_exact_and_what_is_uncovered_is_background():
    left, right, disparity = scene()
    found = second_view(left, disparity)
    hidden = np.zeros((48, 120), bool)
    hidden[10:30, 68:78] = True  # behind the square in the left view
    hidden[:, 118:] = True  # beyond its right edge
    np.testing.assert_array_equal(found[~hidden], right[~hidden])
    assert (found[hidden][:, 0] == 0).all(), "no red: nothing of the square is repeated"
    assert found[hidden][:, 1].std() > 30, "no streak of one colour"


def test_a_flat_map_moves_nothing_apart():
    left = scene()[0]
    np.testing.assert_array_equal(second_view(left, np.zeros((48, 120), np.float32)), left)


@pytest.mark.parametrize("quantity", ["inverse_depth", "depth"])
def test_the_nearest_moves_by_the_share_asked_for(quantity):
    left, _, disparity = scene()
    values = disparity * 7 - 13 if quantity == "inverse_depth" else 1 / (disparity - 1)
    both = side_by_side(left, MonoPrediction(values.astype(np.float32), quantity, IDENTITY, (48, 120), 0.0), 10)
    assert both.shape == (48, 240, 3)
    np.testing.assert_array_equal(both[:, :120], left)
    np.testing.assert_array_equal(both[10:30, 120 + 38 : 120 + 68], left[10:30, 50:80])  # 12 px are 10 %
    np.testing.assert_array_equal(both[:, 120:150], left[:, :30])


def test_wrong_input_is_refused():
    left, _, disparity = scene()
    prediction = MonoPrediction(disparity, "inverse_depth", IDENTITY, (48, 120), 0.0)
    for percent in (0, -1, 11, float("nan")):
        with pytest.raises(InputError, match="% of the width"):
            side_by_side(left, prediction, percent)
    with pytest.raises(InputError, match="another size"):
        side_by_side(left[:40], prediction, 3)
