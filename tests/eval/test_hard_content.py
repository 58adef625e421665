"""Scenes that differ in nothing but their material."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depthlight.core.errors import UnknownNameError
from depthlight.eval.hard_content import MATERIALS, hard_pair
from depthlight.eval.regions import region_masks

SMALL = (144, 240)


@pytest.fixture(scope="module")
def pairs():
    return {name: hard_pair(name, 0, size=SMALL, noise=0.0) for name in MATERIALS}


def warped_error(pair):
    """Mean |left - right warped by the truth|, in gray levels, over what both views see."""
    height, width = pair.disparity_HW.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(pair.right_HW3, x - pair.disparity_HW, y, cv2.INTER_LINEAR)
    return float(np.abs(warped.astype(float) - pair.left_HW3)[pair.visible_HW].mean())


def test_truth_is_the_same_in_every_material(pairs):
    first = pairs["textured"]
    for pair in pairs.values():
        np.testing.assert_array_equal(pair.disparity_HW, first.disparity_HW)
        np.testing.assert_array_equal(pair.visible_HW, first.visible_HW)
    pictures = [pair.left_HW3.tobytes() for pair in pairs.values()]
    assert len(set(pictures)) == len(MATERIALS)


def test_the_truth_is_true(pairs):
    """Only what mirrors its surroundings looks different from the other side."""
    diffuse = {name: warped_error(pairs[name]) for name in ("textured", "textureless", "repetitive", "dark")}
    assert max(diffuse.values()) < 4.0
    assert warped_error(pairs["glossy"]) > diffuse["textured"]


def test_materials_are_what_they_are_called(pairs):
    bare = {name: region_masks(pair)["textureless"].mean() for name, pair in pairs.items()}
    assert bare["textureless"] > 1.5 * bare["textured"]
    assert pairs["dark"].left_HW3.mean() < 0.25 * pairs["textured"].left_HW3.mean()


def test_a_pair_comes_out_the_same_and_others_differ():
    one, again, other = (hard_pair("metal", index, size=SMALL) for index in (1, 1, 2))
    assert one.left_HW3.tobytes() == again.left_HW3.tobytes() and one.right_HW3.tobytes() == again.right_HW3.tobytes()
    assert (one.disparity_HW != other.disparity_HW).any()


def test_unknown_materials_are_named():
    with pytest.raises(UnknownNameError, match="velvet"):
        hard_pair("velvet", 0)
