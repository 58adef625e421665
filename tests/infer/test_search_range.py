"""Ranges beyond the network's: windows, what joins them, negative disparities, the first look."""

from __future__ import annotations

import numpy as np
import pytest

import depthlight as dl
from depthlight.backends import MAX_RANGE
from depthlight.core.errors import InputError, LimitError
from depthlight.core.tolerances import tolerance
from depthlight.infer.fusion import Candidate, fuse
from depthlight.infer.search_range import Windows, moved, plan_windows, reduced, search


@pytest.fixture(scope="module")
def model():
    return dl.load(threads=1)


class Fixed:
    """A backend that searches 192 px only, counts its passes, and answers what it is told."""

    name, precision, device = "fixed", "fp32", "cpu"

    def __init__(self, usual=192):
        self.usual, self.passes = usual, []

    def check_range(self, max_disp):
        if max_disp != self.usual:
            raise InputError("another range")

    def bytes_needed(self, pixels, max_disp):
        return pixels

    def run(self, left, right, max_disp):
        self.passes.append(left.shape)
        count, _, height, width = left.shape
        return np.zeros((count, height, width), np.float32), np.ones((count, height // 4, width // 4), np.float32)


@pytest.mark.parametrize(
    ("low", "high", "lows"),
    [
        (0, 192, (0,)),
        (0, 64, (0,)),
        (-20, 160, (-32,)),
        (100, 250, (96,)),
        (0, 193, (0, 128)),
        (0, 512, (0, 128, 256, 384)),
        (-20, 192, (-32, 96)),
    ],
)
def test_windows_cover_what_is_asked_for(low, high, lows):
    windows = plan_windows(Fixed(), 192, low, high)
    assert windows == Windows(192, lows)
    assert windows.low <= low
    assert windows.high >= high


@pytest.mark.parametrize(("usual", "lows"), [(32, (0, 32, 64, 96)), (64, (0, 32, 64)), (96, (0, 64)), (128, (0,))])
def test_networks_of_a_small_range_search_it_all(usual, lows):
    windows = plan_windows(Fixed(usual), usual, 0, 100)
    assert windows == Windows(usual, lows)
    assert windows.high >= 100


def test_the_first_look_keeps_within_its_memory(model, make_pair, monkeypatch):
    left, right = make_pair(40, 128, 4096, seed=3)
    right = moved(right, -240)
    seen = []
    run = model.backend.run
    monkeypatch.setattr(
        model.backend, "run", lambda left, right, px: (seen.append(left.shape), run(left, right, px))[1]
    )
    whole = model.find_range(left, right)
    assert [shape[3] for shape in seen] == [1024] and whole[1] >= 280
    seen.clear()
    monkeypatch.setattr(model, "_most_pixels", lambda shape, windows: 800 * 32)
    found = model.find_range(left, right)
    assert len(seen) > 1 and max(shape[3] for shape in seen) <= 800
    assert np.abs(np.subtract(found, whole)).max() <= 2
    tight = dl.load(threads=1)
    tight.max_memory = 2**20
    with pytest.raises(LimitError, match="a first look at a 4096×128 pair"):
        tight.find_range(left, right)


@pytest.mark.parametrize(
    ("low", "high", "error"),
    [
        (0, 0, InputError),
        (10, 5, InputError),
        (0, MAX_RANGE + 1, LimitError),
        (-MAX_RANGE - 32, -MAX_RANGE, LimitError),
    ],
)
def test_ranges_that_are_none_are_refused(model, low, high, error):
    with pytest.raises(error):
        model.check_range(high, low)


def test_where_the_window_fits_the_numbers_are_those_of_the_plain_pass(model, make_pair):
    left, right = make_pair(12)
    plain = model.predict(left, right)
    for how in ({"max_disp": 192}, {"max_disp": 100}, {"max_disp": 192, "min_disp": 0}):
        found = model.predict(left, right, **how)
        np.testing.assert_array_equal(found.disparity, plain.disparity)
        np.testing.assert_array_equal(found.confidence, plain.confidence)
        assert (found.min_disp, found.max_disp) == (0, 192)


def test_a_window_is_the_plain_pass_over_the_moved_pair(model, make_pair):
    left, right = make_pair(12, 64, 320)
    found = model.predict(left, right, min_disp=-32, max_disp=160)
    plain = model.predict(left, moved(right, -32))
    np.testing.assert_array_equal(found.disparity, plain.disparity - 32)
    assert (found.min_disp, found.max_disp) == (-32, 160)


@pytest.mark.parametrize("shift", [-20, -3, 250, 330])
def test_disparities_outside_of_the_plain_range_are_found(model, make_pair, shift):
    width = 160 + abs(shift)
    left, right = make_pair(40, 96, width + abs(shift) + 40, seed=3)
    left, right = left[:, :width], right[:, :width]  # disparity 40 everywhere
    by = shift - 40
    right = moved(right, -by)
    seen = slice(max(40, shift) + 8, width - max(0, -shift) - 8)  # both views are real there
    found = model.predict(left, right, min_disp=min(0, shift), max_disp=max(128, shift + 32))
    assert np.abs(found.disparity[16:80, seen] - shift).mean() < 1.0
    assert found.valid[16:80, seen].mean() > 0.95


def test_no_disparity_is_invented_between_the_searches():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)
    values = rng.uniform(0, 20, (3, 32, 64)).astype(np.float32)
    candidates = [Candidate(v, np.ones_like(v), np.zeros(v.shape, bool)) for v in values]
    disparity, _ = fuse(left, right, candidates)
    assert (disparity[None] == values).any(0).all()


def test_the_likelier_match_wins():
    rng = np.random.default_rng(0)
    left = rng.integers(0, 256, (40, 96, 3), dtype=np.uint8)
    right = np.roll(left, -7, axis=1)
    sure = np.full((40, 96), 0.5, np.float32)
    wrong, true = (Candidate(np.full((40, 96), d, np.float32), sure) for d in (20.0, 7.0))
    assert (fuse(left, right, [wrong, true])[0][:, 20:] == 7).all()
    ends = Candidate(true.disparity_HW, sure, np.ones((40, 96), bool))
    assert (fuse(left, left, [ends, Candidate(wrong.disparity_HW, sure)])[0] == 20).mean() > 0.9


def test_windows_beyond_the_picture_are_not_computed():
    backend = Fixed()
    views = np.zeros((1, 32, 160, 3), np.uint8)
    search(backend, views, views, Windows(192, (0, 128, 256, 384)))
    assert len(backend.passes) == 3  # two windows begin within 160 px, and the reduced pass


def test_the_reduced_pass_in_tiles_is_the_same(model, make_pair):
    left, right = (view[None] for view in make_pair(60, 192, 2048))
    windows = Windows(192, (0, 128))
    whole = reduced(model.backend, left, right, windows)[0]
    tiled = reduced(model.backend, left, right, windows, 96 * 1000)[0]
    assert np.abs(tiled - whole).max() > 0  # other passes
    assert np.percentile(np.abs(tiled - whole), 99) <= tolerance("tiles.p99")


def test_the_first_look_keeps_to_the_usual_range_where_that_suffices(model, make_pair):
    left, right = make_pair(12, 96, 320)
    assert model.find_range(left, right) == (0, 192)


def test_the_first_look_sees_what_lies_outside(model, make_pair):
    left, right = make_pair(40, 128, 640, seed=3)
    low, high = model.find_range(left, moved(right, 100))  # disparity -60
    assert low <= -60
    assert high == 192
    low, high = model.find_range(left, moved(right, -240))  # disparity 280
    assert low == 0
    assert high >= 280


def test_what_is_cut_off_below_is_said(model, make_pair):
    left, right = make_pair(62, 96, 320, seed=3)
    cut = model.predict(left, right, min_disp=64)
    assert cut.saturated > 0.3
    assert not cut.valid[cut.disparity <= 64 + 8].any()
