"""Edges and tails on scenes whose truth is known; normals of planes; thinning and strays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight import PointCloud, StereoRig
from depthlight.core.errors import InputError, LimitError
from depthlight.geometry.depth import DepthMap, disparity_to_depth
from depthlight.geometry.surface import find_jumps, largest_part, tails

HEIGHT, WIDTH, EDGE = 90, 160, 80
RIG = StereoRig(fx=200, fy=200, cx=79.5, cy=44.5, baseline=0.1, doffs=2, width=WIDTH, height=HEIGHT)
ROWS, COLUMNS = (axis.astype(np.float64) for axis in np.indices((HEIGHT, WIDTH)))


def floor_and_wall() -> tuple[np.ndarray, np.ndarray]:
    """Disparities of a slanted floor and of a slanted wall in front of it."""
    return 5 + 0.08 * ROWS, 25 + 0.05 * COLUMNS


def step_scene(ramp: int, noise: float = 0.02) -> DepthMap:
    """The wall right of column EDGE, the floor left of it, and between them a ramp of ``ramp`` px."""
    floor, wall = floor_and_wall()
    share = np.clip((COLUMNS - EDGE + ramp / 2) / ramp, 0, 1) if ramp else (COLUMNS >= EDGE).astype(float)
    disparity = floor * (1 - share) + wall * share
    disparity += np.random.default_rng(0).normal(0, noise, disparity.shape)
    return disparity_to_depth(disparity.astype(np.float32), RIG)


def between(depth: DepthMap) -> np.ndarray:
    """Pixels that are on neither of the two surfaces."""
    floor, wall = floor_and_wall()
    disparity = RIG.fx * RIG.baseline / np.where(depth.valid, depth.depth, 1) - RIG.doffs
    place = (disparity - floor) / (wall - floor)
    return depth.valid & (place > 0.02) & (place < 0.98)


@pytest.mark.parametrize("ramp", [0, 1, 2, 3, 5, 8, 12])
def test_no_point_is_left_between_two_surfaces(ramp):
    depth = step_scene(ramp)
    clean = depth.without_tails()
    assert between(depth).any() == (ramp > 0)
    assert between(clean).sum() == 0
    lost = depth.valid & ~clean.valid & ~between(depth)
    assert lost.sum() <= 0.002 * depth.valid.sum()  # the surfaces themselves stay, up to the edge


@pytest.mark.parametrize("turned", [False, True], ids=["across", "down"])
def test_a_slant_is_no_edge_however_steep(turned):
    disparity = (10 + 0.9 * (ROWS if turned else COLUMNS)).astype(np.float32)
    valid = np.ones(disparity.shape, bool)
    jumps = find_jumps(disparity, valid)
    inner = np.s_[10:-10, 10:-10]
    assert not jumps.across_HW[inner].any() and not jumps.down_HW[inner].any()
    assert not tails(disparity, valid)[inner].any()


@pytest.mark.parametrize("width", [1, 2, 3])
def test_thin_things_stay(width):
    floor, _ = floor_and_wall()
    disparity = floor.copy()
    disparity[:, EDGE : EDGE + width] = 40
    hanging = tails(disparity.astype(np.float32), np.ones(disparity.shape, bool))
    assert not hanging[:, EDGE : EDGE + width].any()


def test_edges_are_where_the_step_is_and_know_their_sign():
    jumps = step_scene(0, noise=0).jumps()
    assert (jumps.across_HW[:, EDGE - 1] == 1).all()
    assert np.count_nonzero(jumps.across_HW) == HEIGHT
    assert jumps.touched().sum() == 2 * HEIGHT


def test_invalid_pixels_have_no_edges():
    depth = step_scene(0)
    valid = depth.valid.copy()
    valid[:, EDGE - 1] = False
    disparity = (RIG.fx * RIG.baseline / depth.depth).astype(np.float32)
    jumps = find_jumps(disparity, valid)
    assert not jumps.across_HW[:, EDGE - 2 : EDGE].any()


def test_images_smaller_than_the_reach_are_no_problem():
    for shape in ((1, 1), (1, 5), (3, 2)):
        depth = disparity_to_depth(np.ones(shape, np.float32), replace(RIG, width=shape[1], height=shape[0]))
        assert depth.without_tails().valid.all()
        assert depth.normals().shape == (*shape, 3)


@given(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2))
@settings(max_examples=30, deadline=None)
def test_normals_of_a_plane_are_the_planes(across, down):
    """z = 4 + a x + b y has the normal (a, b, -1), which faces the camera."""
    x, y = (COLUMNS - RIG.cx) / RIG.fx, (ROWS - RIG.cy) / RIG.fy
    z = 4 / (1 - across * x - down * y)
    depth = DepthMap(z.astype(np.float32), np.ones(z.shape, bool), RIG)
    expected = np.array([across, down, -1]) / np.linalg.norm([across, down, -1])
    np.testing.assert_allclose(depth.normals(), np.broadcast_to(expected, (*z.shape, 3)), atol=2e-3)
    assert ((depth.normals() * depth.points()).sum(axis=2) < 0).all()


def test_normals_do_not_mix_two_surfaces():
    depth = step_scene(0, noise=0)
    normals = depth.normals()
    floor_only = disparity_to_depth(floor_and_wall()[0].astype(np.float32), RIG).normals()
    np.testing.assert_allclose(normals[1:-1, EDGE - 1], floor_only[1:-1, EDGE - 1], atol=5e-3)


def test_unsure_pixels_can_be_left_out():
    sigma = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    sigma[:, :10] = 5
    depth = disparity_to_depth(np.full((HEIGHT, WIDTH), 20, np.float32), RIG, sigma_HW=sigma)
    assert not depth.confident().valid[:, :10].any() and depth.confident().valid[:, 10:].all()
    assert depth.confident(within=6).valid.all()
    assert replace(depth, sigma=None).confident().valid.all()
    with pytest.raises(InputError):
        depth.confident(within=0)


def test_the_largest_part():
    keep = np.zeros((6, 9), bool)
    keep[0, :2] = keep[2:5, 4:8] = True
    assert largest_part(keep).sum() == 12
    assert not largest_part(np.zeros((3, 3), bool)).any()


# Clouds


def test_one_point_per_voxel_and_it_is_the_mean():
    points = np.array([[0, 0, 1], [0.02, 0, 1], [5, 5, 5], [5.04, 5.02, 5]], np.float32)
    colours = np.array([[0, 0, 0], [100, 50, 2], [7, 7, 7], [9, 9, 9]], np.uint8)
    normals = np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1], [0, 0, -1]], np.float32)
    thin = PointCloud(points, colours, normals).thinned(0.1)
    order = np.argsort(thin.points[:, 0])
    np.testing.assert_allclose(thin.points[order], [[0.01, 0, 1], [5.02, 5.01, 5]], atol=1e-6)
    assert thin.colours[order].tolist() == [[50, 25, 1], [8, 8, 8]]
    np.testing.assert_allclose(np.linalg.norm(thin.normals, axis=1), 1, atol=1e-6)


@given(st.floats(0.01, 3), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_thinning_leaves_a_point_near_every_point(voxel, seed):
    points = np.random.default_rng(seed).normal(0, 2, (300, 3)).astype(np.float32)
    thin = PointCloud(points).thinned(voxel).points
    assert len(thin) <= len(points)
    nearest = np.linalg.norm(points[:, None] - thin[None], axis=2).min(axis=1)
    assert nearest.max() <= voxel * np.sqrt(3) * 1.001


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_strays_go_and_company_stays(seed):
    rng = np.random.default_rng(seed)
    crowd = rng.uniform(0, 1, (400, 3))
    lonely = np.array([[20.0, 0, 0], [0, -30, 0], [0, 0, 40]])
    cloud = PointCloud(np.concatenate([crowd, lonely]).astype(np.float32), np.zeros((403, 3), np.uint8))
    kept = cloud.without_strays(1.0)
    assert len(kept.points) == len(kept.colours) == 400
    distances = np.linalg.norm(cloud.points[:, None] - cloud.points[None], axis=2)
    company = (distances <= 0.2).sum(axis=1) - 1 >= 4
    near = {tuple(point) for point in cloud.without_strays(0.2).points}
    assert all(tuple(point) in near for point in cloud.points[company])  # exact neighbours always count


def test_sizes_that_make_no_sense_are_refused():
    cloud = PointCloud(np.array([[0, 0, 0], [1e6, 0, 0]], np.float32))
    for side in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive number"):
            cloud.thinned(side)
    with pytest.raises(LimitError, match="too small for a cloud of 1e\\+06 m"):
        cloud.thinned(1e-3)
    empty = PointCloud(np.zeros((0, 3), np.float32))
    assert len(empty.thinned(1).points) == len(empty.without_strays(1).points) == 0
