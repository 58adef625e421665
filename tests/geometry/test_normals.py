"""Normals without torch. tests/refine/test_render.py holds them equal to the renderer's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.core.errors import InputError, UnknownNameError
from depthlight.geometry.normals import has_normal, normals_orthographic, normals_pinhole, pseudo_depth

FX, FY, CX, CY = 40.0, 42.0, 9.0, 7.0
ROWS, COLUMNS = np.mgrid[:15, :20].astype(np.float64)


def test_planes_come_out_exact_under_a_pinhole():
    towards = np.array([-0.4, 0.3, 0.9]) / np.linalg.norm([-0.4, 0.3, 0.9])
    ray = np.stack([(COLUMNS - CX) / FX, (CY - ROWS) / FY, -np.ones_like(ROWS)], -1)  # right, up, towards the viewer
    depth = -2 / (ray @ towards)
    assert (depth > 0).all()
    normal = normals_pinhole(depth, FX, FY, CX, CY)
    assert np.abs(normal - towards).max() < 1e-12
    assert np.abs(normals_pinhole(37 * depth, FX, FY, CX, CY) - towards).max() < 1e-12
    mirrored = normals_pinhole(depth, FX, FY, CX, CY, convention="paper")
    assert np.abs(mirrored - towards * [-1, -1, 1]).max() < 1e-12


def test_a_sphere_under_a_pinhole():
    ray = np.stack([(COLUMNS - CX) / FX, (CY - ROWS) / FY, -np.ones_like(ROWS)], -1)
    middle, radius = np.array([0.0, 0.0, -5.0]), 3.0
    along, square = ray @ middle, (ray**2).sum(-1)
    depth = (along - np.sqrt(along**2 - square * (middle @ middle - radius**2))) / square
    truth = (depth[..., None] * ray - middle) / radius
    found = normals_pinhole(depth, FX, FY, CX, CY)
    angle = np.degrees(np.arccos(np.clip((found * truth).sum(-1), -1, 1)))
    assert angle[1:-1, 1:-1].max() < 0.5


def test_an_even_slope_by_hand_under_the_orthographic_camera():
    # the picture is 2·20/15 wide and 2 high, so one column is 2.667/19 and one row 2/14
    normal = normals_orthographic(3 + 0.2 * COLUMNS - 0.1 * ROWS)
    expected = np.array([0.2 / (2 * 20 / 15 / 19), 0.1 / (2 / 14), 1.0])
    assert np.abs(normal - expected / np.linalg.norm(expected)).max() < 1e-12


def test_holes_and_their_neighbours_face_away():
    depth = 2 + 0.1 * COLUMNS
    depth[4, 5], depth[10, 0] = np.nan, -1
    valid = np.ones(depth.shape, bool)
    valid[7, 12] = False
    known = has_normal(depth, valid)
    assert (~known).sum() == 5 + 4 + 5  # the one at the border has one neighbour less
    for normal in (normals_orthographic(depth, valid), normals_pinhole(depth, FX, FY, CX, CY, valid)):
        assert np.isfinite(normal).all()
        assert (normal[~known] == [0, 0, -1]).all()
        assert (normal[known][:, 2] > 0).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(0, 6), dtype=st.sampled_from([np.float32, np.float64]))
def test_normals_are_unit_and_of_the_type_of_the_depth(seed, spread, dtype):
    depth = np.exp(np.random.default_rng(seed).uniform(-spread, spread, (6, 7))).astype(dtype)
    for normal in (normals_orthographic(depth), normals_pinhole(depth, FX, FY, 3, 2.5)):
        assert normal.dtype == dtype
        assert np.abs(np.linalg.norm(normal, axis=-1) - 1).max() < 1e-5


def test_pseudo_depth_by_hand():
    raw = np.array([[0.0, 0.6], [1.3, 6.9]], np.float32)
    assert pseudo_depth(raw) == pytest.approx(np.array([[70, 10], [5, 1]]), rel=1e-6)
    assert pseudo_depth(raw).dtype == np.float32
    with pytest.raises(InputError, match="negative"):
        pseudo_depth(raw - 1)
    with pytest.raises(InputError, match="positive"):
        pseudo_depth(raw, shift=0.0)


def test_wrong_input_is_told():
    depth = np.ones((4, 5))
    with pytest.raises(InputError, match="2x2"):
        normals_orthographic(depth[:1])
    with pytest.raises(InputError, match="floats"):
        normals_pinhole(depth.astype(int), FX, FY, CX, CY)
    with pytest.raises(InputError, match="mask"):
        has_normal(depth, np.ones((5, 4), bool))
    with pytest.raises(InputError, match="focal"):
        normals_pinhole(depth, 0, FY, CX, CY)
    with pytest.raises(UnknownNameError, match="convention"):
        normals_pinhole(depth, FX, FY, CX, CY, convention="mirror")  # type: ignore[arg-type]
