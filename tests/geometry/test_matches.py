"""Key points and matches: where they are, what they ignore, and that each chooses the other."""

from __future__ import annotations

import numpy as np
import pytest

from depthlight.geometry.matches import key_points, match_points, mutual_nearest


@pytest.mark.parametrize("reduction", [1.0, 2.0, 3.3])
def test_points_are_in_pixels_of_the_image_however_it_is_searched(motorcycle, reduction):
    left, _, _ = motorcycle
    whole, moved = left[:, 23:], left[:, :-23]  # the same points, 23 px further right in the second
    one, other = key_points(whole, reduction=reduction), key_points(moved, reduction=reduction)
    index_one, index_other = mutual_nearest(one.descriptors_ND, other.descriptors_ND)
    apart = other.points_N2[index_other] - one.points_N2[index_one]
    assert len(apart) > 100
    assert np.median(apart, axis=0) == pytest.approx((23, 0), abs=0.1)


def test_depth_and_brightness_of_the_image_do_not_matter(motorcycle):
    left, right, _ = motorcycle
    plain = match_points(left, right)
    wide = match_points(left.astype(np.uint16) * 257, right.astype(np.uint16) * 257)
    assert np.array_equal(plain.left, wide.left)
    dark = match_points(left, (right * 0.15).astype(np.uint8))
    assert len(dark) > 0.7 * len(plain)
    assert np.median(np.abs(dark.left - dark.right)[:, 1]) < 0.5


def test_only_the_mask_is_searched(motorcycle):
    left, right, _ = motorcycle
    half = np.zeros(left.shape[:2], bool)
    half[:, 300:] = True
    found = match_points(left, right, (half, np.ones_like(half)))
    assert len(found) > 50
    assert found.left[:, 0].min() > 298


def test_matches_choose_each_other_clearly():
    rng = np.random.default_rng(0)
    words = rng.normal(size=(40, 128)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    order = rng.permutation(40)
    found = mutual_nearest(words, words[order])
    assert np.array_equal(order[found[1]], found[0])
    assert len(found[0]) == 40
    twice = np.concatenate([words, words[:5]])  # five that look exactly like another
    for pair in ((twice, words), (words, twice)):
        kept = mutual_nearest(*pair)
        assert sorted(kept[0] % 40) == list(range(5, 40))
