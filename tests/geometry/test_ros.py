"""Message fields by the definitions of stereo_msgs and sensor_msgs, decoded as a subscriber would."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from depthlight import PointCloud, StereoRig
from depthlight.core.errors import InputError
from depthlight.geometry.depth import disparity_to_depth
from depthlight.geometry.ros import (
    disparity_image_fields,
    image_fields,
    organised_cloud_fields,
    point_cloud2_fields,
)

RIG = StereoRig(fx=100, fy=101, cx=9.5, cy=4.5, baseline=0.2, doffs=3, width=20, height=10)
HEADER = {"frame_id": "left_optical"}
DISPARITY = np.random.default_rng(0).uniform(1, 30, (10, 20)).astype(np.float32)
VALID = np.indices((10, 20))[1] >= 4


def decoded_image(fields):
    assert fields["encoding"] == "32FC1"
    kind = ">f4" if fields["is_bigendian"] else "<f4"
    rows = np.frombuffer(fields["data"], np.uint8).reshape(fields["height"], fields["step"])
    return rows.view(kind)[:, : fields["width"]]


def decoded_cloud(fields):
    order = ">" if fields["is_bigendian"] else "<"
    kind = np.dtype(
        {
            "names": [field["name"] for field in fields["fields"]],
            "formats": [{7: order + "f4"}[field["datatype"]] for field in fields["fields"]],
            "offsets": [field["offset"] for field in fields["fields"]],
            "itemsize": fields["point_step"],
        }
    )
    assert fields["row_step"] == fields["point_step"] * fields["width"]
    assert len(fields["data"]) == fields["row_step"] * fields["height"]
    return np.frombuffer(fields["data"], kind).reshape(fields["height"], fields["width"])


def test_no_ros_is_imported():
    assert not {"rclpy", "sensor_msgs", "stereo_msgs"} & set(sys.modules)


def test_depth_from_a_disparity_image_is_ours():
    fields = disparity_image_fields(DISPARITY, VALID, RIG, max_disp=192, header=HEADER)
    assert set(fields) == {
        "header", "image", "f", "t", "valid_window", "min_disparity", "max_disparity", "delta_d",
    }  # fmt: skip
    seen = decoded_image(fields["image"])
    usable = seen >= fields["min_disparity"]
    assert np.array_equal(usable, VALID)
    depth = disparity_to_depth(DISPARITY, RIG, valid_HW=VALID)
    np.testing.assert_allclose(fields["f"] * fields["t"] / seen[usable], depth.depth[VALID], rtol=1e-6)
    assert (fields["max_disparity"], fields["image"]["header"]) == (195, HEADER)
    window = {"x_offset": 4, "y_offset": 0, "width": 16, "height": 10, "do_rectify": False}
    assert fields["valid_window"] == window


def test_a_negative_offset_never_yields_depth_behind_the_camera():
    fields = disparity_image_fields(DISPARITY, VALID, replace(RIG, doffs=-10), max_disp=192)
    seen = decoded_image(fields["image"])
    assert fields["min_disparity"] == 0
    assert np.array_equal(seen >= 0, VALID & (DISPARITY > 10))


def test_disparities_below_zero_are_inside_the_range_that_was_searched():
    rig = replace(RIG, doffs=30)
    fields = disparity_image_fields(DISPARITY - 20, VALID, rig, max_disp=128, min_disp=-64)
    assert (fields["min_disparity"], fields["max_disparity"]) == (0, 158)
    assert np.array_equal(decoded_image(fields["image"]) >= fields["min_disparity"], VALID & (DISPARITY - 20 > -30))
    assert disparity_image_fields(DISPARITY, VALID, rig, max_disp=128, min_disp=-16)["min_disparity"] == 14


def test_nothing_valid_has_an_empty_window():
    fields = disparity_image_fields(DISPARITY, np.zeros_like(VALID), RIG, max_disp=192)
    assert not any(fields["valid_window"].values())
    assert (decoded_image(fields["image"]) < fields["min_disparity"]).all()


def test_a_cloud_of_points():
    points = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    colours = np.random.default_rng(2).integers(0, 256, (50, 3), dtype=np.uint8)
    fields = point_cloud2_fields(PointCloud(points, colours), HEADER)
    (row,) = decoded_cloud(fields)
    np.testing.assert_array_equal(np.stack([row[axis] for axis in "xyz"], 1), points)
    bits = np.ascontiguousarray(row["rgb"]).view("<u4" if sys.byteorder == "little" else ">u4")
    np.testing.assert_array_equal(np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], 1), colours)
    assert fields["is_dense"] and fields["header"] == HEADER
    assert len(point_cloud2_fields(PointCloud(points))["fields"]) == 3


def test_an_organised_cloud_has_a_point_for_every_pixel():
    depth = disparity_to_depth(DISPARITY, RIG, valid_HW=VALID)
    colours = np.zeros((10, 20, 3), np.uint8)
    fields = organised_cloud_fields(depth, colours)
    grid = decoded_cloud(fields)
    assert (fields["height"], fields["width"], fields["is_dense"]) == (10, 20, False)
    assert np.array_equal(np.isnan(grid["z"]), ~VALID)
    np.testing.assert_array_equal(grid["z"][VALID], depth.depth[VALID])
    assert organised_cloud_fields(disparity_to_depth(DISPARITY, RIG))["is_dense"]


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError):
        image_fields(np.zeros((2, 2), np.float64))
    with pytest.raises(InputError):
        disparity_image_fields(DISPARITY, VALID[:3], RIG, max_disp=192)
    with pytest.raises(InputError):
        organised_cloud_fields(disparity_to_depth(DISPARITY, RIG), np.zeros((3, 3, 3), np.uint8))
