"""Fields of ROS 2 messages as plain values: no ROS is imported here, and no message type is needed to test it.

Each function returns a mapping whose keys are the message's field names; sub-messages are mappings, arrays of them are
lists, binary data are ``bytes``; ``header`` is passed on as it is given. ``docs/how-to/ros2.md`` has a node that fills
real messages from them. The frame is the left camera's optical frame (REP 103: x right, y down, z forward): ours.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..io.cloud_files import packed_rgb
from .cloud import PointCloud
from .depth import DepthMap
from .rig import StereoRig

FLOAT32 = 7  # sensor_msgs/PointField
DELTA_D = 1 / 256  # px: our estimates are continuous; this is the step of a disparity file
_BIG_ENDIAN = sys.byteorder == "big"


def image_fields(values_HW: NDArray[np.float32], header: Any = None) -> dict[str, Any]:
    """``sensor_msgs/Image`` of encoding 32FC1 from an (H, W) map (depth in metres as REP 118 has it: NaN = unknown).

    Raises:
        InputError: not (H, W) float32.
    """
    if values_HW.ndim != 2 or values_HW.dtype != np.float32:
        raise InputError(f"the image is {values_HW.dtype} of shape {values_HW.shape}", expected="float32 of (H, W)")
    height, width = values_HW.shape
    return {
        "header": header or {},
        "height": height,
        "width": width,
        "encoding": "32FC1",
        "is_bigendian": int(_BIG_ENDIAN),
        "step": 4 * width,
        "data": np.ascontiguousarray(values_HW).tobytes(),
    }


def disparity_image_fields(
    disparity_HW: NDArray[np.float32],
    valid_HW: NDArray[np.bool_],
    rig: StereoRig,
    *,
    max_disp: int,
    min_disp: int = 0,
    header: Any = None,
) -> dict[str, Any]:
    """``stereo_msgs/DisparityImage`` of a prediction that searched ``min_disp`` to ``max_disp`` px.

    ROS wants ``d = x_left - x_right - (cx_left - cx_right)``, so that ``Z = f · t / d``: ours plus ``doffs``. What is
    not valid is ``min_disparity - 1``, as ``stereo_image_proc`` marks it. ``valid_window`` is the smallest that holds
    all valid pixels.

    Raises:
        InputError: wrong shapes, or the rig belongs to images of another shape.
    """
    if disparity_HW.ndim != 2 or valid_HW.shape != disparity_HW.shape:
        raise InputError(f"disparity is {disparity_HW.shape} and valid {valid_HW.shape}", expected="one (H, W)")
    height, width = disparity_HW.shape
    rig = rig.resized(width, height)
    lowest = max(0.0, min_disp + rig.doffs)
    total_HW = disparity_HW.astype(np.float64) + rig.doffs
    valid_HW = valid_HW & (total_HW > 0)  # what is not lies beyond infinity
    adjusted_HW = np.where(valid_HW, total_HW, lowest - 1).astype(np.float32)
    return {
        "header": header or {},
        "image": image_fields(adjusted_HW, header),
        "f": float(rig.fx),
        "t": float(rig.baseline),
        "valid_window": _window(valid_HW),
        "min_disparity": lowest,
        "max_disparity": float(max_disp + rig.doffs),
        "delta_d": DELTA_D,
    }


def point_cloud2_fields(cloud: PointCloud, header: Any = None) -> dict[str, Any]:
    """``sensor_msgs/PointCloud2`` of a cloud: one row, x y z and, if there are colours, rgb packed as PCL does."""
    return _point_cloud2(cloud.points[None], None if cloud.colours is None else cloud.colours[None], header, True)


def organised_cloud_fields(
    depth: DepthMap, colour_HW3: NDArray[np.uint8] | None = None, header: Any = None
) -> dict[str, Any]:
    """``sensor_msgs/PointCloud2`` with a point for every pixel; NaN, and ``is_dense`` false, where there is no depth.

    Raises:
        InputError: the colour image has another size.
    """
    if colour_HW3 is not None and colour_HW3.shape != (*depth.depth.shape, 3):
        raise InputError(
            f"the colour image has shape {colour_HW3.shape}",
            expected=f"{depth.depth.shape[0]}×{depth.depth.shape[1]}×3",
        )
    points_HW3 = np.where(depth.valid[:, :, None], depth.points(), np.float32(np.nan))
    return _point_cloud2(points_HW3, colour_HW3, header, bool(depth.valid.all()))


def _point_cloud2(
    points_HW3: NDArray[np.float32], colour_HW3: NDArray[np.uint8] | None, header: Any, dense: bool
) -> dict[str, Any]:
    names = ["x", "y", "z"]
    columns = [points_HW3.astype(np.float32)]
    if colour_HW3 is not None:
        names.append("rgb")
        columns.append(packed_rgb(colour_HW3)[:, :, None])
    data = np.concatenate(columns, axis=2)
    height, width, count = data.shape
    return {
        "header": header or {},
        "height": height,
        "width": width,
        "fields": [
            {"name": name, "offset": 4 * index, "datatype": FLOAT32, "count": 1} for index, name in enumerate(names)
        ],
        "is_bigendian": _BIG_ENDIAN,
        "point_step": 4 * count,
        "row_step": 4 * count * width,
        "data": data.tobytes(),
        "is_dense": dense,
    }


def _window(valid_HW: NDArray[np.bool_]) -> dict[str, Any]:
    """``sensor_msgs/RegionOfInterest`` round what is true."""
    rows, columns = np.flatnonzero(valid_HW.any(axis=1)), np.flatnonzero(valid_HW.any(axis=0))
    if not len(rows):
        return {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    return {
        "x_offset": int(columns[0]),
        "y_offset": int(rows[0]),
        "height": int(rows[-1] - rows[0]) + 1,
        "width": int(columns[-1] - columns[0]) + 1,
        "do_rectify": False,
    }
