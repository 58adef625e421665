"""RGB-D folders as their readers expect them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from depthlight import StereoRig
from depthlight.core.errors import InputError, LimitError, UnknownNameError
from depthlight.geometry.depth import DepthMap
from depthlight.geometry.rgbd import MARKER, Frame, export_rgbd, need_replaceable

RIG = StereoRig(fx=50, fy=51, cx=4.25, cy=2.75, baseline=0.1, width=9, height=6)


def frame(name: str, z: float = 2.0, pose: np.ndarray | None = None, rig: StereoRig = RIG) -> Frame:
    depth = np.full((6, 9), z, np.float32)
    depth[0, 0] = 0
    colour = np.random.default_rng(len(name)).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Frame(name, colour, DepthMap(depth, depth > 0, rig), pose)


def values(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_tum(tmp_path):
    frames = [frame("b", 1.2346), frame("a", 13.0)]
    assert export_rgbd(tmp_path / "t", "tum", frames) == ["b", "a"]
    lines = [line.split() for line in (tmp_path / "t/associations.txt").read_text().splitlines()]
    assert [line[1::2] for line in lines] == [["rgb/b.png", "depth/b.png"], ["rgb/a.png", "depth/a.png"]]
    assert [float(line[0]) for line in lines] == [0, 1] and all(line[0] == line[2] for line in lines)
    for name in ("rgb.txt", "depth.txt"):
        rows = [row for row in (tmp_path / "t" / name).read_text().splitlines() if not row.startswith("#")]
        assert [row.split()[1] for row in rows] == [f"{name[:-4]}/b.png", f"{name[:-4]}/a.png"]
    stored = values(tmp_path / "t/depth/b.png")
    assert stored.dtype == np.uint16 and stored[0, 0] == 0 and stored[3, 3] == round(1.2346 * 5000)
    assert np.array_equal(values(tmp_path / "t/rgb/b.png"), frames[0].colour_HW3)


def test_open3d(tmp_path):
    export_rgbd(tmp_path / "o", "open3d", [frame("a", 60.5)])
    camera = json.loads((tmp_path / "o/intrinsic.json").read_text())
    matrix = np.array(camera["intrinsic_matrix"]).reshape(3, 3, order="F")
    assert (camera["width"], camera["height"]) == (9, 6)
    assert matrix.tolist() == [[50, 0, 4.25], [0, 51, 2.75], [0, 0, 1]]
    assert values(tmp_path / "o/depth/a.png")[3, 3] == 60500
    assert (tmp_path / "o/color/a.png").is_file()


def test_nerfstudio_places_points_where_the_pose_says(tmp_path):
    """A point of the picture, taken through their conventions, lands where ours put it."""
    turn = np.array([[0, 0, 1, 0.5], [1, 0, 0, -1], [0, 1, 0, 2], [0, 0, 0, 1]], float)
    frames = [frame("a", 2, turn), frame("b", 2, rig=replace(RIG, fx=70))]
    export_rgbd(tmp_path / "n", "nerfstudio", frames)
    content = json.loads((tmp_path / "n/transforms.json").read_text())
    assert content["camera_model"] == "OPENCV"
    assert [content[name] for name in ("k1", "k2", "p1", "p2")] == [0, 0, 0, 0]
    told = content["frames"][0]
    z = values(tmp_path / "n" / told["depth_file_path"])[4, 7] / 1000
    right, up = (7 + 0.5 - told["cx"]) / told["fl_x"] * z, -(4 + 0.5 - told["cy"]) / told["fl_y"] * z
    world = np.array(told["transform_matrix"]) @ [right, up, -z, 1]
    np.testing.assert_allclose(world, turn @ [*frames[0].depth.points()[4, 7], 1], atol=1e-6)
    assert np.array_equal(content["frames"][1]["transform_matrix"], np.eye(4))
    assert content["frames"][1]["fl_x"] == 70
    assert (tmp_path / "n" / told["file_path"]).is_file()


@pytest.mark.parametrize(
    ("layout", "axes"), [("nerfstudio", "x right, y up, z backward"), ("tum", "x right, y down, z forward")]
)
def test_an_export_states_unit_scale_and_axes(layout, axes, tmp_path):
    export_rgbd(tmp_path / "e", layout, [frame("a")])
    stated = json.loads((tmp_path / "e" / MARKER).read_text())
    assert (stated["layout"], stated["unit"], stated["axes"], stated["frames"]) == (layout, "m", axes, ["a"])
    assert values(tmp_path / "e" / "depth/a.png")[3, 3] == 2 * stated["depth_scale"]


def test_what_a_layout_cannot_hold_is_refused(tmp_path):
    with pytest.raises(LimitError, match=r"at most 13\.107 m"):
        export_rgbd(tmp_path / "a", "tum", [frame("a", 14)])
    with pytest.raises(LimitError, match=r"at most 65\.535 m"):
        export_rgbd(tmp_path / "b", "open3d", [frame("a", 70)])
    with pytest.raises(InputError, match="another camera"):
        export_rgbd(tmp_path / "c", "tum", [frame("a"), frame("b", rig=replace(RIG, cx=0))])
    with pytest.raises(InputError, match="called 'a'"):
        export_rgbd(tmp_path / "d", "open3d", [frame("a"), frame("a")])
    with pytest.raises(InputError, match="without folders"):
        export_rgbd(tmp_path / "i", "tum", [frame("../a")])
    assert not (tmp_path / "a.png").exists()
    with pytest.raises(InputError, match="no frame"):
        export_rgbd(tmp_path / "e", "tum", [])
    with pytest.raises(UnknownNameError, match="tum"):
        export_rgbd(tmp_path / "f", "tums", [frame("a")])
    with pytest.raises(InputError, match="colour image"):
        export_rgbd(tmp_path / "g", "tum", [replace(frame("a"), colour_HW3=np.zeros((6, 8, 3), np.uint8))])
    with pytest.raises(InputError, match="pose"):
        export_rgbd(tmp_path / "h", "nerfstudio", [frame("a", pose=np.eye(3))])


@pytest.mark.parametrize("layout", ["tum", "open3d", "nerfstudio"])
def test_a_second_export_leaves_nothing_of_the_first_and_nothing_else_is_touched(layout, tmp_path):
    export_rgbd(tmp_path / "x", layout, [frame("a"), frame("b")])
    (tmp_path / "x/depth/mine.png").write_bytes(b"")
    export_rgbd(tmp_path / "x", layout, [frame("c")])
    assert sorted(path.name for path in (tmp_path / "x/depth").iterdir()) == ["c.png", "mine.png"]
    (tmp_path / "y").mkdir()
    (tmp_path / "y/export.json").write_text(json.dumps({"layout": layout, "frames": ["../../x/depth/c"]}))
    with pytest.raises(InputError, match="something else"):
        export_rgbd(tmp_path / "y", layout, [frame("c")])
    assert (tmp_path / "x/depth/c.png").is_file()


@pytest.mark.parametrize("layout", ["tum", "open3d", "nerfstudio"])
def test_what_a_failed_export_leaves_is_known_and_replaced(layout, tmp_path):
    folder = tmp_path / "x"
    export_rgbd(folder, layout, [frame("old")])
    for good in (1, 0):
        with pytest.raises(LimitError):
            export_rgbd(folder, layout, [*(frame(name) for name in "ab"[:good]), frame("deep", 70)])
        assert json.loads((folder / MARKER).read_text())["whole"] is False
    need_replaceable(folder, layout)
    export_rgbd(folder, layout, [frame("c")])
    assert [path.name for path in (folder / "depth").iterdir()] == ["c.png"]
    assert json.loads((folder / MARKER).read_text())["whole"] is True


def test_a_folder_of_something_else_is_told(tmp_path):
    need_replaceable(tmp_path / "none", "tum")
    need_replaceable(tmp_path, "tum")
    export_rgbd(tmp_path / "o", "open3d", [frame("a")])
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "o", tmp_path / "file"):
        with pytest.raises(InputError, match="something else than a tum export"):
            need_replaceable(path, "tum")
