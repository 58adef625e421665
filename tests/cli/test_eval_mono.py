"""``depthlight eval --task mono``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from depthlight.io.disparity_files import write_disparity


@pytest.fixture
def photos(save, tmp_path):
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name in ("room-0", "room-1"):
        save(root / name / "image.png", rng.integers(0, 255, (40, 48, 3), dtype=np.uint8))
        depth = np.linspace(5000, 1000, 40)[:, None] + rng.integers(0, 50, (40, 48))
        save(root / name / "depth.png", depth.astype(np.uint16))
    save(root / "street-0" / "left.png", rng.integers(0, 255, (40, 48, 3), dtype=np.uint8))
    disparity = np.tile(np.linspace(1, 9, 40, dtype=np.float32)[:, None], (1, 48))
    write_disparity(root / "street-0" / "disp.png", disparity, sidecar=False)
    return root


def test_the_ramp_is_measured_and_written(call, tmp_path, photos):
    files = ("--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv", "--pictures", tmp_path / "p")
    status, text, _ = call("eval", photos, "--task", "mono", "--model", "ramp", *files)
    assert (status, "mono-affine" in text, "room" in text) == (0, True, True)
    facts = json.loads((tmp_path / "r.json").read_text())
    assert set(facts["scenes"]) == {"room-0", "room-1", "street-0"}
    assert facts["scenes"]["street-0"]["all"]["abs_rel"] < 0.01  # the ramp is its very truth
    assert facts["protocol"]["name"] == "mono-affine"
    assert (tmp_path / "r.csv").read_text().startswith("kind,name,n,abs_rel")
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"room-0.png", "room-1.png", "street-0.png"}


def test_assertions_lists_and_alignments(call, tmp_path, photos):
    (tmp_path / "names.txt").write_text("room-1\n")
    options = ("--task", "mono", "--model", "ramp", "--list", tmp_path / "names.txt", "--alignment", "paper")
    status, text, _ = call("eval", photos, *options, "--json", "-")
    facts = json.loads(text)
    assert (status, list(facts["scenes"]), facts["protocol"]["alignment"]) == (0, ["room-1"], "paper")
    assert call("eval", photos, *options, "-q", "--assert", "mean.abs_rel<=100")[0] == 0
    status, _, err = call("eval", photos, *options, "-q", "--assert", "mean.abs_rel<=1e-9")
    assert (status, "mean.abs_rel" in err) == (1, True)
    status, text, _ = call("eval", photos, *options, "--max-depth", "3", "--json", "-")
    assert json.loads(text)["scenes"]["room-1"]["max_depth"] == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--task", "mono", "--protocol", "kitti"), "--protocol"),
        (("--task", "mono", "--backend", "torch"), "--backend"),
        (("--task", "stereo", "--alignment", "paper"), "--alignment"),
        (("--task", "normal"), "unknown task"),
        (("--task", "mono", "--alignment", "median"), "unknown alignment"),
        (("--task", "mono", "--alignment", "none"), "no unit"),
        (("--task", "mono", "--max-depth", "-1"), "max depth"),
    ],
)
def test_options_that_do_not_fit_are_told_in_one_line(call, photos, options, told):
    status, _, err = call("eval", photos, "--model", "ramp", *options)
    assert (status, err.count("\n"), told in err) == (2, 1, True), err


def test_a_failed_scene_fails_the_run(call, photos):
    (photos / "room-0" / "depth.png").write_bytes(b"gone")
    status, text, err = call("eval", photos, "--task", "mono", "--model", "ramp", "--json", "-")
    assert status == 1
    assert json.loads(text)["counts"]["failed"] == 1
    assert "room-0" in err


@pytest.fixture
def metric_model(tmp_path):
    """A tiny network with random weights that answers metres, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GLPNConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8
    )
    transformers.GLPNForDepthEstimation(config).eval().save_pretrained(tmp_path / "net")
    transformers.GLPNImageProcessor().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_a_metric_network_is_measured_with_and_without_alignment(call, tmp_path, photos, metric_model):
    (tmp_path / "names.txt").write_text("room-0\nroom-1\n")
    options = ("--task", "mono", "--model", metric_model, "--list", tmp_path / "names.txt", "--json", "-")
    found = {}
    for alignment in ("none", "affine"):
        status, text, err = call("eval", photos, *options, "--alignment", alignment)
        assert status == 0, err
        found[alignment] = json.loads(text)
    plain, aligned = (found[name]["scenes"]["room-0"] for name in ("none", "affine"))
    assert plain["quantity"] == aligned["quantity"] == "depth"
    assert plain["alignment"] == {"scale": 1.0, "shift": 0.0, "depth_scale": 1.0, "depth_shift": 0.0}
    assert plain["all"]["rmse"] > aligned["all"]["rmse"]
    assert found["none"]["weights_sha256"] is not None
    status, text, err = call("eval", photos, *options[:-4], "--alignment", "none", "--json", "-")
    assert (status, "without a unit" in err) == (1, True)  # the stereo scene has no calibration
    assert list(json.loads(text)["failures"]) == ["street-0"]


def test_a_network_is_loaded_by_its_name_and_measured(call, photos, monkeypatch):
    from depthlight.eval.mono_runner import Ramp
    from depthlight.infer import mono

    asked = []

    def load_mono(name=None, **options):
        asked.append((name, options))
        return Ramp()

    monkeypatch.setattr(mono, "load_mono", load_mono)
    options = ("--task", "mono", "--device", "cpu", "--precision", "bf16", "--json", "-")
    assert call("eval", photos, *options)[0] == 0
    assert call("eval", photos, "--model", "depth-anything-v2-small", *options)[0] == 0
    expected = {"device": "cpu", "precision": "bf16"}
    assert asked == [(None, expected), ("depth-anything-v2-small", expected)]
