"""Rectification: rows agree, metres come out right, masks tell the truth (X13)."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from depthlight.core.errors import InputError
from depthlight.core.tolerances import tolerance
from depthlight.geometry.cameras import Camera, StereoCameras, to_matrix
from depthlight.geometry.matches import Matches, match_points, vertical_error
from depthlight.geometry.rectify import largest_rectangle, rectification, rectifying_rotations
from depthlight.geometry.uncalibrated import UncalibratedRectification, rectify_matches, rectify_uncalibrated


def scene(rng, rig, count=60):
    """Random points that both raw views show: left axes (N, 3), and px in both."""
    reach = 0.45 * rig.left.width / rig.left.fx
    points = np.column_stack([rng.uniform(-reach, reach, (count, 2)), np.ones(count)]) * rng.uniform(1, 30, (count, 1))
    left = rig.left.project(points)
    right = rig.right.project(points @ rig.rotation().T + rig.translation())
    seen = np.isfinite(left + right).all(axis=1)
    for pixels, camera in ((left, rig.left), (right, rig.right)):
        seen &= (pixels > 0).all(axis=1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
    return points[seen], left[seen], right[seen]


def test_1000_random_rigs_rectify_to_a_hundredth_of_a_pixel(rig_of, record_property):  # X13
    rng = np.random.default_rng(13)
    checked, largest = 0, 0.0
    for seed in range(1000):
        rig = rig_of(seed, "fisheye" if seed % 3 == 0 else "pinhole")
        points, left, right = scene(rng, rig)
        made = rectification(rig, alpha=(seed % 5) / 4, shift=seed % 7)
        one, other = made.left.points(left), made.right.points(right)
        error = other[:, 1] - one[:, 1]
        largest = max(largest, np.abs(error).max(initial=0))
        assert largest <= tolerance("geometry.vertical"), seed
        disparity = one[:, 0] - other[:, 0]
        depth = made.rig.fx * made.rig.baseline / (disparity + made.rig.doffs)
        truth = (points @ made.left.rotation.T)[:, 2]
        np.testing.assert_allclose(depth, truth, rtol=1e-5)
        checked += len(error)
    assert checked > 20_000
    record_property("x13_vertical_px", largest)


@pytest.mark.parametrize("kind", ["pinhole", "fisheye"])
def test_maps_and_points_are_inverse_to_each_other(rig_of, kind):
    made = rectification(rig_of(5, kind))
    for view in (made.left, made.right):
        columns, rows = view.maps
        picked = np.random.default_rng(0).integers(0, 300, (50, 2))
        raw = np.array([[columns[y, x], rows[y, x]] for x, y in picked], np.float64)
        np.testing.assert_allclose(view.points(raw), picked, atol=2e-3)


@pytest.mark.parametrize("kind", ["pinhole", "fisheye"])
def test_alpha_chooses_between_no_border_and_every_pixel(rig_of, kind):
    rig = rig_of(7, kind)
    tight, whole = rectification(rig, alpha=0), rectification(rig, alpha=1, max_field=150)
    assert tight.left.mask.all()
    assert tight.right.mask.all()
    assert tight.rectangle == (0, 0, 400, 300)
    assert whole.rig.fx < tight.rig.fx
    assert not whole.left.mask.all()
    x, y, width, height = whole.rectangle
    assert width * height > 0.1 * 400 * 300
    for view in (whole.left, whole.right):
        assert view.mask[y : y + height, x : x + width].all()
    corner = whole.left.points(np.array([[0.0, 0.0], [399.0, 299.0]]))
    if kind == "pinhole":
        assert (corner > -1).all()
        assert (corner < [400, 300]).all()


def test_a_strong_lens_shows_nothing_twice():
    """k1 < 0 alone folds back at 1/√(-3 k1): what lies beyond is not the image, though the map says so."""
    lens = Camera(fx=250.0, fy=250.0, cx=199.5, cy=149.5, width=400, height=300, distortion=(-0.3, 0.0, 0.0, 0.0))
    made = rectification(StereoCameras(left=lens, right=lens, T=(-0.1, 0.0, 0.0)), alpha=1)
    columns, rows = made.left.maps
    height, width = made.left.mask.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.hypot((x - made.rig.cx) / made.rig.fx, (y - made.rig.cy) / made.rig.fy)
    assert not (made.left.mask & (rays > 1.06)).any()
    assert (
        made.left.mask == ((columns > -0.05) & (rows > -0.05) & (columns < 399.05) & (rows < 299.05) & (rays < 1.06))
    ).mean() > 0.99


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 0), (np.uint8, 3), (np.uint16, 0), (np.uint16, 3)])
def test_depth_and_channels_of_images_stay(rig_of, dtype, channels):
    made = rectification(rig_of(1))
    shape = (300, 400, channels) if channels else (300, 400)
    image = np.full(shape, 200 if dtype == np.uint8 else 51_000, dtype)
    left, right = made(image, image)
    assert left.dtype == right.dtype == dtype
    assert left.shape == shape
    assert (left == image).all()
    with pytest.raises(InputError, match="the image is 200x300"):
        made(image[:, :200], image)


def test_another_output_size_and_shift(rig_of):
    rig = rig_of(2)
    made = rectification(rig, size=(200, 150), shift=20)
    assert (made.rig.width, made.rig.height, made.rig.doffs) == (200, 150, 20)
    assert made(np.zeros((300, 400), np.uint8), np.zeros((300, 400), np.uint8))[0].shape == (150, 200)


@pytest.mark.parametrize("T", [(0.1, 0.0, 0.0), (0.0, -0.1, 0.0), (0.0, 0.1, 0.0), (0.01, 0.0, 0.1)])
def test_rigs_that_are_not_side_by_side_are_told(rig_of, T):
    with pytest.raises(InputError, match="Swap the two cameras"):
        rectifying_rotations(replace(rig_of(0), R=to_matrix(np.eye(3)), T=T))


def test_views_without_overlap_are_told(rig_of):
    turned = replace(rig_of(0), R=to_matrix(cv2.Rodrigues(np.array([1.2, 0.0, 0.0]))[0]))
    with pytest.raises(InputError):
        rectification(turned)


@pytest.mark.parametrize("how", [{"alpha": 1.5}, {"alpha": -0.1}, {"max_field": 180}, {"max_field": 0}])
def test_options_have_ranges(rig_of, how):
    with pytest.raises(InputError):
        rectification(rig_of(0), **how)


def test_largest_rectangle():
    mask = np.zeros((40, 60), bool)
    mask[8:32, 4:20] = True
    mask[8:16, 4:56] = True
    assert largest_rectangle(mask) == (4, 8, 52, 8)
    mask[16:32, 20:24] = True
    assert largest_rectangle(mask) == (4, 8, 20, 24)
    assert largest_rectangle(np.zeros((8, 8), bool)) == (0, 0, 0, 0)


# without a calibration


@pytest.mark.parametrize("seed", range(8))
def test_matches_alone_rectify(rig_of, seed):
    rng = np.random.default_rng(seed)
    rig = rig_of(seed)
    plain = replace(rig, left=replace(rig.left, distortion=()), right=replace(rig.right, distortion=()))
    plain = replace(plain, right=replace(plain.right, fx=plain.left.fx, fy=plain.left.fy))
    _, left, right = scene(rng, plain, 600)
    wrong = rng.uniform(0, 300, (len(left) // 5, 2))
    noisy = Matches(
        np.concatenate([left + rng.normal(0, 0.2, left.shape), wrong]),
        np.concatenate([right + rng.normal(0, 0.2, right.shape), wrong[::-1]]),
    )
    made = rectify_matches(noisy, (400, 300))
    assert np.median(np.abs(made.error)) < 0.4
    truth = [cv2.perspectiveTransform(p[:, None], m)[:, 0] for p, m in ((left, made.left), (right, made.right))]
    assert np.percentile(np.abs(truth[0][:, 1] - truth[1][:, 1]), 90) < 1.0
    assert np.percentile(truth[0][:, 0] - truth[1][:, 0], 2) > 0  # disparities are positive
    for matrix in (made.left, made.right):  # hardly bent: the corners stay near
        corners = np.array([[[0, 0]], [[399, 0]], [[0, 299]], [[399, 299]]], np.float64)
        sides = cv2.perspectiveTransform(corners, matrix)[:, 0]
        assert 0.7 < np.linalg.norm(sides[0] - sides[1]) / 399 < 1.4
        assert 0.7 < np.linalg.norm(sides[0] - sides[2]) / 299 < 1.4


def test_a_fault_inside_the_search_costs_nothing(rig_of, monkeypatch):
    """OpenCV 5.0's USAC ends in an assertion with the matches of some scenes of few planes (Middlebury's sawtooth)."""
    rng, rig = np.random.default_rng(0), rig_of(0)
    plain = replace(rig, left=replace(rig.left, distortion=()), right=replace(rig.right, distortion=()))
    plain = replace(plain, right=replace(plain.right, fx=plain.left.fx, fy=plain.left.fy))
    matches = Matches(*scene(rng, plain, 600)[1:])
    search, tried = cv2.findFundamentalMat, []

    def faulty(left, right, method, *rest):
        tried.append(method)
        if method == cv2.USAC_MAGSAC:
            raise cv2.error("estimator.cpp:418: error: (-215:Assertion failed) !model.empty()")
        return search(left, right, method, *rest)

    monkeypatch.setattr(cv2, "findFundamentalMat", faulty)
    made = rectify_matches(matches, (400, 300))
    assert tried == [cv2.USAC_MAGSAC, cv2.FM_RANSAC]
    assert np.median(np.abs(made.error)) < 0.4


def test_a_real_pair_turned_a_little_is_set_straight(motorcycle):
    left, right, _ = motorcycle
    turn = cv2.getRotationMatrix2D((370, 250), 1.5, 1.0)
    turn[1, 2] += 9
    crooked = cv2.warpAffine(right, turn, (741, 500), borderMode=cv2.BORDER_REPLICATE)
    before = vertical_error(left, crooked)
    assert before is None or before.median_absolute > 1.5
    made = rectify_uncalibrated(left, crooked)
    one, other = made(left, crooked)
    after = vertical_error(one, other, made.masks)
    assert after.matches > 100
    assert after.median_absolute < 0.4


def test_an_image_of_another_size_is_refused_without_a_calibration_too():
    none = Matches(np.zeros((0, 2)), np.zeros((0, 2)))
    made = UncalibratedRectification(np.eye(3), np.eye(3), (40, 30), none, 40.0, 0.0)
    image, other = np.zeros((30, 40, 3), np.uint8), np.zeros((40, 30, 3), np.uint8)
    assert made(image, image)[0].shape == image.shape
    for pair in ((image, other), (other, image)):
        with pytest.raises(InputError, match="the image is 30x40 and the rectification for 40x30"):
            made(*pair)


def test_what_matches_cannot_tell_is_told():
    blank = np.full((100, 120, 3), 128, np.uint8)
    with pytest.raises(InputError, match="at least 30"):
        rectify_uncalibrated(blank, blank)
    with pytest.raises(InputError, match="one size"):
        rectify_uncalibrated(blank, blank[:50])
    assert len(match_points(blank, blank)) == 0
    assert vertical_error(blank, blank) is None


def test_a_camera_that_moved_forward_is_refused():
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-2, 2, (400, 2)), rng.uniform(3, 12, 400)])
    left, right = (300 * p[:, :2] / p[:, 2:] + [200, 150] for p in (points, points - [0.01, 0.01, 1.0]))
    with pytest.raises(InputError, match="in front of the other"):
        rectify_matches(Matches(left, right), (400, 300))
