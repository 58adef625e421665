"""Lens models against OpenCV, their inverses, and resize and crop (X13)."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthlight import StereoRig
from depthlight.core.errors import InputError
from depthlight.core.tolerances import tolerance
from depthlight.geometry.cameras import Camera, StereoCameras, to_matrix

LENS = Camera(fx=500.0, fy=510.0, cx=322.0, cy=236.5, width=640, height=480)


@pytest.fixture
def points():
    rng = np.random.default_rng(3)
    return np.column_stack([rng.uniform(-0.6, 0.6, (300, 2)), np.ones(300)]) * rng.uniform(0.5, 20, (300, 1))


@pytest.mark.parametrize("count", [0, 4, 5, 8, 12, 14])
def test_pinhole_lenses_are_opencvs(points, count):
    bent = np.random.default_rng(count).uniform(-0.05, 0.05, count)
    camera = replace(LENS, distortion=tuple(map(float, bent)))
    expected = cv2.projectPoints(points[:, None], np.zeros(3), np.zeros(3), camera.matrix(), camera.coefficients())[0]
    found = camera.project(points)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-9)
    np.testing.assert_allclose(camera.rays(found), points[:, :2] / points[:, 2:], atol=1e-9)


def test_fisheye_lenses_are_opencvs(points):
    camera = replace(LENS, fx=300.0, fy=301.0, model="fisheye", distortion=(0.03, -0.01, 0.002, -0.0004))
    wide = points * [3.5, 3.5, 1]
    zero = np.zeros((3, 1))
    expected = cv2.fisheye.projectPoints(wide[:, None], zero, zero, camera.matrix(), camera.coefficients())[0]
    found = camera.project(wide)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-9)
    np.testing.assert_allclose(camera.rays(found), wide[:, :2] / wide[:, 2:], rtol=1e-8, atol=1e-9)


def test_what_is_behind_or_beyond_is_unknown():
    assert np.isnan(LENS.project(np.array([[0, 0, -1.0], [0, 0, 0]]))).all()
    camera = replace(LENS, fx=100.0, fy=100.0, model="fisheye", distortion=(0.0,) * 4)
    assert np.isnan(camera.rays(np.array([[1000.0, 236.5]]))).all()  # 388° from the axis: no such ray


sizes = st.integers(40, 4000)


@given(sizes, sizes, st.floats(0.1, 8), st.floats(0.1, 8), st.floats(0.3, 3))
def test_scaling_k_commutes_with_resizing(width, height, one, two, focal):  # X13
    def scaled(factor):
        return max(1, round(width * factor)), max(1, round(height * factor))

    camera = Camera(fx=focal * width, fy=focal * width, cx=width * 0.4, cy=height * 0.6, width=width, height=height)
    rig = StereoRig(
        **{k: getattr(camera, k) for k in ("fx", "fy", "cx", "cy", "width", "height")}, baseline=0.1, doffs=7
    )
    try:
        steps = [
            (thing.resized(*scaled(one)).resized(*scaled(two)), thing.resized(*scaled(two))) for thing in (camera, rig)
        ]
    except InputError:
        return  # rounding to whole pixels changed the shape by more than 1 %
    for by_two_steps, at_once in steps:
        for name in ("fx", "fy", "cx", "cy"):
            scale = max(1.0, at_once.width, at_once.height)
            assert abs(getattr(by_two_steps, name) - getattr(at_once, name)) / scale <= tolerance("geometry.resize")
    assert abs(steps[1][0].doffs - steps[1][1].doffs) <= tolerance("geometry.resize") * max(1, abs(steps[1][1].doffs))


@given(st.floats(0.3, 3), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_resized_camera_sees_the_resized_image(factor, x, y):
    camera = replace(LENS, distortion=(-0.2, 0.05, 0.001, -0.001))
    size = round(640 * factor), round(480 * factor)
    if abs(size[0] / 640 / (size[1] / 480) - 1) > 0.01:
        return
    point = np.array([[x, y, 1.0]])
    before, after = camera.project(point), camera.resized(*size).project(point)
    expected = (before + 0.5) * [size[0] / 640, size[1] / 480] - 0.5
    np.testing.assert_allclose(after, expected, atol=1e-6)


@given(st.integers(-50, 200), st.integers(-50, 200), st.integers(-80, 80))
def test_cropping_moves_pixels_and_keeps_metres(x, y, right):
    camera = LENS.cropped(x, y, 300, 200)
    point = np.array([[0.3, -0.2, 2.0]])
    np.testing.assert_allclose(camera.project(point), LENS.project(point) - [x, y], atol=1e-9)
    rig = StereoRig(fx=500, fy=500, cx=320, cy=240, baseline=0.1, width=640, height=480, doffs=3)
    part = rig.cropped(x, y, 300, 200, x_right=x + right)
    disparity = 25.0  # before; the right view's columns now begin elsewhere
    assert disparity - (x - (x + right)) + part.doffs == pytest.approx(disparity + rig.doffs)


def test_a_crop_of_two_cameras_is_a_crop_of_each():
    rig = StereoRig(fx=500, fy=501, cx=320, cy=240, baseline=0.1, width=640, height=480, doffs=3)
    cameras = rig.cameras()
    part = cameras.cropped(40, 30, 200, 100)
    for camera, whole in ((part.left, cameras.left), (part.right, cameras.right)):
        assert (camera.width, camera.height) == (200, 100)
        assert (camera.cx, camera.cy) == (whole.cx - 40, whole.cy - 30)
    np.testing.assert_array_equal(part.T, cameras.T)


def test_a_rig_is_also_two_cameras():
    rig = StereoRig(fx=500, fy=501, cx=320, cy=240, baseline=0.1, width=640, height=480, doffs=3)
    cameras = rig.cameras()
    point = np.array([[0.2, 0.1, 3.0]])
    left, right = cameras.left.project(point), cameras.right.project(point + cameras.translation())
    assert left[0, 1] == right[0, 1]
    assert 500 * 0.1 / (left[0, 0] - right[0, 0] + rig.doffs) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "change",
    [
        {"fx": 0.0},
        {"fy": -1.0},
        {"width": 0},
        {"cx": float("nan")},
        {"fx": float("inf")},
        {"model": "orthographic"},
        {"distortion": (1.0,)},
        {"distortion": (0.0, 0.0, 0.0, float("nan"))},
        {"model": "fisheye", "distortion": (0.0,) * 5},
    ],
)
def test_bad_cameras_are_refused(change):
    with pytest.raises(InputError):
        replace(LENS, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"R": to_matrix(np.diag([1.0, 1.0, -1.0]))},
        {"R": to_matrix(np.eye(3) * 1.01)},
        {"R": to_matrix(np.full((3, 3), np.nan))},
        {"T": (0.0, 0.0, 0.0)},
        {"T": (float("inf"), 0.0, 0.0)},
    ],
)
def test_bad_poses_are_refused(change):
    with pytest.raises(InputError):
        replace(StereoCameras(left=LENS, right=LENS, T=(-0.1, 0.0, 0.0)), **change)


def test_another_shape_is_refused():
    with pytest.raises(InputError, match="the camera is for 640x480"):
        LENS.resized(640, 400)
