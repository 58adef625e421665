"""Each kind leaves what its own command or trainer would."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from depthlight.cli import main as cli
from depthlight.core.registry import DEFAULT_MODEL
from depthlight.data.folders import PairFolder
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.mono import build
from depthlight.refine import render
from depthlight.train.config import TeacherConfig
from depthlight.train.stage3 import Labelled, Teacher

TINY = {"widths": [8, 8, 8, 8], "blocks": [0, 0, 0, 0], "context": 0, "heads": 1, "last": 4, "working": 64}
RIG = {"fx": 100, "fy": 100, "cx": 24, "cy": 12, "baseline": 0.1, "width": 48, "height": 24}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_safetensors(path, build("mono", TINY), {"family": "mono", "name": "mono.tiny", "network": json.dumps(TINY)})
    return path


def same_but_for_the_request(one, other, *, but=("seconds", "request")):
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    for path in one.iterdir():
        if path.name != "result.json":
            assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    facts, others = (json.loads((folder / "result.json").read_text()) for folder in (one, other))
    assert {k: v for k, v in facts.items() if k not in but} == {k: v for k, v in others.items() if k not in but}


def run(*args):
    assert cli.run([str(arg) for arg in args]) == 0


def test_stereo_with_calibrations(tmp_path, make_pairs):
    make_pairs(2)
    (tmp_path / "rig.json").write_text(json.dumps(RIG))
    (tmp_path / "m.toml").write_text(
        '[[work]]\nkind = "stereo"\nleft = "lefts"\nright = "rights"\ncalib = "rig.json"\n'
        'model = "sgbm"\nmax_disp = 64\n'
    )
    run("batch", tmp_path / "m.toml", "-o", tmp_path / "out")
    options = ("--calib", tmp_path / "rig.json", "-m", "sgbm", "--max-disp", 64)
    run("stereo", tmp_path / "lefts", tmp_path / "rights", "-o", tmp_path / "own", *options)
    for name in ("000", "001"):
        assert (tmp_path / "out" / name / "cloud.ply").exists()
        same_but_for_the_request(tmp_path / "out" / name, tmp_path / "own" / name)


def test_photos(tmp_path, make_pairs, tiny):
    make_pairs(2)
    run("batch", tmp_path / "lefts", "--kind", "mono", "-m", tiny, "-o", tmp_path / "out", "--set", "formats=['npy']")
    run("mono", tmp_path / "lefts", "-m", tiny, "-o", tmp_path / "own", "--format", "npy")
    same_but_for_the_request(tmp_path / "out/001", tmp_path / "own/001")


def test_refined_photos_and_pairs(tmp_path, make_pairs, tiny):
    make_pairs(1)
    photo = ("-m", tiny, "-o", tmp_path / "out", "--set", "prior=none", "--set", "steps=2", "--set", "restarts=1")
    run("batch", tmp_path / "lefts/*.png", "--kind", "refine", *photo)
    own = ("-m", tiny, "-o", tmp_path / "own", "--prior", "none", "--steps", 2, "--restarts", 1, "--threads", 1)
    run("refine", tmp_path / "lefts", *own)
    same_but_for_the_request(tmp_path / "out/000", tmp_path / "own/000")
    left, right, more = tmp_path / "lefts/000.png", tmp_path / "rights/000.png", ("--set", "steps=2")
    run("batch", left, "--right", right, "--kind", "refine", "-o", tmp_path / "pairs", *more)
    run("refine", left, right, "-o", tmp_path / "own-pairs", "--steps", 2, "--threads", 1)
    same_but_for_the_request(tmp_path / "pairs/000", tmp_path / "own-pairs")


def test_a_refinement_that_ends_early_leaves_its_last_good_result(tmp_path, make_pairs, tiny, monkeypatch, capsys):
    make_pairs(1)
    monkeypatch.setattr(render, "smoothness", lambda raw: raw.mean() * float("nan"))
    how = ("-m", str(tiny), "-o", str(tmp_path / "out"), "--set", "prior=none", "--set", "steps=2")
    assert cli.run(["batch", str(tmp_path / "lefts/*.png"), "--kind", "refine", *how]) == 1
    assert "not finite at step 1" in capsys.readouterr().err
    facts = json.loads((tmp_path / "out/000/result.json").read_text())
    assert "not finite" in facts["stopped"]
    assert np.isfinite(np.load(tmp_path / "out/000/after.npy")).all()


def test_labels_are_those_of_stage_3(tmp_path, make_pairs):
    make_pairs(2, 32, 64)
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for side, name in (("lefts", "left"), ("rights", "right")):
        (tmp_path / side).rename(pairs / name)
    (pairs / "left/001.png").rename(pairs / "left/o d%.png")  # a name that labels cannot have
    (pairs / "right/001.png").rename(pairs / "right/o d%.png")
    sky_HW = np.zeros((32, 64), np.uint8)
    sky_HW[:8] = 255
    (tmp_path / "sky").mkdir()
    Image.fromarray(sky_HW).save(tmp_path / "sky/000.png")
    work = '[[work]]\nkind = "labels"\npairs = "pairs"\nsky = "sky/*.png"\nensemble = false\n'
    (tmp_path / "m.toml").write_text(work)
    run("batch", tmp_path / "m.toml", "-o", tmp_path / "labels")
    data = PairFolder(pairs)
    config = TeacherConfig(ensemble=False, sky=str(tmp_path / "sky"))
    teacher, labelled = Teacher(config, DEFAULT_MODEL), Labelled(data, tmp_path / "labels")
    for index in range(2):
        disparity_HW, trusted_HW = teacher.label(data[index])
        sample = labelled[index]
        np.testing.assert_array_equal(sample.valid_HW, trusted_HW)
        assert np.abs(sample.disparity_HW - disparity_HW)[trusted_HW].max() <= 1 / 256
        assert 0 < trusted_HW.mean() < 1
    assert labelled[0].valid_HW[:8].all() and labelled[0].disparity_HW[:8].max() <= 1 / 256, "sky is at disparity 0"
    before = {path: path.read_bytes() for path in (tmp_path / "labels").rglob("*.png")}
    (tmp_path / "m.toml").write_text(work + "edges = false\n")
    run("batch", tmp_path / "m.toml", "-o", tmp_path / "labels")
    assert {path: path.read_bytes() for path in before} != before, "other masks are other labels"
