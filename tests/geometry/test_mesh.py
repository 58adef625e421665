"""The mesh, read back from its file and rendered from the left camera, is the depth it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from depthlight import StereoRig
from depthlight.core.errors import InputError
from depthlight.core.tolerances import tolerance
from depthlight.geometry.depth import DepthMap, disparity_to_depth
from depthlight.io.disparity_files import read_disparity
from depthlight.io.images import read_image

pytest.importorskip("numba")
from depthlight.data.synth import raster

FROZEN = Path(__file__).parents[1] / "eval" / "frozen_pairs"


def frozen(name: str) -> tuple[DepthMap, np.ndarray]:
    truth = read_disparity(FROZEN / name / "disp.png")
    height, width = truth.disparity_HW.shape
    rig = StereoRig(fx=400, fy=400, cx=width / 2 - 3, cy=height / 2 + 2, baseline=0.12, width=width, height=height)
    return disparity_to_depth(truth.disparity_HW, rig, valid_HW=truth.valid_HW), read_image(FROZEN / name / "left.webp")


def rendered(mesh: trimesh.Trimesh, rig: StereoRig) -> tuple[np.ndarray, np.ndarray]:
    """Depth (0 where nothing is seen) and triangle of every pixel, from the left camera, by the engine's rasteriser."""
    corners = (np.asarray(mesh.vertices) * [1, -1, -1])[np.asarray(mesh.faces)].astype(np.float32)
    grid = raster.Grid.centres(rig.width, rig.height)
    key_HW, triangle_HW = raster.buffers(grid)
    count = len(corners)
    solid = raster.Cutout(
        np.full(count, -1, np.int32),
        np.zeros((count, 3, 2), np.float32),
        np.zeros((1, 3), np.int64),
        np.zeros(4, np.uint8),
    )
    raster.fill(raster.perspective(corners, rig.fx, rig.cx, rig.cy, 0.01), grid, key_HW, triangle_HW, 100.0, solid)
    return np.divide(1, key_HW, out=np.zeros_like(key_HW), where=triangle_HW >= 0), triangle_HW


@pytest.mark.parametrize("name", ["layered", "meshes"])
@pytest.mark.parametrize("step", [1, 3])
def test_rendering_the_mesh_gives_the_depth_back(name, step, tmp_path):
    depth, left = frozen(name)
    made = depth.to_mesh(left, step=step)
    made.save(tmp_path / "mesh.glb")
    (mesh,) = trimesh.load(tmp_path / "mesh.glb").geometry.values()
    seen_HW, triangle_HW = rendered(mesh, depth.rig)
    both = depth.valid & (triangle_HW >= 0)
    assert both.mean() > (0.85 if step == 1 else 0.6)
    error = np.abs(seen_HW[both] / depth.depth[both] - 1)
    assert np.median(error) <= tolerance("mesh.depth.median")
    assert np.percentile(error, 99) <= 0.05


def test_every_vertex_carries_the_colour_of_its_pixel(tmp_path):
    depth, left = frozen("layered")
    depth.to_mesh(left, step=2).save(tmp_path / "mesh.glb")
    (mesh,) = trimesh.load(tmp_path / "mesh.glb").geometry.values()
    x, y, z = np.asarray(mesh.vertices).T
    columns = np.rint(depth.rig.fx * x / -z + depth.rig.cx).astype(int)
    rows = np.rint(depth.rig.fy * -y / -z + depth.rig.cy).astype(int)
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    height, width = texture.shape[:2]
    u, v = np.asarray(mesh.visual.uv).T
    shown = texture[np.floor((1 - v) * height).astype(int), np.floor(u * width).astype(int)]
    np.testing.assert_array_equal(shown, left[rows, columns])


def test_triangles_face_the_camera():
    depth, left = frozen("meshes")
    mesh = depth.to_mesh(left, step=2)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2).astype(np.float64) * [1, -1, -1]
    towards = (np.cross(b - a, c - a) * a).sum(axis=1)
    assert (towards < 0).all()  # counter-clockwise as seen: the normal points back to the origin


def test_no_triangle_spans_an_edge():
    rig = StereoRig(fx=100, fy=100, cx=20, cy=10, baseline=0.1, width=40, height=20)
    disparity = np.full((20, 40), 4, np.float32)
    disparity[:, 20:] = 20
    disparity[5, 7] = 0  # a hole: no depth
    depth = disparity_to_depth(disparity, rig)
    for step in (1, 2, 3):
        mesh = depth.to_mesh(np.zeros((20, 40, 3), np.uint8), step=step)
        z = mesh.vertices[mesh.faces][:, :, 2]
        assert np.ptp(z, axis=1).max() == 0
        assert len(np.unique(mesh.faces)) == len(mesh.vertices)  # no vertex without a triangle
    assert len(depth.to_mesh(np.zeros((20, 40, 3), np.uint8)).faces) == 2 * (19 * 39 - 19 - 4)


def test_what_cannot_be_a_mesh_is_refused(tmp_path):
    depth, left = frozen("layered")
    with pytest.raises(InputError, match=r"\.glb"):
        depth.to_mesh(left).save(tmp_path / "a.obj")
    for step in (0, -1, 10_000):
        with pytest.raises(InputError, match="grid step"):
            depth.to_mesh(left, step=step)
    with pytest.raises(InputError, match="texture"):
        depth.to_mesh(left[:-1])
    with pytest.raises(InputError, match="no triangle"):
        depth.between(1e-4, 2e-4).to_mesh(left).save(tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())
