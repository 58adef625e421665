"""Lengths against scenes whose size is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight import StereoRig
from depthlight.core.errors import InputError
from depthlight.geometry.depth import DepthMap, disparity_to_depth
from depthlight.geometry.measure import distance, extent, locate

RIG = StereoRig(fx=300, fy=300, cx=99.5, cy=74.5, baseline=0.1, width=200, height=150)


def card(z: float = 2.0, behind: float = 5.0) -> DepthMap:
    """A card of 80×60 px at ``z`` metres, columns 60–139, rows 40–99, in front of a wall."""
    depth = np.full((150, 200), behind, np.float32)
    depth[40:100, 60:140] = z
    return DepthMap(depth, np.ones(depth.shape, bool), RIG, np.full(depth.shape, 0.01, np.float32))


def test_the_width_of_a_card():
    across = distance(card(), (60, 70), (139, 70))
    assert across.length == pytest.approx(79 / 300 * 2, rel=1e-6)
    assert across.start.position[2] == pytest.approx(2)
    back = distance(card(), (139, 70), (60, 70))
    assert back.length == pytest.approx(across.length) and back.sigma == pytest.approx(across.sigma)


def test_through_space_not_along_the_image():
    line = distance(card(), (100, 70), (10, 70))  # from the card to the wall
    here, there = np.array(line.start.position), np.array(line.end.position)
    np.testing.assert_allclose(here, [0.5 / 300 * 2, -4.5 / 300 * 2, 2], rtol=1e-6)
    np.testing.assert_allclose(there, [-89.5 / 300 * 5, -4.5 / 300 * 5, 5], rtol=1e-6)
    assert line.length == pytest.approx(np.linalg.norm(there - here))


@given(st.floats(1, 30), st.floats(0.001, 0.2), st.integers(0, 2**31))
@settings(max_examples=6, deadline=None)
def test_sigma_is_the_spread_of_repeated_measurements(z, sigma, seed):
    """Depth errors drawn with the stated sigma, one value for each surface: lengths spread as stated."""
    sigma = min(sigma, 0.02 * z)
    rng = np.random.default_rng(seed)
    plain = card(z, 2 * z)
    stated = distance(replace(plain, sigma=np.full_like(plain.depth, sigma)), (100, 70), (10, 20))
    lengths = []
    for near, far in rng.normal(0, sigma, (400, 2)):
        depth = np.where(plain.depth == np.float32(z), z + near, 2 * z + far).astype(np.float32)
        lengths.append(distance(replace(plain, depth=depth), (100, 70), (10, 20)).length)
    assert np.std(lengths) == pytest.approx(stated.sigma, rel=0.2)


def test_one_wrong_pixel_does_not_count_and_neither_does_an_edge():
    depth = card()
    noisy = depth.depth.copy()
    noisy[70, 61] = 2.001
    noisy[69, 60] = 1.9
    point = locate(replace(depth, depth=noisy), 61, 70)  # two columns from the card's edge
    assert point.position[2] == pytest.approx(2, abs=1e-4)
    assert point.sigma == pytest.approx(0.01)


def test_without_uncertainty_there_is_none():
    plain = replace(card(), sigma=None)
    assert distance(plain, (60, 70), (139, 70)).sigma is None
    assert extent(plain, (50, 30, 100, 80)).width_sigma is None


def test_two_ends_at_one_pixel():
    found = distance(card(), (70, 70), (70, 70))
    assert found.length == 0 and math.isfinite(found.sigma)


def test_the_size_of_what_a_box_shows():
    found = extent(card(), (58, 38, 84, 64))  # a little larger than the card: the wall is seen at its border
    assert found.width == pytest.approx(80 / 300 * 2, rel=0.02)
    assert found.height == pytest.approx(60 / 300 * 2, rel=0.02)
    assert found.depth == pytest.approx(2) and found.thickness == pytest.approx(0, abs=1e-6)
    assert found.pixels == 80 * 60
    assert found.share == pytest.approx(80 * 60 / (84 * 64))
    assert found.width_sigma == pytest.approx(math.hypot(found.width * 0.01 / 2, 2 / 300))


def test_a_box_inside_a_slanted_surface():
    _, columns = np.indices((150, 200))
    disparity = (8 + 0.05 * columns).astype(np.float32)
    depth = disparity_to_depth(disparity, RIG)
    found = extent(depth, (50, 20, 100, 90))
    corner = [locate(depth, x, 60).position for x in (50, 149)]
    assert found.thickness == pytest.approx(abs(corner[1][2] - corner[0][2]), rel=0.03)
    assert found.share == 1


def test_the_other_side_of_the_image_is_no_neighbour():
    depth = np.full((150, 200), 5, np.float32)
    depth[40:100, 90:] = 2  # a card that ends at the right border
    depth[40:100, 0] = 2  # and a strip as near at the left one
    found = extent(DepthMap(depth, np.ones(depth.shape, bool), RIG), (0, 40, 200, 60))
    assert found.pixels == 110 * 60


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (-1, 0, 5, 5), (190, 0, 11, 5), (0, 149, 5, 2)])
def test_boxes_outside_are_refused(box):
    with pytest.raises(InputError, match="not inside the image; expected within 200x150"):
        extent(card(), box)


def test_pixels_without_depth_are_refused():
    depth = card()._only(np.indices((150, 200))[1] > 20)
    for x, y in ((5, 5), (200, 5), (-1, 3), (float("nan"), 3)):
        with pytest.raises(InputError):
            locate(depth, x, y)
    with pytest.raises(InputError, match="no depth"):
        extent(depth, (0, 0, 15, 15))
