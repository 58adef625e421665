"""PLY, PCD and GLB: golden bytes, and read back by independent readers."""

from __future__ import annotations

import io

import numpy as np
import pytest
import trimesh

from depthlight.core.errors import InputError
from depthlight.geometry.cloud import PointCloud
from depthlight.io.cloud_files import encode_pcd, encode_ply, packed_rgb

POINTS = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, 3.0], [-2.0, 1.0, 4.5]], np.float32)
COLOURS = np.array([[255, 0, 10], [1, 2, 3], [128, 64, 200]], np.uint8)
NORMALS = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]], np.float32)


def test_ply_bytes_are_these():
    expected = (
        b"ply\nformat binary_little_endian 1.0\ncomment unit metre; x right, y down, z forward\nelement vertex 1\n"
        b"property float x\nproperty float y\nproperty float z\nproperty float nx\nproperty float ny\n"
        b"property float nz\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
        b"\x00\x00\x00?\x00\x00\x80\xbf\x00\x00\x00@" + np.float32([0, 0, -1]).tobytes() + b"\xff\x00\x0a"
    )
    assert encode_ply(POINTS[:1], COLOURS[:1], NORMALS[:1]) == expected


def test_pcd_bytes_are_these():
    expected = (
        b"# .PCD v0.7 - Point Cloud Data file format\n# unit metre; x right, y down, z forward\nVERSION 0.7\n"
        b"FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 1\nHEIGHT 1\n"
        b"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 1\nDATA binary\n"
        b"\x00\x00\x00?\x00\x00\x80\xbf\x00\x00\x00@\x0a\x00\xff\x00"
    )
    assert encode_pcd(POINTS[:1], COLOURS[:1]) == expected


def read_pcd(data: bytes) -> dict[str, np.ndarray]:
    """By the words of the format's own description (pointclouds.org/documentation/tutorials/pcd_file_format.html)."""
    head, body = data.split(b"DATA binary\n", 1)
    lines = dict(line.split(" ", 1) for line in head.decode().splitlines() if not line.startswith("#"))
    kinds = {"F4": "<f4", "U4": "<u4"}
    fields = zip(lines["FIELDS"].split(), lines["TYPE"].split(), lines["SIZE"].split(), strict=True)
    table = np.frombuffer(body, [(name, kinds[kind + size]) for name, kind, size in fields])
    assert len(table) == int(lines["POINTS"]) == int(lines["WIDTH"]) * int(lines["HEIGHT"])
    return {name: table[name] for name in table.dtype.names}


def test_pcd_reads_back():
    read = read_pcd(encode_pcd(POINTS, COLOURS, NORMALS))
    np.testing.assert_array_equal(np.stack([read[axis] for axis in "xyz"], 1), POINTS)
    np.testing.assert_array_equal(np.stack([read[f"normal_{axis}"] for axis in "xyz"], 1), NORMALS)
    bits = read["rgb"].view("<u4")
    np.testing.assert_array_equal(np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], 1), COLOURS)


def test_packed_colours_are_not_changed_by_being_floats():
    every = np.random.default_rng(0).integers(0, 256, (4096, 3), dtype=np.uint8)
    assert np.array_equal(packed_rgb(every).view("<u4") >> 24, np.zeros(4096))
    assert np.array_equal(packed_rgb(every).astype("<f4").view("<u4") & 255, every[:, 2])


@pytest.mark.parametrize("colours", [COLOURS, None])
def test_ply_reads_back_with_trimesh(colours):
    read = trimesh.load(io.BytesIO(encode_ply(POINTS, colours, NORMALS)), file_type="ply")
    np.testing.assert_array_equal(np.asarray(read.vertices, np.float32), POINTS)
    if colours is not None:
        np.testing.assert_array_equal(np.asarray(read.colors)[:, :3], colours)


def test_glb_points_are_in_gltfs_axes_and_linear_colours(tmp_path):
    PointCloud(POINTS, COLOURS).save(tmp_path / "a.glb")
    scene = trimesh.load(tmp_path / "a.glb")
    (cloud,) = scene.geometry.values()
    np.testing.assert_array_equal(np.asarray(cloud.vertices, np.float32), POINTS * [1, -1, -1])
    linear = np.asarray(cloud.colors)[:, :3] / 255
    back = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(back * 255 - COLOURS).max() <= 7  # 8 bits of linear light are coarse in the dark
    assert scene.metadata["unit"] == "metre"


def test_clouds_without_colours_and_empty_ones_have_all_formats(tmp_path):
    for cloud in (PointCloud(POINTS), PointCloud(POINTS[:0], COLOURS[:0])):
        for suffix in ("ply", "pcd"):
            cloud.save(tmp_path / f"a.{suffix}")
            assert f"{len(cloud.points)}".encode() in (tmp_path / f"a.{suffix}").read_bytes()
    PointCloud(POINTS).save(tmp_path / "a.glb")
    with pytest.raises(InputError, match="no point"):
        PointCloud(POINTS[:0]).save(tmp_path / "b.glb")


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.ply, \.pcd or \.glb"):
        PointCloud(POINTS).save(tmp_path / "a.obj")
