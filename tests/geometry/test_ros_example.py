"""The node of docs/how-to/ros2.md, run with stand-ins for the ROS modules that know only the messages' fields."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ros2.md"
FIELDS = {
    "Image": "header height width encoding is_bigendian step data",
    "RegionOfInterest": "x_offset y_offset height width do_rectify",
    "PointField": "name offset datatype count",
    "PointCloud2": "header height width fields is_bigendian point_step row_step data is_dense",
    "CameraInfo": "header height width p",
    "DisparityImage": "header image f t valid_window min_disparity max_disparity delta_d",
}


def message_class(name: str) -> type:
    """A class that takes the fields of the message's definition and no others, as generated ones do."""
    return type(name, (), {"__slots__": tuple(FIELDS[name].split())})


class StandInNode:
    def __init__(self, name):
        self.published = {}

    def create_publisher(self, kind, topic, qos):
        return SimpleNamespace(publish=lambda message: self.published.__setitem__(topic, message))


@pytest.fixture
def example(monkeypatch):
    modules = {name: ModuleType(name) for name in ("rclpy", "rclpy.node", "rclpy.qos", "message_filters")}
    modules |= {name: ModuleType(name) for name in ("sensor_msgs", "sensor_msgs.msg", "stereo_msgs", "stereo_msgs.msg")}
    modules["rclpy.node"].Node = StandInNode
    modules["rclpy.qos"].qos_profile_sensor_data = None
    modules["message_filters"].Subscriber = lambda node, kind, topic, qos_profile: topic
    modules["message_filters"].ApproximateTimeSynchronizer = lambda inputs, queue_size, slop: SimpleNamespace(
        registerCallback=lambda function: None
    )
    for name in FIELDS:
        setattr(
            modules["stereo_msgs.msg" if name == "DisparityImage" else "sensor_msgs.msg"], name, message_class(name)
        )
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "rclpy" in block)
    space = {"__name__": "example"}
    exec(compile(code, "ros2.md", "exec"), space)
    return space


def image(example, pixels, encoding):
    made = example["Image"]()
    made.header, made.encoding = "stamp", encoding
    made.height, made.width = pixels.shape[:2]
    padded = np.pad(pixels.reshape(pixels.shape[0], -1), ((0, 0), (0, 5)))  # rows may be longer than the picture
    made.step, made.data = padded.shape[1], padded.tobytes()
    return made


def info(example, cx, shift):
    made = example["CameraInfo"]()
    made.width, made.height = 96, 64
    made.p = [80.0, 0, cx, shift, 0, 80, 32, 0, 0, 0, 1, 0]
    return made


def test_the_node_publishes_what_depthlight_found(example, make_pair):
    left, right = make_pair(8, 64, 96)
    node = example["DepthlightNode"]()
    node.on_pair(
        image(example, left[:, :, ::-1], "bgr8"), image(example, right, "rgb8"), info(example, 47.0, 0.0),
        info(example, 49.0, -8.0),
    )  # fmt: skip
    disparity, cloud = node.published["disparity"], node.published["points2"]
    assert (disparity.f, disparity.t, disparity.header, disparity.image.header) == (80, 0.1, "stamp", "stamp")
    values = np.frombuffer(disparity.image.data, "<f4").reshape(64, 96)
    assert np.median(values[values >= disparity.min_disparity]) == pytest.approx(10, abs=0.5)  # 8 px and doffs of 2
    points = np.frombuffer(cloud.data, "<f4").reshape(64, 96, 4)
    assert np.nanmedian(points[:, :, 2]) == pytest.approx(0.8, rel=0.05)
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb"]


def test_gray_pictures_are_taken_too(example, make_pair):
    gray = make_pair(8, 64, 96)[0][:, :, 0]
    assert np.array_equal(example["pixels"](image(example, gray, "mono8")), np.repeat(gray[:, :, None], 3, axis=2))
