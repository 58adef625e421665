"""A region of the picture: only that is computed, and everything keeps the size and the numbers of the whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from depthlight.core.errors import InputError
from depthlight.infer.region import CONTEXT, Box, Region, predict_region, read_mask
from depthlight.infer.sgbm import SgbmMatcher
from depthlight.io.disparity_files import read_disparity


@pytest.fixture
def sgbm():
    return SgbmMatcher()


class Watched(SgbmMatcher):
    """Remembers the size it was shown."""

    seen: tuple[int, ...] = ()

    def predict(self, left, right, **how):
        self.seen = left.shape
        assert left.shape == right.shape
        return super().predict(left, right, **how)


class Shown(Watched):
    """Takes any range."""

    def predict(self, left, right, *, min_disp=0, **how):
        return super().predict(left, right, **how)


def test_inside_the_box_the_disparity_is_that_of_the_whole(make_pair, sgbm):
    left, right = make_pair(12, 120, 300)
    box = Box(150, 40, 100, 30)
    part = predict_region(sgbm, left, right, Region(box), max_disp=32)
    inside = part.disparity[box.slices()]
    assert np.abs(inside - 12).max() < 0.5
    whole = sgbm.predict(left, right, max_disp=32)
    assert np.abs(inside - whole.disparity[box.slices()]).max() < 0.5
    assert part.disparity.shape == part.valid.shape == part.confidence.shape == (120, 300)
    outside = np.ones((120, 300), bool)
    outside[box.slices()] = False
    assert not part.disparity[outside].any()
    assert not part.confidence[outside].any()
    assert not part.valid[outside].any()
    np.testing.assert_array_equal(part.region, ~outside)


def test_only_what_is_needed_is_computed(make_pair):
    left, right = make_pair(12, 200, 600)
    matcher = Watched()
    predict_region(matcher, left, right, Region(Box(300, 100, 50, 20)), max_disp=64)
    assert matcher.seen[:2] == (20 + 2 * CONTEXT, 64 + 50 + 2 * CONTEXT)


def test_the_reach_follows_the_smallest_disparity(make_pair):
    """Without a largest one, the range is the matcher's own above the smallest."""
    left, right = make_pair(12, 8, 600)
    for min_disp, reach in ((0, 192), (96, 288), (-32, 192)):
        matcher = Shown()
        predict_region(matcher, left, right, Region(Box(400, 0, 50, 8)), min_disp=min_disp)
        assert matcher.seen[1] == reach + 50 + max(0, -min_disp) + 2 * CONTEXT


@pytest.mark.parametrize("x", [0, 5, 199])
def test_matches_left_of_the_box_are_in_reach(make_pair, sgbm, x):
    """A match of the box's first column lies up to the range to its left."""
    left, right = make_pair(40, 80, 300)
    part = predict_region(sgbm, left, right, Region(Box(x, 10, 101, 60)), max_disp=48)
    reachable = part.region & (np.arange(300) >= 48)
    assert np.abs(part.disparity[reachable] - 40).mean() < 0.5


def test_a_mask_keeps_its_pixels_and_the_intersection_counts(make_pair, sgbm):
    left, right = make_pair(8, 64, 160)
    mask = np.zeros((64, 160), bool)
    mask[10:40, 60:120] = np.indices((30, 60)).sum(axis=0) % 2 == 0
    part = predict_region(sgbm, left, right, Region(Box(60, 0, 30, 64), mask), max_disp=16)
    expected = mask.copy()
    expected[:, 90:] = False
    np.testing.assert_array_equal(part.region, expected)
    assert (part.disparity > 0).sum() == expected.sum()


def test_depth_outside_is_unknown_with_the_calibration_of_the_whole(make_pair, sgbm):
    from depthlight.geometry.rig import StereoRig

    left, right = make_pair(8, 64, 160)
    rig = StereoRig(fx=100, fy=100, cx=80, cy=32, baseline=0.1, width=160, height=64)
    box = Box(60, 10, 40, 20)
    depth = predict_region(sgbm, left, right, Region(box), max_disp=16).to_depth(rig)
    assert depth.depth[20, 80] == pytest.approx(100 * 0.1 / 8, rel=0.05)
    assert depth.valid.sum() <= 40 * 20
    assert not depth.depth[~depth.valid].any()


def test_the_bundled_network_agrees_too(motorcycle):
    import depthlight as dl

    left, right, _ = motorcycle
    box = Box(300, 150, 200, 150)
    model = dl.load()
    part = predict_region(model, left, right, Region(box), left_right=True)
    whole = model.predict(left, right)
    apart = np.abs(part.disparity - whole.disparity)[box.slices()]
    assert np.median(apart) < 0.5
    assert part.disparity_right.shape == part.disparity.shape
    computed = np.zeros_like(part.valid)
    computed[150 - CONTEXT : 300 + CONTEXT, 300 - 192 - CONTEXT : 500 + CONTEXT] = True
    np.testing.assert_array_equal(part.region_right, computed)


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "", "1.5,0,3,4", "-1,0,3,4", "0,0,0,4", "1,2,3,4,5"])
def test_boxes_that_are_none(text):
    with pytest.raises(InputError):
        Box.parse(text)


@pytest.mark.parametrize(
    ("region", "says"),
    [
        (Region(Box(150, 0, 20, 10)), "leaves the image"),
        (Region(Box(0, 60, 20, 10)), "leaves the image"),
        (Region(mask=np.ones((64, 161), bool)), "161×64"),
        (Region(mask=np.zeros((64, 160), bool)), "no pixel"),
    ],
)
def test_regions_that_do_not_fit(make_pair, sgbm, region, says):
    with pytest.raises(InputError, match=says):
        predict_region(sgbm, *make_pair(8, 64, 160), region)


def test_a_mask_is_what_is_above_zero():
    image = np.array([[0, 1, 255]], np.uint8)
    assert read_mask(image).tolist() == [[False, True, True]]
    assert read_mask(np.array([[0, 1, 128]], np.uint16)).tolist() == [[False, True, True]]


# The verb


def test_stereo_with_roi_and_mask(call, save, tmp_path, pair):
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 40:] = 255
    save(tmp_path / "mask.png", mask)
    out = tmp_path / "out"
    options = ["--roi", "30,10,40,30", "--mask", tmp_path / "mask.png", "--model", "sgbm"]
    status, text, _ = call("stereo", *pair, "-o", out, *options, "--json")
    assert status == 0
    stored = read_disparity(out / "disparity.png")
    expected = np.zeros((64, 96), bool)
    expected[10:40, 40:70] = True
    np.testing.assert_array_equal(stored.valid_HW, expected)
    result = json.loads(text)
    assert result["disparity_min"] > 4  # of the region, not of the zeros around it
    request = result["request"]
    assert request["roi"] == "30,10,40,30"
    assert len(request["mask"]) == 64


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--roi", "1,2,3"], "x,y,width,height"),
        (["--roi", "90,0,10,10"], "leaves the image"),
        (["--mask", "none.png"], "none.png does not exist"),
        (["--mask", "small.png"], "10×10"),
    ],
)
def test_bad_regions_end_in_one_line(call, save, tmp_path, monkeypatch, pair, options, says):
    save(tmp_path / "small.png", np.full((10, 10), 255, np.uint8))
    monkeypatch.chdir(tmp_path)
    status, text, err = call("stereo", *pair, "-o", tmp_path / "out", *options)
    assert (status, text) == (2, "")
    assert err.count("\n") == 1
    assert says in err
