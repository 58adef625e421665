"""The rasteriser and the built-in solids: exact depth, what hides what, closed shapes."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from depthlight.core.errors import MissingExtraError
from depthlight.core.tolerances import tolerance
from depthlight.data.synth import solids, things

pytest.importorskip("numba")
from depthlight.data.synth import raster, render

HEIGHT, WIDTH, FOCAL = 48, 80, 70.0
PINHOLE = (FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)


def inverse_depth(corners_F33: np.ndarray, near: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    grid = raster.Grid.centres(WIDTH, HEIGHT)
    key_HW, triangle_HW = raster.buffers(grid)
    count = len(corners_F33)
    cutout = raster.Cutout(
        np.full(count, -1, np.int32),
        np.zeros((count, 3, 2), np.float32),
        np.zeros((1, 3), np.int64),
        np.zeros(4, np.uint8),
    )
    prepared = raster.perspective(corners_F33.astype(np.float32), *PINHOLE, near)
    raster.fill(prepared, grid, key_HW, triangle_HW, 1 / near, cutout)
    return key_HW, triangle_HW


def rays() -> np.ndarray:
    rows, columns = np.indices((HEIGHT, WIDTH))
    return np.stack([(columns - PINHOLE[1]) / FOCAL, (rows - PINHOLE[2]) / FOCAL, np.ones_like(rows, float)], -1)


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.7, -0.3), (-1.1, 0.9)])
def test_a_plane_has_its_analytic_disparity(slope: tuple[float, float]) -> None:
    """z = 3 + a x + b y: at every pixel 1/z = (1 - a X - b Y) / 3."""
    a, b = slope
    corners = np.array([(x, y, 3 + a * x + b * y) for x, y in [(-40, -40), (40, -40), (40, 40), (-40, 40)]], float)
    key_HW, triangle_HW = inverse_depth(corners[[[0, 1, 2], [0, 2, 3]]])
    expected_HW = (1 - a * rays()[..., 0] - b * rays()[..., 1]) / 3
    seen = triangle_HW >= 0
    assert seen.mean() > 0.5
    focal_baseline = 60.0
    assert np.abs(focal_baseline * (key_HW - expected_HW))[seen].max() < tolerance("synth.disparity")


@pytest.mark.parametrize("near", [0.01, 4.1])
def test_a_plane_through_the_camera_is_cut_at_the_near_distance(near: float) -> None:
    """A floor from behind the camera to far ahead covers everything below the horizon up to the near plane."""
    floor = np.array([[(-90, 1, -5), (90, 1, -5), (90, 1, 900)], [(-90, 1, -5), (90, 1, 900), (-90, 1, 900)]], float)
    key_HW, triangle_HW = inverse_depth(floor, near=near)
    expected_HW = np.maximum(rays()[..., 1], 0)
    ahead_HW = expected_HW > 1 / 80  # nearer than the floor's sides
    seen_HW = triangle_HW >= 0
    assert np.array_equal(seen_HW[ahead_HW], expected_HW[ahead_HW] <= 1 / near)
    np.testing.assert_allclose(key_HW[seen_HW], expected_HW[seen_HW], atol=1e-7)
    assert (expected_HW > 0.25).any(), "so that cutting at 4.1 m leaves something out"


def test_a_sphere_lies_between_its_radius_and_its_facets() -> None:
    centre, radius = np.array([0.2, -0.1, 4.0]), 1.3
    mesh = solids.sphere(radius, 200).moved(*centre)
    key_HW, triangle_HW = inverse_depth(mesh.positions_F33)
    direction = rays()
    b = direction @ centre
    square = b**2 - (direction**2).sum(-1) * (centre @ centre - radius**2)
    inside = square > 0.15
    nearer = (b - np.sqrt(square.clip(0))) / (direction**2).sum(-1)
    assert (triangle_HW[inside] >= 0).all()
    error = 1 / key_HW[inside] - nearer[inside]
    assert error.min() > -1e-5
    assert error.max() < 3 * radius * (np.pi / 200) ** 2


def test_the_nearer_triangle_wins_whatever_the_order() -> None:
    near, far = (np.array([(-9, -9, z), (9, -9, z), (0, 20, z)], float) for z in (2.0, 5.0))
    for corners in (np.stack([near, far]), np.stack([far, near])):
        key_HW, _ = inverse_depth(corners)
        assert key_HW[HEIGHT // 2, WIDTH // 2] == pytest.approx(0.5)


def test_neighbouring_triangles_leave_no_gap() -> None:
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-4, 4, 30), np.linspace(-4, 4, 30))
    points = np.stack([x, y, 3 + 0.05 * rng.standard_normal(x.shape)], -1)
    _, triangle_HW = inverse_depth(solids.surface(points).positions_F33)
    assert (triangle_HW >= 0).all()


def test_degenerate_and_hidden_triangles_are_passed_over() -> None:
    point, line = np.ones((3, 3)), np.array([(0, 0, 2), (1, 1, 4), (2, 2, 6)], float)
    behind = np.array([(-9, -9, -2), (9, -9, -2), (0, 20, -2)], float)
    _, triangle_HW = inverse_depth(np.stack([point, line, behind]))
    assert (triangle_HW < 0).all()


def closed(mesh: solids.Mesh) -> bool:
    """Whether every edge (by position) belongs to an even number of triangles."""
    points = np.round(mesh.positions_F33.astype(float) / 2e-5).astype(np.int64)
    _, index = np.unique(points.reshape(-1, 3), axis=0, return_inverse=True)
    corner = index.reshape(-1, 3)
    corner = corner[(corner[:, 0] != corner[:, 1]) & (corner[:, 1] != corner[:, 2]) & (corner[:, 2] != corner[:, 0])]
    edges = np.sort(np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    return bool((count % 2 == 0).all())


SHAPES = {
    "box": solids.box(1, 2, 3),
    "cylinder": solids.cylinder(0.5, 2),
    "cone": solids.cone(0.5, 2),
    "sphere": solids.sphere(1),
    "torus": solids.torus(1, 0.2),
    "superquadric": solids.superquadric((1, 0.5, 2), (0.4, 1.6)),
    "tube": solids.tube(solids.spline([(0, 0, 0), (1, 0, 1), (2, 1, 0)], 20), 0.05),
    "lathe": solids.lathe([(0, 0), (1, 0.5), (0.4, 1), (0, 1.5)]),
    "extruded": solids.extruded([(0, 0), (2, 0), (2, 1), (0, 1)], 0.3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_solids_are_closed_and_finite(name: str) -> None:
    mesh = SHAPES[name]
    assert closed(mesh)
    assert all(np.isfinite(a).all() for a in (mesh.positions_F33, mesh.normals_F33, mesh.uvs_F32))
    np.testing.assert_allclose(np.linalg.norm(mesh.normals_F33, axis=-1), 1, atol=1e-4)


def test_closedness_notices_a_hole() -> None:
    mesh = solids.box(1, 1, 1)
    assert not closed(solids.Mesh(mesh.positions_F33[1:], mesh.normals_F33[1:], mesh.uvs_F32[1:], mesh.slot_F[1:]))


@pytest.mark.parametrize("thing", things.ALL, ids=lambda thing: thing.__name__)
def test_things_are_finite_and_stand_near_the_ground(thing: things.Thing) -> None:
    leafy = {"plant", "grass", "tree", "bush"}
    for seed in range(4):
        mesh = thing(np.random.default_rng(seed))
        assert all(np.isfinite(a).all() for a in (mesh.positions_F33, mesh.normals_F33, mesh.uvs_F32))
        assert mesh.positions_F33[..., 1].min() > -0.8
        assert set(np.unique(mesh.slot_F)) <= {0, 1, 2, 3}
        assert thing.__name__ in leafy or closed(mesh)


def test_rotations_keep_normals_perpendicular() -> None:
    mesh = solids.box(1, 1, 1).transformed(solids.rotation(0.3, 0.7, -0.2) @ np.diag([1, 3, 0.5]))
    edge = mesh.positions_F33[:, 1] - mesh.positions_F33[:, 0]
    assert np.abs((edge * mesh.normals_F33[:, 0]).sum(-1)).max() < 1e-5


def test_without_numba_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, raster.__name__)
    with pytest.raises(MissingExtraError, match=r"depthlight\[train\]"):
        importlib.import_module(raster.__name__)


def still_life(emission: float = 0.0) -> tuple[render.Stage, render.Camera, render.Lighting]:
    stage, camera = render.Stage(), render.Camera(focal=120.0, position=(0.0, 1.0, 0.0), near=0.5)
    checks = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8)))[..., None] * np.array([200.0, 180, 160]) + 30
    floor = render.Material(texture=stage.texture(checks), metres=2.0, emission=emission)
    stage.add(solids.quad((-50, 0, -1), (100, 0, 0), (0, 0, 90)), floor)
    render.backdrop(stage, camera, 64, 128, np.full((8, 8, 3), 150, np.float32))
    panorama = np.full((64, 128, 3), 0.3, np.float32)
    light = render.Lighting((0.3, 1.0, -0.2), (2.0, 2.0, 2.0), (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), panorama)
    return stage, camera, light


def test_a_box_throws_a_shadow_and_only_beside_itself() -> None:
    stage, camera, light = still_life()
    bare = render.render_pair(stage, camera, light, 64, 128, 20.0)
    stage.add(solids.box(0.8, 0.8, 0.8).moved(y=1.2, z=5), render.Material())
    shaded = render.render_pair(stage, camera, light, 64, 128, 20.0)
    same = bare.disparity_HW == shaded.disparity_HW
    # the same floor is darker where the box stands in the light, brightness being set by the picture as a whole
    ratio = shaded.left_HW3[same].mean(-1) / bare.left_HW3[same].mean(-1)
    assert (ratio < 0.8 * np.median(ratio)).mean() > 0.005


def test_a_pane_shows_in_the_picture_but_not_in_the_truth() -> None:
    stage, camera, light = still_life()
    bare = render.render_pair(stage, camera, light, 64, 128, 20.0)
    glass = render.Material(colour=(0.9, 0.1, 0.1), f0=0.06, opacity=0.4)
    stage.add(solids.quad((-0.5, 0.2, 2), (1, 0, 0), (0, 1, 0)), glass, casts=False)
    glazed = render.render_pair(stage, camera, light, 64, 128, 20.0)
    assert np.array_equal(bare.disparity_HW, glazed.disparity_HW)
    assert (np.abs(bare.left_HW3 - glazed.left_HW3).max(-1) > 5).mean() > 0.02


def test_sky_has_the_smallest_disparity() -> None:
    stage, camera, light = still_life()
    pair = render.render_pair(stage, camera, light, 64, 128, 20.0)
    assert pair.disparity_HW.min() == render.MIN_DISPARITY
    assert pair.disparity_HW.max() == pytest.approx(20.0, rel=1e-5)


def test_far_texture_fades_to_its_mean_instead_of_aliasing() -> None:
    stage, camera, light = still_life(emission=1.0)
    pair = render.render_pair(stage, camera, light, 64, 128, 20.0)
    horizon = np.flatnonzero(pair.disparity_HW[:, 0] > 0.05)[0]
    far, near = pair.left_HW3[horizon : horizon + 2].std(), pair.left_HW3[-6:].std()
    assert far < 0.25 * near
