"""``depthlight stereo``: what it writes, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from depthlight.core import registry
from depthlight.io.disparity_files import read_disparity

FILES = {"disparity.png", "disparity.json", "valid.png", "confidence.png", "preview.png", "result.json"}


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_pair_gives_a_prediction_folder(call, tmp_path, pair):
    out = tmp_path / "out"
    status, text, _ = call("stereo", *pair, "-o", out, "--format", "npy,pfm,tiff")
    assert status == 0
    assert f"by {registry.DEFAULT_MODEL} in" in text
    assert names(out) == FILES | {"disparity.npy", "disparity.pfm", "disparity.tiff"}
    exact = np.load(out / "disparity.npy")
    assert exact.shape == (64, 96)
    stored = read_disparity(out / "disparity.png")
    assert np.abs(stored.disparity_HW - exact).max() <= 1 / 256
    np.testing.assert_array_equal(read_disparity(out / "disparity.pfm").disparity_HW, exact)
    result = json.loads((out / "result.json").read_text())
    assert result["model"] == registry.DEFAULT_MODEL
    assert len(result["weights_sha256"]) == 64
    assert (result["space"], result["unit"]) == ("disparity", "px")
    assert result["backend"] == "onnxruntime"


def test_json_output_is_the_result(call, tmp_path, pair):
    status, text, _ = call("stereo", *pair, "-o", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(text) == json.loads((tmp_path / "out" / "result.json").read_text())


def test_quiet_prints_nothing(call, tmp_path, pair):
    assert call("stereo", *pair, "-o", tmp_path / "out", "-q") == (0, "", "")


def test_calibration_adds_depth_and_cloud(call, tmp_path, pair):
    rig = {"fx": 100, "fy": 100, "cx": 48, "cy": 32, "baseline": 0.1, "width": 96, "height": 64}
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    out = tmp_path / "out"
    assert call("stereo", *pair, "-o", out, "--calib", tmp_path / "rig.json", "--format", "npy")[0] == 0
    depth, disparity = np.load(out / "depth.npy"), np.load(out / "disparity.npy")
    known = depth > 0
    np.testing.assert_allclose(depth[known], 10 / disparity[known], rtol=1e-5)
    assert f"element vertex {known.sum()}".encode() in (out / "cloud.ply").read_bytes()[:400]


def test_side_by_side_equals_the_pair(call, save, tmp_path, pair):
    both = np.concatenate([np.asarray(Image.open(path)) for path in pair], axis=1)
    save(tmp_path / "both.png", both)
    call("stereo", *pair, "-o", tmp_path / "a", "--format", "npy")
    assert call("stereo", tmp_path / "both.png", "-o", tmp_path / "b", "--format", "npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a/disparity.npy"), np.load(tmp_path / "b/disparity.npy"))


def test_one_image_of_any_shape_is_two_views_if_the_user_says_so(call, tmp_path, pair):
    status, _, err = call("stereo", pair[0], "-o", tmp_path / "out")
    assert status == 2
    assert "l.png is 96×64" in err
    assert "--side-by-side" in err
    assert call("stereo", pair[0], "--side-by-side", "-o", tmp_path / "out", "-q")[0] == 0
    assert read_disparity(tmp_path / "out/disparity.png").disparity_HW.shape == (64, 48)


def test_left_right_is_seen_in_the_files(call, save, tmp_path, pair):
    right = np.asarray(Image.open(pair[1])).copy()
    right[:32] = np.random.default_rng(1).integers(0, 256, (32, 96, 3))  # nothing on the left looks like this
    save(pair[1], right)
    call("stereo", *pair, "-o", tmp_path / "a")
    status, text, _ = call("stereo", *pair, "-o", tmp_path / "b", "--left-right", "--json")
    assert status == 0
    result = json.loads(text)
    assert {"valid.png", "disparity_right.png"} <= set(result["files"])
    assert names(tmp_path / "b") - names(tmp_path / "a") == {"disparity_right.png", "disparity_right.json"}
    plain, checked = (np.asarray(Image.open(tmp_path / run / "valid.png")) for run in "ab")
    assert set(np.unique(checked)) <= {0, 255}
    assert (checked <= plain).all()
    assert (checked < plain).any()
    assert (checked == 255).mean() == pytest.approx(result["valid_share"])
    assert read_disparity(tmp_path / "b/disparity.png").valid_HW.all()


def test_files_of_an_earlier_run_are_gone(call, tmp_path, pair):
    rig = {"fx": 100, "fy": 100, "cx": 48, "cy": 32, "baseline": 0.1, "width": 96, "height": 64}
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    out = tmp_path / "out"
    call("stereo", *pair, "-o", out, "--calib", tmp_path / "rig.json", "--format", "npy", "--left-right")
    call("stereo", *pair, "-o", out, "--model", "sgbm")
    assert names(out) == FILES


def test_inputs_are_never_replaced(call, tmp_path, pair):
    left = pair[0].rename(tmp_path / "preview.png")
    before = left.read_bytes()
    status, text, err = call("stereo", left, pair[1], "-o", tmp_path)
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert "preview.png is an input" in err
    assert left.read_bytes() == before
    assert names(tmp_path) == {"preview.png", "r.png"}


@pytest.fixture
def folders(save, tmp_path, make_pair):
    for i in range(3):
        left, right = make_pair(4 + i, 40, 64, seed=i)
        save(tmp_path / f"lefts/{i:02d}.png", left)
        save(tmp_path / f"rights/{i:02d}.png", right)
    return tmp_path / "lefts", tmp_path / "rights"


def test_folders_resume_and_redo_only_what_is_missing_or_changed(call, save, tmp_path, folders):
    out = tmp_path / "out"
    status, text, _ = call("stereo", *folders, "-o", out, "--json")
    assert (status, json.loads(text)["done"]) == (0, ["00", "01", "02"])
    (out / "01/preview.png").unlink()
    left = np.asarray(Image.open(folders[0] / "02.png")).copy()
    left[0, 0] ^= 255
    save(folders[0] / "02.png", left)
    stamp = (out / "00/result.json").stat().st_mtime_ns
    status, text, _ = call("stereo", *folders, "-o", out, "--json")
    assert json.loads(text) == {"done": ["01", "02"], "kept": ["00"], "failed": {}}
    assert (out / "00/result.json").stat().st_mtime_ns == stamp
    for option in (["--left-right"], ["--backend", "torch"], ["--model", "sgbm"]):
        _, text, _ = call("stereo", *folders, "-o", out, "--json", *option)
        assert json.loads(text)["done"] == ["00", "01", "02"], option


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-disp", "4096"], "at most 2048 px"),
        (["--calib", "rig.json"], "the rig is for 10x10 images"),
        (["--model", "sgbm", "--left-right"], "left-right"),
    ],
)
def test_a_mistake_common_to_all_pairs_is_told_once(call, tmp_path, folders, monkeypatch, options, says):
    rig = {"fx": 100, "fy": 100, "cx": 5, "cy": 5, "baseline": 0.1, "width": 10, "height": 10}
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    monkeypatch.chdir(tmp_path)
    status, _, err = call("stereo", *folders, "-o", tmp_path / "out", *options)
    assert status == 2
    assert says in err.splitlines()[-1]
    assert err.count("\n") <= 2  # at most once beside the bar, and as the reason of the end
    assert list((tmp_path / "out").rglob("*")) == []


def test_a_folder_that_cannot_be_written_is_told_before_the_work(call, tmp_path, folders, monkeypatch):
    monkeypatch.setattr("depthlight.cli.stereo._do", lambda *args: pytest.fail("worked"))
    (tmp_path / "file").write_text("in the way")
    status, _, err = call("stereo", *folders, "-o", tmp_path / "file/out")
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot write into" in err


def test_one_bad_pair_does_not_stop_the_rest(call, tmp_path, folders):
    (folders[1] / "01.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    status, text, err = call("stereo", *folders, "-o", tmp_path / "out", "--json")
    found = json.loads(text)
    assert status == 1
    assert (found["done"], list(found["failed"])) == (["00", "02"], ["01"])
    assert "01" in err
    assert not (tmp_path / "out/01/result.json").exists()


def test_a_file_that_cannot_be_read_does_not_stop_the_rest(call, tmp_path, folders, monkeypatch):
    digest = hashlib.file_digest

    def failing(stream, name):
        if stream.name.endswith("lefts/01.png"):
            raise OSError(5, "Input/output error")
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", failing)
    status, text, err = call("stereo", *folders, "-o", tmp_path / "out", "--model", "sgbm", "--json")
    found = json.loads(text)
    assert (status, found["done"]) == (1, ["00", "02"])
    assert "01.png: Input/output error" in found["failed"]["01"]
    assert "Traceback" not in err


def _image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def _missing(tmp, pair):
    return [tmp / "nothing.png", pair[1]]


def _not_an_image(tmp, pair):
    (tmp / "x.png").write_text("hello")
    return [tmp / "x.png", pair[1]]


def _truncated(tmp, pair):
    (tmp / "t.png").write_bytes(pair[0].read_bytes()[:200])
    return [tmp / "t.png", pair[1]]


def _two_sizes(tmp, pair):
    return [pair[0], _image(tmp / "s.png", np.zeros((5, 6, 3), np.uint8))]


def _unmatched(tmp, pair):
    _image(tmp / "a/1.png", np.zeros((8, 8, 3), np.uint8))
    _image(tmp / "b/2.png", np.zeros((8, 8, 3), np.uint8))
    return [tmp / "a", tmp / "b"]


def _file_and_folder(tmp, pair):
    (tmp / "a").mkdir()
    return [tmp / "a", pair[1]]


def _odd_side_by_side(tmp, pair):
    return [_image(tmp / "odd.png", np.zeros((5, 7, 3), np.uint8))]


def _single_image(tmp, pair):
    return [pair[0]]


def _side_by_side_and_a_pair(tmp, pair):
    return [*pair, "--side-by-side"]


def _wrong_calibration(tmp, pair):
    rig = {"fx": 100, "fy": 100, "cx": 48, "cy": 32, "baseline": 0.1, "width": 64, "height": 64}
    (tmp / "rig.json").write_text(json.dumps(rig))
    return [*pair, "--calib", tmp / "rig.json"]


def _endless_calibration(tmp, pair):
    os.mkfifo(tmp / "calib.txt")
    return [*pair, "--calib", tmp / "calib.txt"]


def _deep_calibration(tmp, pair):
    (tmp / "rig.json").write_text("[" * 100_000)
    return [*pair, "--calib", tmp / "rig.json"]


BAD_PAIRS = [
    _missing,
    _not_an_image,
    _truncated,
    _two_sizes,
    _unmatched,
    _file_and_folder,
    _odd_side_by_side,
    _single_image,
    _side_by_side_and_a_pair,
    _wrong_calibration,
    _endless_calibration,
    _deep_calibration,
]


@pytest.mark.parametrize("make", BAD_PAIRS, ids=lambda make: make.__name__[1:])
def test_bad_pairs_end_in_one_line_and_nothing_written(call, tmp_path, pair, make):
    out = tmp_path / "out"
    status, text, err = call("stereo", *make(tmp_path, pair), "-o", out)
    assert (status, text) == (2, "")
    assert err.startswith("depthlight: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not out.exists() or not list(out.rglob("*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "lihgt"], "did you mean 'light"),
        (["--model", "nothing/there.safetensors"], "there.safetensors"),
        (["--backend", "tensorrt"], "onnxruntime"),
        (["--format", "exr"], "exr"),
        (["--calib", "none.txt"], "none.txt"),
        (["--max-disp", "10", "--min-disp", "20"], "a smallest below the largest"),
        (["--max-disp", "64", "--find-range"], "--find-range chooses the range"),
        (["--model", "sgbm", "--find-range"], "--find-range says nothing to sgbm"),
        (["--model", "sgbm", "--min-disp", "-16"], "searches from 0 px"),
        (["--max-memory", "lots"], "an amount such as 4GB"),
        (["--max-memory", "1MB"], "larger max_memory"),
        (["--precision", "bf16", "--backend", "onnxruntime"], "bf16"),
        (["--model", "sgbm", "--left-right"], "sgbm"),
        (["--model", "sgbm-oracle"], "eval"),
        (["--model", "sgbm", "--device", "cuda"], "--device"),
        (["--max-disp", "640000", "--backend", "torch"], "2048"),
        (["--device", "meta"], "meta"),
        (["--precision", "int8"], "depthlight export NAME --to onnx --int8"),
        (["--model", "las2s.pth"], "las2s.pth does not exist"),
    ],
)
def test_bad_options_end_in_one_line(call, tmp_path, pair, options, says):
    status, text, err = call("stereo", *pair, "-o", tmp_path / "out", *options)
    assert (status, text) == (2, "")
    assert err.count("\n") == 1
    assert says in err


def test_foreign_checkpoint_is_one_line(call, save, tmp_path, pair):
    import torch

    torch.save({"model": {"encoder.weight": torch.zeros(3, 3)}}, tmp_path / "foreign.pth")
    status, _, err = call("stereo", *pair, "--model", "light", "--weights", tmp_path / "foreign.pth")
    assert status == 2
    assert err.count("\n") == 1
    assert "foreign.pth" in err


@pytest.mark.skipif(os.name != "posix", reason="needs a path that cannot be a folder")
def test_unwritable_output_is_one_line(call, tmp_path, pair):
    (tmp_path / "file").write_text("in the way")
    status, _, err = call("stereo", *pair, "-o", tmp_path / "file" / "out")
    assert status == 2
    assert "cannot write" in err
    assert (tmp_path / "file").read_text() == "in the way"


def test_missing_extra_names_the_pip_command(call, tmp_path, pair, monkeypatch):
    monkeypatch.setattr("depthlight.infer.load.have", lambda name: False)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    status, _, err = call("stereo", *pair, "-o", tmp_path / "out", "--backend", "torch")
    assert status == 2
    assert "pip install 'depthlight[torch]'" in err
