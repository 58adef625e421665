"""The photo-warp family: truth exact in both views, bounded, deterministic."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.core.errors import InputError
from depthlight.data.synth.photo_layers import Bump, Layer, Surface, render
from depthlight.data.synth.photo_regions import segment
from depthlight.data.synth.photowarp import BORDER, _borders_in_front, photowarp


class _Photos:
    """Smooth, photo-like pictures: shaded shapes over a gradient, without fine grain, so that resampling is exact."""

    def photo(self, rng: np.random.Generator) -> np.ndarray:
        h, w = int(rng.integers(200, 400)), int(rng.integers(300, 600))
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        image = np.stack([60 + 120 * y / h, 80 + 60 * x / w, 200 - 150 * y / h], axis=2).astype(np.float32)
        for _ in range(12):
            centre = int(rng.integers(0, w)), int(rng.integers(0, h))
            colour = tuple(float(c) for c in rng.uniform(0, 255, 3))
            cv2.ellipse(
                image, (centre, tuple(rng.uniform(20, 160, 2).tolist()), float(rng.uniform(0, 180))), colour, -1
            )
        wave = 15 * np.sin(x / 9 + rng.uniform(0, 6)) * np.cos(y / 11)
        return np.clip(cv2.GaussianBlur(image + wave[..., None], (0, 0), 2.0), 0, 255)

    def sample(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        raise AssertionError("photo-warp takes whole photos only")


def _warp_right(image: np.ndarray, disparity_HW: np.ndarray, how: int) -> np.ndarray:
    y, x = np.mgrid[0 : disparity_HW.shape[0], 0 : disparity_HW.shape[1]].astype(np.float32)
    return cv2.remap(image, x - disparity_HW, y, how, borderMode=cv2.BORDER_REPLICATE)


def _visible(pair, reach: int = 2) -> np.ndarray:
    """Left pixels whose counterpart and its neighbours in the right view lie on the same surface."""
    d = pair.disparity_HW
    x = np.arange(d.shape[1], dtype=np.float32)[None, :]
    low = cv2.erode(pair.right_disparity_HW, np.ones((1, 2 * reach + 1)))
    high = cv2.dilate(pair.right_disparity_HW, np.ones((1, 2 * reach + 1)))
    near_low = np.abs(_warp_right(low, d, cv2.INTER_NEAREST) - d) < 0.8
    near_high = np.abs(_warp_right(high, d, cv2.INTER_NEAREST) - d) < 0.8
    return near_low & near_high & (x - d >= reach)


@pytest.fixture(scope="module", params=[(0, 12.0), (1, 40.0), (2, 90.0)])
def pair(request):
    seed, max_disp = request.param
    return photowarp(np.random.default_rng(seed), 144, 320, max_disp, _Photos()), max_disp


def test_right_warped_by_truth_is_left(pair):
    rendered, _ = pair
    visible = _visible(rendered)
    assert visible.mean() > 0.5
    back = _warp_right(rendered.right_HW3, rendered.disparity_HW, cv2.INTER_CUBIC)
    error = np.abs(back - rendered.left_HW3).max(axis=2)[visible]
    assert np.median(error) < 1.0
    assert np.quantile(error, 0.98) < 12.0  # grey values of 255; the rest is resampled edges of cut-outs
    shifted = _warp_right(rendered.right_HW3, rendered.disparity_HW + 1.0, cv2.INTER_CUBIC)
    assert np.abs(shifted - rendered.left_HW3).max(axis=2)[visible].mean() > 2 * error.mean()


def test_left_and_right_truth_agree(pair):
    rendered, _ = pair
    visible = _visible(rendered)
    back = _warp_right(rendered.right_disparity_HW, rendered.disparity_HW, cv2.INTER_LINEAR)
    assert np.quantile(np.abs(back - rendered.disparity_HW)[visible], 0.99) < 0.02


def test_nothing_in_the_right_view_is_hidden_by_the_left(pair):
    """Where the right truth says a point is, the left camera sees that point or something nearer, never through it."""
    rendered, _ = pair
    d = rendered.right_disparity_HW
    y, x = np.mgrid[0 : d.shape[0], 0 : d.shape[1]].astype(np.float32)
    seen = cv2.remap(
        rendered.disparity_HW, x + d, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1e9
    )
    assert (seen < d - 1.0).mean() < 0.02  # rounding at edges only


def test_range_shape_and_type(pair):
    rendered, max_disp = pair
    for image in (rendered.left_HW3, rendered.right_HW3):
        assert image.shape == (144, 320, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 255 and image.std() > 5
    for disparity in (rendered.disparity_HW, rendered.right_disparity_HW):
        assert disparity.shape == (144, 320) and disparity.dtype == np.float32
        assert np.isfinite(disparity).all() and disparity.min() > 0
    assert rendered.disparity_HW.max() <= max_disp
    assert rendered.right_disparity_HW.max() <= max_disp
    assert np.ptp(rendered.disparity_HW) > 0.1 * max_disp


def test_same_state_same_bytes_and_other_state_other_scene():
    first, again, other = (photowarp(np.random.default_rng(s), 64, 128, 20.0, _Photos()) for s in (5, 5, 6))
    for name in ("left_HW3", "right_HW3", "disparity_HW", "right_disparity_HW"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.left_HW3.tobytes() != other.left_HW3.tobytes()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(32, 70), st.integers(32, 110), st.floats(1, 64))
def test_any_size_and_range_is_covered(seed, height, width, max_disp):
    rendered = photowarp(np.random.default_rng(seed), height, width, max_disp, _Photos())
    for disparity in (rendered.disparity_HW, rendered.right_disparity_HW):
        assert disparity.shape == (height, width)
        assert disparity.min() > 0 and disparity.max() <= max_disp


@pytest.mark.parametrize(("height", "width", "max_disp"), [(16, 64, 10.0), (64, 64, 0.5), (64, 64, float("nan"))])
def test_impossible_requests_are_refused(height, width, max_disp):
    with pytest.raises(InputError, match="expected at least"):
        photowarp(np.random.default_rng(0), height, width, max_disp, _Photos())


@settings(max_examples=50, deadline=None)
@given(st.floats(-0.15, 0.15), st.floats(-0.3, 0.3), st.floats(1, 60), st.floats(-8, 8), st.floats(20, 60))
def test_surface_inverse(a, b, c, height, sigma):
    surface = Surface(a, b, c, Bump(height, 60.0, 20.0, sigma, 15.0))
    x, y = np.arange(128, dtype=np.float32)[None, :], np.arange(40, dtype=np.float32)[:, None]
    np.testing.assert_allclose(surface.left_x(x - surface.at(x, y), y), np.broadcast_to(x, (40, 128)), atol=2e-3)


def test_render_lets_the_nearer_layer_win_in_both_views():
    wall = Layer(Surface(0, 0, 2.0), 0, 0, np.ones((8, 40), bool), np.full((8, 40, 3), 50, np.float32))
    card = Layer(Surface(0, 0, 6.0), 10, 2, np.ones((4, 5), bool), np.full((4, 5, 3), 200, np.float32))
    rendered = render([wall, card], 8, 30)
    expected = np.full((8, 30), 2.0, np.float32)
    expected[2:6, 10:15] = 6.0
    np.testing.assert_array_equal(rendered.disparity_HW, expected)
    np.testing.assert_array_equal(rendered.right_disparity_HW, np.roll(expected, -6, axis=1))
    np.testing.assert_array_equal(rendered.right_HW3[..., 0] > 100, rendered.right_disparity_HW == 6.0)


def test_segments_follow_colour_edges():
    image = np.full((240, 320, 3), 40, np.float32)
    image[60:180, 100:220] = (220, 60, 40)
    found = segment(image, 1.0).object_map
    inside, outside = found[63:177, 103:217], np.concatenate([found[:57].ravel(), found[183:].ravel()])
    assert np.unique(inside).size == 1 and np.unique(outside).size == 1
    assert inside[0, 0] != outside[0]


@pytest.mark.parametrize("size", [(11, 11), (16, 40), (33, 47)])
def test_segments_of_a_flat_photo(size):
    found = segment(np.full((*size, 3), 90, np.float32), 1.0)
    assert found.part_HW.shape == size and (found.part_HW == 0).all() and found.object_of_part_N.tolist() == [0]


def test_parts_nest_in_objects():
    found = segment(_Photos().photo(np.random.default_rng(3)), 1.0)
    parts = found.part_HW
    assert parts.min() == 0 and parts.max() + 1 == found.object_of_part_N.size
    assert np.unique(parts).size == found.object_of_part_N.size
    assert np.array_equal(found.object_map, found.object_of_part_N[parts])


def test_mixed_pixels_along_a_step_belong_to_what_is_in_front():
    label = np.zeros((20, 40), np.int32)
    label[:, 10:25] = 1
    label[5:15, 30:] = 2
    far, near, about_as_far = (Surface(0.0, 0.0, d) for d in (3.0, 9.0, 3.3))
    grown = _borders_in_front(label, [far, near, about_as_far])
    columns = np.flatnonzero((grown == 1).all(0))
    assert (columns[0], columns[-1]) == (10 - BORDER, 24 + BORDER)
    assert np.array_equal(grown == 2, label == 2), "no step, no border"
    assert np.array_equal(_borders_in_front(label, [far, far, far]), label)


def test_nothing_of_the_object_is_left_on_the_background():
    """A dark disk on a bright ground, its edge blurred: in the right view nothing dark lies where its outline was."""
    photo = np.full((200, 300, 3), 220, np.float32)
    cv2.circle(photo, (150, 100), 45, (30.0, 30.0, 30.0), -1)
    photo = cv2.GaussianBlur(photo, (0, 0), 0.8)
    inside = np.hypot(*np.mgrid[-100:100, -150:150]) < 44.5  # as a segmentation has it: the mixed ring lies outside
    label = _borders_in_front(inside.astype(np.int32), [Surface(0, 0, 4.0), Surface(0, 0, 24.0)])
    assert photo[label == 0].min() > 200
    assert photo[~inside].min() < 140, "without the step some of the disk stays behind"
