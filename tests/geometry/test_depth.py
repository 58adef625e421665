"""Disparity to metres, rigs and clouds."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthlight import StereoRig
from depthlight.core.errors import DepthlightError, FileFormatError, InputError
from depthlight.core.tolerances import tolerance
from depthlight.geometry.cloud import PointCloud
from depthlight.geometry.depth import depth_to_disparity, disparity_to_depth
from depthlight.io.depth_files import read_depth

RIG = StereoRig(fx=1000, fy=1000, cx=320, cy=240, baseline=0.2, doffs=30, width=640, height=480)
CALIB = """cam0=[3997.684 0 1176.728; 0 3997.684 1011.728; 0 0 1]
cam1=[3997.684 0 1307.839; 0 3997.684 1011.728; 0 0 1]
doffs=131.111
baseline=193.001
width=2964
height=1988
ndisp=280
"""


def test_depth_is_focal_times_baseline_over_disparity():
    disparity = np.full((480, 640), 20.0, np.float32)
    assert disparity_to_depth(disparity, RIG).depth == pytest.approx(1000 * 0.2 / 50)


def test_pixels_without_positive_disparity_are_unknown_not_infinite():
    disparity = np.array([[-30.0, -31.0, 10.0]], np.float32)
    rig = StereoRig(fx=1000, fy=1000, cx=1, cy=0, baseline=0.2, doffs=30, width=3, height=1)
    depth = disparity_to_depth(disparity, rig)
    assert depth.valid.tolist() == [[False, False, True]]
    assert depth.depth[0, :2].tolist() == [0, 0]


@given(st.integers(64, 2000), st.floats(0.25, 4), st.floats(1, 150))
def test_resizing_images_and_disparity_together_keeps_the_metres(width, factor, disparity):
    height = width // 2
    rig = StereoRig(fx=900, fy=900, cx=width / 2, cy=height / 2, baseline=0.1, doffs=3, width=width, height=height)
    new = (round(width * factor), round(height * factor))
    if abs((new[0] / width) / (new[1] / height) - 1) > 0.01:
        return
    resized = rig.resized(*new)
    near = rig.fx * rig.baseline / (disparity + rig.doffs)
    scaled = disparity * new[0] / width
    assert resized.fx * resized.baseline / (scaled + resized.doffs) == pytest.approx(near, rel=1e-6)


def test_points_project_back_onto_their_pixels():
    rng = np.random.default_rng(0)
    disparity = rng.uniform(1, 100, (48, 64)).astype(np.float32)
    rig = RIG.resized(64, 48)
    points = disparity_to_depth(disparity, RIG).to_point_cloud().points
    u = rig.fx * points[:, 0] / points[:, 2] + rig.cx
    v = rig.fy * points[:, 1] / points[:, 2] + rig.cy
    rows, columns = np.mgrid[:48, :64]
    np.testing.assert_allclose(u, columns.ravel(), atol=1e-3)
    np.testing.assert_allclose(v, rows.ravel(), atol=1e-3)


def test_a_rig_of_another_shape_is_refused():
    with pytest.raises(InputError, match="640x480 images and the pair is 100x100"):
        disparity_to_depth(np.ones((100, 100), np.float32), RIG)


def test_middlebury_calibration(tmp_path):
    path = tmp_path / "calib.txt"
    path.write_text(CALIB)
    rig = StereoRig.from_file(path)
    assert (rig.fx, rig.cx, rig.baseline, rig.doffs, rig.width) == (3997.684, 1176.728, 0.193001, 131.111, 2964)


def test_our_json_round_trips(tmp_path):
    path = tmp_path / "rig.json"
    path.write_text(json.dumps(vars(RIG)))
    assert StereoRig.from_file(path) == RIG


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", CALIB.replace("baseline=", "baselin=")),
        ("b.txt", CALIB.replace("193.001", "wide")),
        ("c.txt", CALIB.replace("3997.684 0 1176.728", "3997.684 0")),
        ("d.txt", CALIB.replace("baseline=193.001", "baseline=0")),
        ("e.json", "{"),
        ("f.json", "[]"),
        ("g.json", '{"fx": 1}'),
        ("h.txt", ""),
        ("i.json", "[" * 100_000),
        ("j.json", '{"fx": ' + "9" * 5000 + "}"),
        ("k.json", json.dumps({**vars(RIG), "fx": 10**400})),
        ("l.json", json.dumps({**vars(RIG), "width": 10**400})),
        ("m.txt", CALIB.replace("doffs=131.111", "doffs=nan")),
        ("n.txt", CALIB.replace("1176.728;", "inf;")),
        ("o.txt", CALIB.replace("width=2964", "width=" + "9" * 5000)),
        ("p.txt", "x" * (2**20 + 1)),
        ("q.txt", CALIB.replace("baseline=193.001", "baseline=1e400")),
    ],
)
def test_bad_calibration_is_one_clear_line(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DepthlightError) as caught:
        StereoRig.from_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fx", "fy", "cx", "cy", "baseline", "width", "height", "doffs"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_rig_is_finite(name, value):
    with pytest.raises(InputError, match=f"stereo rig: {name} is"):
        replace(RIG, **{name: value})


def test_metres_beyond_float32_are_not_valid():
    far = replace(RIG, fx=1e30, baseline=1e30, width=2, height=1)
    near = replace(RIG, fx=1e-30, baseline=1e-30, width=2, height=1)
    for rig in (far, near):
        depth = disparity_to_depth(np.ones((1, 2), np.float32), rig)
        assert not depth.valid.any()
        assert (depth.depth == 0).all()


@pytest.mark.timeout(20)
def test_a_pipe_is_no_calibration(tmp_path):
    os.mkfifo(tmp_path / "calib.txt")
    with pytest.raises(FileFormatError, match="not a regular file"):
        StereoRig.from_file(tmp_path / "calib.txt")


def test_missing_calibration_names_the_file(tmp_path):
    with pytest.raises(FileFormatError, match=r"nothing\.txt"):
        StereoRig.from_file(tmp_path / "nothing.txt")


@pytest.mark.parametrize("other", [{"valid_HW": np.ones((8, 8), bool)}, {"sigma_HW": np.ones((8, 8), np.float32)}])
def test_masks_and_uncertainties_of_another_size_are_refused(other):
    with pytest.raises(InputError, match="has shape \\(8, 8\\)"):
        disparity_to_depth(np.full((480, 640), 20, np.float32), RIG, **other)


@pytest.mark.parametrize("wrong", [np.nan, -1])
def test_an_unknown_uncertainty_is_not_taken_for_certainty(wrong):
    with pytest.raises(InputError, match="negative or NaN"):
        disparity_to_depth(np.full((480, 640), 20, np.float32), RIG, sigma_HW=np.full((480, 640), wrong, np.float32))


@pytest.mark.parametrize("size", [(0, 0), (640, 0), (-640, -480)])
def test_a_rig_for_no_image_is_refused(size):
    for owner in (RIG, RIG.cameras().left):
        with pytest.raises(InputError, match="the same shape"):
            owner.resized(*size)


def test_colours_of_another_size_are_refused():
    depth = disparity_to_depth(np.full((480, 640), 20, np.float32), RIG)
    with pytest.raises(InputError, match="colour image has shape"):
        depth.to_point_cloud(np.zeros((240, 320, 3), np.uint8))


def test_ply_holds_points_and_colours(tmp_path):
    points = np.arange(6, dtype=np.float32).reshape(2, 3)
    colours = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    PointCloud(points, colours).save(tmp_path / "a.ply")
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)
    assert b"element vertex 2" in header
    assert b"unit metre" in header
    assert body[:12] == points[0].tobytes()
    assert body[12:15] == b"\x01\x02\x03"
    PointCloud(points).save(tmp_path / "b.ply")
    assert len((tmp_path / "b.ply").read_bytes().split(b"end_header\n", 1)[1]) == 24


@given(
    st.floats(0.05, 4000), st.floats(-200, 500), st.floats(50, 5000), st.floats(0.005, 2), st.sampled_from([0.5, 1, 2])
)
def test_disparity_and_depth_are_inverse_to_each_other(total, doffs, focal, baseline, factor):
    """X13: also through a resize of images and rig; relative to d + doffs, which is what depth comes from."""
    disparity = total - doffs
    rig = replace(RIG, fx=focal, fy=focal, baseline=baseline, doffs=doffs)
    rig, disparity = rig.resized(int(640 * factor), int(480 * factor)), disparity * factor
    if disparity < 0 or disparity + rig.doffs <= 0:
        return
    start = np.full((rig.height, rig.width), disparity, np.float32)[:2]
    rig = replace(rig, height=2)
    depth = disparity_to_depth(start, rig)
    exact = rig.fx * rig.baseline / (start[0, 0].astype(np.float64) + rig.doffs)
    assert depth.depth[0, 0] == pytest.approx(exact, rel=tolerance("depth.relative"))
    back, valid = depth_to_disparity(depth.depth, rig)
    assert not valid.any() or abs(float(back[0, 0]) - float(start[0, 0])) <= tolerance("depth.relative") * max(
        total * factor, start[0, 0]
    )


def test_depth_that_no_disparity_has_is_not_valid():
    rig = replace(RIG, width=4, height=1)
    depth = np.array([[0, np.nan, -1, 1000]], np.float64)  # the last is beyond the plane of zero disparity
    disparity, valid = depth_to_disparity(depth, rig)
    assert not valid.any() and (disparity == 0).all()


def test_uncertainty_is_the_slope_of_depth():
    """sigma_z = z² / (fx · baseline) · sigma_d: half of what lies between d + sigma and d - sigma."""
    rig = replace(RIG, width=3, height=1)
    disparity, sigma = np.array([[5.0, 50, 400]], np.float32), np.full((1, 3), 0.01, np.float32)
    depth = disparity_to_depth(disparity, rig, sigma_HW=sigma)
    near, far = (disparity_to_depth(disparity + k * sigma, rig).depth.astype(np.float64) for k in (1, -1))
    np.testing.assert_allclose(depth.sigma, (far - near) / 2, rtol=2e-2)
    assert disparity_to_depth(disparity, rig).sigma is None


def test_a_range_of_depths():
    disparity = np.array([[170, 70, 20, 2]], np.float32)  # 1, 2, 4 and 6.25 m
    depth = disparity_to_depth(disparity, replace(RIG, width=4, height=1), sigma_HW=np.ones((1, 4), np.float32))
    kept = depth.between(1.5, 5)
    assert kept.valid.tolist() == [[False, True, True, False]]
    assert kept.depth[0, 0] == kept.sigma[0, 0] == 0 and kept.depth[0, 1] == 2
    assert depth.between().valid.all()
    for low, high in ((5, 1), (-1, 2), (None, 0), (float("nan"), 2), (1, float("nan"))):
        with pytest.raises(InputError, match="depth range"):
            depth.between(low, high)


@pytest.mark.parametrize("suffix", ["npy", "png", "pfm", "tiff"])
def test_depth_is_saved_with_its_rig(tmp_path, suffix):
    depth = disparity_to_depth(np.full((48, 64), 30, np.float32), RIG)
    depth.save(tmp_path / f"depth.{suffix}")
    read = read_depth(tmp_path / f"depth.{suffix}")
    np.testing.assert_allclose(read.depth_HW, depth.depth, atol=0.0005)
    assert StereoRig(**read.meta["rig"]) == depth.rig
