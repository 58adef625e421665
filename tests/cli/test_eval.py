"""``depthlight eval``: a model on scenes with ground truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from depthlight.io.disparity_files import read_disparity, write_disparity


@pytest.fixture
def scenes(save, tmp_path, make_pair):
    root = tmp_path / "scenes"
    for i in range(2):
        left, right = make_pair(6, 48, 80, seed=i)
        save(root / f"made-{i}/left.png", left)
        save(root / f"made-{i}/right.png", right)
        write_disparity(root / f"made-{i}/disp.png", np.full((48, 80), 6, np.float32), sidecar=False)
    return root


def test_eval_writes_the_schema_and_checks_assertions(call, tmp_path, scenes):
    result = tmp_path / "r.json"
    status, text, _ = call("eval", scenes, "--json", result, "--csv", tmp_path / "r.csv", "--pictures", tmp_path / "p")
    assert (status, "made" in text) == (0, True)
    facts = json.loads(result.read_text())
    assert set(facts["scenes"]) == {"made-0", "made-1"}
    assert {"epe", "bad1", "bad2", "bad3", "d1", "density"} <= set(facts["mean"])
    assert facts["groups"]["made"]["n"] == 2
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"made-0.png", "made-1.png"}
    assert call("eval", scenes, "--assert", "mean.epe<=100", "-q")[0] == 0
    status, _, err = call("eval", scenes, "--assert", "mean.epe<=0.0001", "-q")
    assert status == 1
    assert "mean.epe" in err


def test_eval_takes_a_list_and_counts_failures(call, tmp_path, scenes):
    (tmp_path / "names.txt").write_text("made-1\n")
    _, text, _ = call("eval", scenes, "--list", tmp_path / "names.txt", "--json", "-")
    assert list(json.loads(text)["scenes"]) == ["made-1"]
    (scenes / "made-0/right.png").write_bytes(b"gone")
    status, text, err = call("eval", scenes, "--json", "-")
    assert status == 1
    assert json.loads(text)["counts"] == {"scenes": 1, "noc": 0, "failed": 1}
    assert "made-0" in err


@pytest.fixture
def sets(save, tmp_path, make_pair):
    """KITTI 2015, Middlebury's evaluation sets and ETH3D with a pair of 6 px each, in their own layouts."""
    left, right = make_pair(6, 48, 80)
    truth = np.full((48, 80), 6, np.float32)
    for split in ("training", "testing"):
        save(tmp_path / f"kitti/{split}/image_2/000007_10.png", left)
        save(tmp_path / f"kitti/{split}/image_3/000007_10.png", right)
    for kind in ("occ", "noc"):
        (tmp_path / f"kitti/training/disp_{kind}_0").mkdir()
        write_disparity(tmp_path / f"kitti/training/disp_{kind}_0/000007_10.png", truth, sidecar=False)
    for folder in ("midd/testH/Plants", "eth/two_view_testing/hall_1s"):
        save(tmp_path / folder / "im0.png", left)
        save(tmp_path / folder / "im1.png", right)
    return tmp_path


def test_public_sets_are_measured_as_they_are_unpacked(call, sets):
    status, text, _ = call("eval", f"kitti2015:{sets / 'kitti'}", "--protocol", "kitti", "--json", "-", "-m", "sgbm")
    facts = json.loads(text)
    assert status == 0
    assert (facts["dataset"], facts["protocol"]["name"], list(facts["scenes"])) == (
        "kitti2015",
        "kitti",
        ["training/000007_10"],
    )
    assert facts["mean"]["epe"] < 1


def test_a_protocol_takes_the_part_of_the_set_it_speaks_of(call, save, tmp_path, make_pair):
    left, right = make_pair(6, 32, 64)
    for size in "QHF":
        folder = tmp_path / f"MiddEval3/training{size}/Plants"
        save(folder / "im0.png", left)
        save(folder / "im1.png", right)
        write_disparity(folder / "disp0GT.pfm", np.full((32, 64), 6, np.float32), sidecar=False)
    where = f"middlebury:{tmp_path / 'MiddEval3'}"

    def scenes(*options):
        status, text, _ = call("eval", where, "-m", "sgbm", "--json", "-", *options)
        assert status == 0
        return list(json.loads(text)["scenes"])

    assert len(scenes()) == 3
    assert scenes("--protocol", "middlebury-h") == ["trainingH/Plants"]
    assert scenes("--protocol", "middlebury-f", "--option", "size=f") == ["trainingF/Plants"]


@pytest.mark.parametrize(
    ("data", "protocol", "options", "says"),
    [
        ("middlebury", "middlebury-h", ["size=f"], "size of middlebury is f"),
        ("drivingstereo", "drivingstereo", [], "split of drivingstereo is not given"),
        ("drivingstereo", "drivingstereo", ["split=rainy", "size=half"], "expected size = full"),
        ("sceneflow", "sceneflow", ["split=train"], "expected split = test"),
    ],
)
def test_a_part_that_contradicts_the_protocol_is_refused(call, tmp_path, data, protocol, options, says):
    flags = [word for option in options for word in ("--option", option)]
    status, _, err = call("eval", f"{data}:{tmp_path}", "--protocol", protocol, "-m", "sgbm", *flags)
    assert status == 2 and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "options", "wanted"),
    [
        ("kitti2015:kitti", ["--option", "split=testing"], {"disp_0/000007_10.png"}),
        (
            "middlebury:midd",
            ["--option", "need_truth=false", "--method", "LIGHT"],
            {"testH/Plants/disp0LIGHT.pfm", "testH/Plants/timeLIGHT.txt"},
        ),
        (
            "eth3d:eth",
            ["--option", "split=testing"],
            {"low_res_two_view/hall_1s.pfm", "low_res_two_view/hall_1s.txt"},
        ),
    ],
)
def test_submissions_have_the_servers_layout(call, sets, monkeypatch, data, options, wanted):
    monkeypatch.chdir(sets)
    status, text, _ = call("eval", data, *options, "--submission", "out", "-m", "sgbm")
    assert status == 0
    assert f"1 disparities for the server of {data.split(':')[0]}" in text
    assert {path.relative_to(sets / "out").as_posix() for path in (sets / "out").rglob("*") if path.is_file()} == wanted
    (map_file,) = (sets / "out" / name for name in wanted if name.endswith((".png", ".pfm")))
    assert abs(np.median(read_disparity(map_file).disparity_HW) - 6) < 0.5


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["scenes", "--option", "split=testing"], "--option is for public sets"),
        (["kitti2015:kitti", "--list", "names.txt"], "--list is for folders of scenes"),
        (["kitti2015:kitti", "--option", "split"], "expected NAME=VALUE"),
        (["kitti2015:kitti", "--option", "year=2"], "no option year"),
        (["kiti2015:kitti"], "kitti2015"),
        (["scenes", "--submission", "out"], "there is no submission for scenes"),
        (["kitti2015:kitti", "--submission", "out", "--pictures", "p"], "--pictures says nothing"),
        (["kitti2015:kitti", "--submission", "out", "--json", "facts.json"], "--json says nothing"),
    ],
)
def test_wrong_requests_of_sets_are_one_line(call, sets, scenes, monkeypatch, args, says):
    monkeypatch.chdir(sets)
    (sets / "names.txt").write_text("a\n")
    status, text, err = call("eval", *args, "-m", "sgbm")
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert says in err
