"""``depthlight stereo``, ``demo``, ``models``, ``compare``, ``eval``: what they write, and what they refuse."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from depthlight.cli import main as cli
from depthlight.core import registry
from depthlight.io.disparity_files import read_disparity, write_disparity

FILES = {"disparity.png", "disparity.json", "confidence.png", "preview.png", "result.json"}


def call(capsys, *args):
    status = cli.run([str(arg) for arg in args])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def pair(tmp_path, make_pair):
    left, right = make_pair(8, 64, 96)
    return save(tmp_path / "l.png", left), save(tmp_path / "r.png", right)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_pair_gives_a_prediction_folder(capsys, tmp_path, pair):
    out = tmp_path / "out"
    status, text, _ = call(capsys, "stereo", *pair, "-o", out, "--format", "npy,pfm,tiff")
    assert status == 0
    assert "light.prototype" in text or registry.DEFAULT_MODEL in text
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


def test_json_output_is_the_result(capsys, tmp_path, pair):
    status, text, _ = call(capsys, "stereo", *pair, "-o", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(text) == json.loads((tmp_path / "out" / "result.json").read_text())


def test_quiet_prints_nothing(capsys, tmp_path, pair):
    assert call(capsys, "stereo", *pair, "-o", tmp_path / "out", "-q") == (0, "", "")


def test_calibration_adds_depth_and_cloud(capsys, tmp_path, pair):
    rig = {"fx": 100, "fy": 100, "cx": 48, "cy": 32, "baseline": 0.1, "width": 96, "height": 64}
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    out = tmp_path / "out"
    assert call(capsys, "stereo", *pair, "-o", out, "--calib", tmp_path / "rig.json", "--format", "npy")[0] == 0
    depth, disparity = np.load(out / "depth.npy"), np.load(out / "disparity.npy")
    known = depth > 0
    np.testing.assert_allclose(depth[known], 10 / disparity[known], rtol=1e-5)
    assert f"element vertex {known.sum()}".encode() in (out / "cloud.ply").read_bytes()[:400]


def test_side_by_side_equals_the_pair(capsys, tmp_path, pair):
    both = np.concatenate([np.asarray(Image.open(path)) for path in pair], axis=1)
    save(tmp_path / "both.png", both)
    call(capsys, "stereo", *pair, "-o", tmp_path / "a", "--format", "npy")
    assert call(capsys, "stereo", tmp_path / "both.png", "-o", tmp_path / "b", "--format", "npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a/disparity.npy"), np.load(tmp_path / "b/disparity.npy"))


@pytest.fixture
def folders(tmp_path, make_pair):
    for i in range(3):
        left, right = make_pair(4 + i, 40, 64, seed=i)
        save(tmp_path / f"lefts/{i:02d}.png", left)
        save(tmp_path / f"rights/{i:02d}.png", right)
    return tmp_path / "lefts", tmp_path / "rights"


def test_folders_resume_and_redo_only_what_is_missing_or_changed(capsys, tmp_path, folders):
    out = tmp_path / "out"
    status, text, _ = call(capsys, "stereo", *folders, "-o", out, "--json")
    assert (status, json.loads(text)["done"]) == (0, ["00", "01", "02"])
    (out / "01/preview.png").unlink()
    left = np.asarray(Image.open(folders[0] / "02.png")).copy()
    left[0, 0] ^= 255
    save(folders[0] / "02.png", left)
    stamp = (out / "00/result.json").stat().st_mtime_ns
    status, text, _ = call(capsys, "stereo", *folders, "-o", out, "--json")
    assert json.loads(text) == {"done": ["01", "02"], "kept": ["00"], "failed": {}}
    assert (out / "00/result.json").stat().st_mtime_ns == stamp
    _, text, _ = call(capsys, "stereo", *folders, "-o", out, "--json", "--left-right")
    assert json.loads(text)["done"] == ["00", "01", "02"]


def test_one_bad_pair_does_not_stop_the_rest(capsys, tmp_path, folders):
    (folders[1] / "01.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    status, text, err = call(capsys, "stereo", *folders, "-o", tmp_path / "out", "--json")
    found = json.loads(text)
    assert status == 1
    assert (found["done"], list(found["failed"])) == (["00", "02"], ["01"])
    assert "01" in err
    assert not (tmp_path / "out/01/result.json").exists()


def _missing(tmp, pair):
    return [tmp / "nothing.png", pair[1]]


def _not_an_image(tmp, pair):
    (tmp / "x.png").write_text("hello")
    return [tmp / "x.png", pair[1]]


def _truncated(tmp, pair):
    (tmp / "t.png").write_bytes(pair[0].read_bytes()[:200])
    return [tmp / "t.png", pair[1]]


def _two_sizes(tmp, pair):
    return [pair[0], save(tmp / "s.png", np.zeros((5, 6, 3), np.uint8))]


def _unmatched(tmp, pair):
    save(tmp / "a/1.png", np.zeros((8, 8, 3), np.uint8))
    save(tmp / "b/2.png", np.zeros((8, 8, 3), np.uint8))
    return [tmp / "a", tmp / "b"]


def _file_and_folder(tmp, pair):
    (tmp / "a").mkdir()
    return [tmp / "a", pair[1]]


def _odd_side_by_side(tmp, pair):
    return [save(tmp / "odd.png", np.zeros((5, 7, 3), np.uint8))]


BAD_PAIRS = [_missing, _not_an_image, _truncated, _two_sizes, _unmatched, _file_and_folder, _odd_side_by_side]


@pytest.mark.parametrize("make", BAD_PAIRS, ids=lambda make: make.__name__[1:])
def test_bad_pairs_end_in_one_line_and_nothing_written(capsys, tmp_path, pair, make):
    out = tmp_path / "out"
    status, text, err = call(capsys, "stereo", *make(tmp_path, pair), "-o", out)
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
        (["--max-disp", "64"], "192"),
        (["--precision", "bf16", "--backend", "onnxruntime"], "bf16"),
        (["--model", "sgbm", "--left-right"], "sgbm"),
        (["--model", "sgbm-oracle"], "eval"),
    ],
)
def test_bad_options_end_in_one_line(capsys, tmp_path, pair, options, says):
    status, text, err = call(capsys, "stereo", *pair, "-o", tmp_path / "out", *options)
    assert (status, text) == (2, "")
    assert err.count("\n") == 1
    assert says in err


def test_foreign_checkpoint_is_one_line(capsys, tmp_path, pair):
    import torch

    torch.save({"model": {"encoder.weight": torch.zeros(3, 3)}}, tmp_path / "foreign.pth")
    status, _, err = call(capsys, "stereo", *pair, "--model", "light", "--weights", tmp_path / "foreign.pth")
    assert status == 2
    assert err.count("\n") == 1
    assert "foreign.pth" in err


@pytest.mark.skipif(os.name != "posix", reason="needs a path that cannot be a folder")
def test_unwritable_output_is_one_line(capsys, tmp_path, pair):
    (tmp_path / "file").write_text("in the way")
    status, _, err = call(capsys, "stereo", *pair, "-o", tmp_path / "file" / "out")
    assert status == 2
    assert "cannot write" in err
    assert (tmp_path / "file").read_text() == "in the way"


def test_missing_extra_names_the_pip_command(capsys, tmp_path, pair, monkeypatch):
    monkeypatch.setattr("depthlight.infer.load.have", lambda name: False)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    status, _, err = call(capsys, "stereo", *pair, "-o", tmp_path / "out", "--backend", "torch")
    assert status == 2
    assert "pip install 'depthlight[torch]'" in err


def test_demo_works_from_the_package_alone(capsys, tmp_path):
    out = tmp_path / "demo"
    status, text, _ = call(capsys, "demo", "-o", out)
    assert status == 0
    assert names(out) == FILES | {"depth.npy", "cloud.ply"}
    error = float(text.split("mean error ")[1].split(" px")[0])
    assert error < 3


def test_models_lists_and_shows(capsys):
    status, text, _ = call(capsys, "models", "--json")
    listed = json.loads(text)
    assert status == 0
    assert listed["default"] == registry.DEFAULT_MODEL
    assert {row["name"] for row in listed["models"]} == set(registry.list_models())
    assert all(row["licence"] and row["what"] for row in listed["models"])
    _, text, _ = call(capsys, "models", "light", "--json")
    assert json.loads(text)["files"]["onnx"]["sha256"]
    assert registry.DEFAULT_MODEL in call(capsys, "models")[1]


def test_compare_gives_figures_and_a_picture(capsys, tmp_path, pair):
    write_disparity(tmp_path / "truth.png", np.full((64, 96), 8, np.float32))
    args = ["--models", "light,sgbm", "--truth", tmp_path / "truth.png", "-o", tmp_path / "c", "--json"]
    status, text, _ = call(capsys, "compare", *pair, *args)
    found = json.loads(text)
    assert status == 0
    assert found["models"]["light"]["epe"] < 3
    assert set(found["models"]) == {"light", "sgbm"}
    assert cv2.imread(found["picture"]).shape[1] > 96


@pytest.fixture
def scenes(tmp_path, make_pair):
    root = tmp_path / "scenes"
    for i in range(2):
        left, right = make_pair(6, 48, 80, seed=i)
        save(root / f"made-{i}/left.png", left)
        save(root / f"made-{i}/right.png", right)
        write_disparity(root / f"made-{i}/disp.png", np.full((48, 80), 6, np.float32), sidecar=False)
    return root


def test_eval_writes_the_schema_and_checks_assertions(capsys, tmp_path, scenes):
    result = tmp_path / "r.json"
    status, text, _ = call(
        capsys, "eval", scenes, "--json", result, "--csv", tmp_path / "r.csv", "--pictures", tmp_path / "p"
    )
    assert (status, "made" in text) == (0, True)
    facts = json.loads(result.read_text())
    assert set(facts["scenes"]) == {"made-0", "made-1"}
    assert {"epe", "bad1", "bad2", "bad3", "d1", "density"} <= set(facts["mean"])
    assert facts["groups"]["made"]["n"] == 2
    assert names(tmp_path / "p") == {"made-0.png", "made-1.png"}
    assert call(capsys, "eval", scenes, "--assert", "mean.epe<=100", "-q")[0] == 0
    status, _, err = call(capsys, "eval", scenes, "--assert", "mean.epe<=0.0001", "-q")
    assert status == 1
    assert "mean.epe" in err


def test_eval_takes_a_list_and_counts_failures(capsys, tmp_path, scenes):
    (tmp_path / "names.txt").write_text("made-1\n")
    _, text, _ = call(capsys, "eval", scenes, "--list", tmp_path / "names.txt", "--json", "-")
    assert list(json.loads(text)["scenes"]) == ["made-1"]
    (scenes / "made-0/right.png").write_bytes(b"gone")
    status, text, err = call(capsys, "eval", scenes, "--json", "-")
    assert status == 1
    assert json.loads(text)["counts"] == {"scenes": 1, "noc": 0, "failed": 1}
    assert "made-0" in err
