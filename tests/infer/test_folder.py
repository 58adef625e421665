"""Prediction folders: whole or not at all, of one run, and readable back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from depthlight import StereoRig
from depthlight.core.errors import InputError, OutputError
from depthlight.geometry.cloud import CLOUD_FORMATS
from depthlight.infer.folder import is_complete, need_apart, need_writable, save_prediction
from depthlight.infer.metres import DEPTH_FORMATS, Metres
from depthlight.infer.mono_folder import save_mono
from depthlight.infer.mono_prediction import MonoPrediction
from depthlight.infer.owned import EVERY, MONO, RESULT, STEREO
from depthlight.infer.prediction import ModelIdentity, StereoPrediction
from depthlight.io.disparity_files import read_disparity

LEFT = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
RIG = StereoRig(fx=100, fy=100, cx=15, cy=10, baseline=0.1, width=30, height=20)


@pytest.fixture
def prediction():
    disparity = np.full((20, 30), 4, np.float32)
    valid = np.ones((20, 30), bool)
    valid[:, :4] = False
    identity = ModelIdentity("light.test", "0" * 64, "torch", "fp32", "cpu")
    return StereoPrediction(disparity, np.full_like(disparity, 0.5), valid, 0.0, identity, 192, 0.1)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_second_run_leaves_nothing_of_the_first(tmp_path, prediction):
    both = replace(prediction, disparity_right=prediction.disparity, confidence=np.ones((20, 30), np.float32))
    everything = Metres(depth=DEPTH_FORMATS, cloud=CLOUD_FORMATS, mesh=True)
    save_prediction(tmp_path, both, LEFT, formats=("npy", "pfm", "tiff"), rig=RIG, metres=everything)
    assert names(tmp_path) == set(STEREO)
    (tmp_path / "notes.txt").write_text("mine")
    result = save_prediction(tmp_path, prediction, LEFT)
    assert names(tmp_path) == {*result["files"], RESULT, "notes.txt"}
    assert not {"depth.npy", "cloud.ply", "disparity.npy", "disparity_right.png"} & names(tmp_path)


def test_a_result_of_another_kind_leaves_nothing_behind(tmp_path, prediction):
    ramp = np.linspace(1, 2, 600, dtype=np.float32).reshape(20, 30)
    seen = MonoPrediction(ramp, "depth", prediction.model, (20, 30), 0.1, focal=30.0, focal_from="given")
    both = np.hstack([LEFT, LEFT])
    kinds = (
        (STEREO, lambda: save_prediction(tmp_path, prediction, LEFT)),
        (MONO, lambda: save_mono(tmp_path, seen, LEFT, formats=("npy",), side_by_side=both)),
    )
    for own, save in kinds:
        for name in EVERY:
            (tmp_path / name).write_bytes(b"of an earlier result")
        (tmp_path / RESULT).write_text(json.dumps({"files": [*EVERY, "notes.txt", "../outside.txt"]}))
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path.parent / "outside.txt").write_text("mine")
        result = save()
        assert names(tmp_path) == {*result["files"], RESULT, "notes.txt"} <= {*own, "notes.txt"}
        assert all((tmp_path / name).read_bytes() != b"of an earlier result" for name in names(tmp_path))
        assert (tmp_path.parent / "outside.txt").read_text() == "mine"


def test_files_of_somebody_else_are_left_alone(tmp_path, prediction):
    (tmp_path / "normals.png").write_text("mine")
    save_prediction(tmp_path, prediction, LEFT)
    assert (tmp_path / "normals.png").read_text() == "mine"


def test_what_belongs_to_a_result_is_there_before_it_is_vouched_for(tmp_path, prediction):
    def more():
        assert (tmp_path / "preview.png").is_file() and not (tmp_path / RESULT).exists()
        return ["before.npy"], {"steps_done": 3}

    result = save_prediction(tmp_path, prediction, LEFT, more=more)
    assert json.loads((tmp_path / RESULT).read_text()) == result
    assert "before.npy" in result["files"] and result["steps_done"] == 3


def test_an_interrupted_run_is_not_taken_for_whole(tmp_path, prediction, monkeypatch):
    save_prediction(tmp_path, prediction, LEFT, request={"a": 1})
    assert is_complete(tmp_path, {"a": 1})

    def full(*args, **kwargs):
        raise OutputError("the disk is full")

    monkeypatch.setattr("depthlight.infer.folder.write_image", full)
    with pytest.raises(OutputError):
        save_prediction(tmp_path, prediction, LEFT, request={"a": 1})
    assert not (tmp_path / RESULT).exists()
    assert not is_complete(tmp_path, {"a": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"rig": replace(RIG, width=40, height=20)},
        {"truth_HW": np.ones((5, 5), np.float32)},
        {"formats": ("exr",)},
        {"rig": RIG, "metres": Metres(nearest=100)},
    ],
    ids=["rig", "truth", "format", "range"],
)
def test_what_cannot_be_written_leaves_the_old_result(tmp_path, prediction, wrong):
    save_prediction(tmp_path, prediction, LEFT, request={"a": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError):
        save_prediction(tmp_path, prediction, LEFT, **wrong)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_valid_and_the_right_view_are_files(tmp_path, prediction):
    right = np.full((20, 30), 5, np.float32)
    result = save_prediction(tmp_path, replace(prediction, disparity_right=right), LEFT)
    assert {"valid.png", "disparity_right.png"} <= set(result["files"])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "valid.png")), np.where(prediction.valid, 255, 0))
    of_right, stored = (read_disparity(tmp_path / f"{name}.png") for name in ("disparity_right", "disparity"))
    np.testing.assert_array_equal(of_right.disparity_HW, right)
    assert (of_right.meta["view"], stored.meta["view"]) == ("right", "left")
    assert {"disparity.json", "disparity_right.json"} <= set(result["files"])
    assert stored.valid_HW.all()  # dense, whatever is valid


def test_of_the_right_view_only_what_was_computed_is_known(tmp_path, prediction):
    computed = np.zeros((20, 30), bool)
    computed[5:15, 10:] = True
    right = np.where(computed, np.float32(5), np.float32(0))
    save_prediction(tmp_path, replace(prediction, disparity_right=right, region_right=computed), LEFT)
    np.testing.assert_array_equal(read_disparity(tmp_path / "disparity_right.png").valid_HW, computed)


def test_a_folder_in_the_way_is_one_line(tmp_path, prediction):
    (tmp_path / "depth.npy").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*depth\.npy"):
        save_prediction(tmp_path, prediction, LEFT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 10**5,
        '{"request": {"a": 1}}',
        '{"request": {"a": 1}, "files": 3}',
        '{"request": {"a": 1}, "files": [1]}',
        '{"request": {"a": 1}, "files": ["../x"]}',
    ],
)
def test_a_strange_result_is_not_a_whole_one(tmp_path, text):
    (tmp_path.parent / "x").write_text("")
    (tmp_path / RESULT).write_text(text)
    assert not is_complete(tmp_path, {"a": 1})


def test_a_missing_file_makes_it_incomplete(tmp_path, prediction):
    save_prediction(tmp_path, prediction, LEFT, request={"a": 1})
    assert not is_complete(tmp_path, {"a": 2})
    assert json.loads((tmp_path / RESULT).read_text())["request"] == {"a": 1}
    (tmp_path / "valid.png").unlink()
    assert not is_complete(tmp_path, {"a": 1})


def test_inputs_are_kept_apart_links_followed(tmp_path):
    (tmp_path / "out").mkdir()
    image = tmp_path / "out/preview.png"
    image.write_bytes(b"")
    (tmp_path / "link.png").symlink_to(image)
    (tmp_path / "also").symlink_to(tmp_path / "out")
    (tmp_path / "out/left.png").write_bytes(b"")
    need_apart([tmp_path / "out"], [tmp_path / "out/left.png", None, tmp_path / "none.png"])
    for path, folder in ((image, "out"), (tmp_path / "link.png", "out"), (image, "also")):
        with pytest.raises(InputError, match="would be replaced"):
            need_apart([tmp_path / "elsewhere", tmp_path / folder], [path])


@pytest.mark.parametrize("name", ["disparity.png", "normals.png", "relit.png"])
def test_what_any_kind_of_result_would_remove_is_no_input(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="would be replaced"):
        need_apart([tmp_path], [tmp_path / name])


def test_a_folder_is_tried_out_and_left_empty(tmp_path):
    need_writable(tmp_path / "new/folder")
    assert names(tmp_path / "new/folder") == set()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write into"):
        need_writable(tmp_path / "file/folder")
