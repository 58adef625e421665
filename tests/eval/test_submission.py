from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from depthlight.core.errors import InputError, LimitError, NonFiniteError, UnknownNameError
from depthlight.eval.submission import write_eth3d, write_kitti, write_middlebury

DISPARITY = np.array([[0.0, 1.25, 200.5], [30.0, 7.0, 0.001]], np.float32)


def read_pfm_by_hand(path: Path) -> np.ndarray:
    kind, size, scale, data = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    assert kind == b"Pf"
    assert float(scale) < 0  # little-endian
    return np.frombuffer(data, "<f4").reshape(height, width)[::-1]


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_kitti(tmp_path: Path) -> None:
    path = write_kitti(tmp_path, "000000_10", DISPARITY)
    assert files(tmp_path) == ["disp_0/000000_10.png"]
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, [[1, 320, 51328], [7680, 1792, 1]])  # 0 would mean "no estimate"


def test_middlebury(tmp_path: Path) -> None:
    path = write_middlebury(tmp_path, "trainingH", "Adirondack", "LIGHT", DISPARITY, seconds=0.5)
    assert files(tmp_path) == ["trainingH/Adirondack/disp0LIGHT.pfm", "trainingH/Adirondack/timeLIGHT.txt"]
    np.testing.assert_array_equal(read_pfm_by_hand(path), DISPARITY)
    assert float((path.parent / "timeLIGHT.txt").read_text()) == 0.5


def test_eth3d(tmp_path: Path) -> None:
    path = write_eth3d(tmp_path, "delivery_area_1l", DISPARITY, seconds=1.25)
    assert files(tmp_path) == ["low_res_two_view/delivery_area_1l.pfm", "low_res_two_view/delivery_area_1l.txt"]
    np.testing.assert_array_equal(read_pfm_by_hand(path), DISPARITY)
    assert path.with_suffix(".txt").read_text() == "runtime 1.25\n"


def test_what_a_server_would_refuse_is_refused_here(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frame"):
        write_kitti(tmp_path, "10", DISPARITY)
    with pytest.raises(LimitError, match="255"):
        write_kitti(tmp_path, "000000_10", DISPARITY + 60)
    with pytest.raises(NonFiniteError):
        write_eth3d(tmp_path, "a", np.full((2, 2), np.nan, np.float32), seconds=1)
    with pytest.raises(UnknownNameError, match="trainingH"):
        write_middlebury(tmp_path, "trainH", "Art", "M", DISPARITY, seconds=1)
    for scene in ("../Art", "a/b", "", ".hidden"):
        with pytest.raises(InputError, match="scene name"):
            write_eth3d(tmp_path, scene, DISPARITY, seconds=1)
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="seconds"):
            write_middlebury(tmp_path, "testF", "Art", "M", DISPARITY, seconds=seconds)
    assert files(tmp_path) == []
