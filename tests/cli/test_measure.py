"""``depthlight measure``, and the options of ``stereo`` that are in metres."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from depthlight import StereoRig
from depthlight.geometry.calibration import write_calibration
from depthlight.io.depth_files import read_depth

CALIB = "cam0=[80 0 48; 0 80 32; 0 0 1]\ncam1=[80 0 48; 0 80 32; 0 0 1]\ndoffs=0\nbaseline=100\nwidth=96\nheight=64\n"


@pytest.fixture
def calib(tmp_path):
    path = tmp_path / "calib.txt"
    path.write_text(CALIB)
    return path


@pytest.fixture
def measured(call, tmp_path, pair, calib):
    """A result of the textured pair at 8 px: a wall at one metre."""
    assert call("stereo", *pair, "-o", tmp_path / "out", "--calib", calib)[0] == 0
    return tmp_path / "out"


def test_distance_point_and_box(call, measured):
    status, text, _ = call("measure", measured, "--from", "30,20", "--to", "70,20", "--json")
    found = json.loads(text)
    assert status == 0 and found["unit"] == "m"
    assert found["length"] == pytest.approx(0.5, rel=0.1) and 0 < found["sigma"] < 0.5
    status, text, _ = call("measure", measured, "--from", "30,20")
    assert status == 0 and "depth" in text and "±" in text
    status, text, _ = call("measure", measured, "--box", "30,15,40,30", "--json")
    assert json.loads(text)["width"] == pytest.approx(0.5, rel=0.15)
    status, text, _ = call("measure", measured, "--box", "30,15,40,30", "-q")
    assert (status, text) == (0, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to measure"),
        (("--to", "3,4"), "nothing to measure"),
        (("--from", "3,4", "--box", "1,2,3,4"), "nothing to measure"),
        (("--from", "3"), "2 numbers"),
        (("--from", "a,b"), "2 numbers"),
        (("--from", "nan,3"), "2 numbers"),
        (("--box", "1,2,3"), "x,y,width,height"),
        (("--box", "1,2,inf,3"), "x,y,width,height"),
        (("--box", "1.5,2,3,3"), "x,y,width,height"),  # not rounded in silence
        (("--box", "1,2,0,3"), "at least one pixel"),
        (("--from", "500,3"), "outside the image"),
        (("--box", "90,60,20,20"), "not inside the image"),
    ],
)
def test_wrong_questions_are_one_line(call, measured, options, words):
    status, _, error = call("measure", measured, *options)
    assert status == 2 and words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ("80 0 48; 0 80 32=>80 0 24; 0 80 16", (), "K of another size?"),
        ("baseline=100=>baseline=5000", ("--unit", "mm"), "the baseline would be 5 m: is the unit right?"),
        ("=>", (), None),
    ],
)
def test_a_calibration_that_is_possible_but_rare_is_remarked_on(call, tmp_path, pair, calib, change, options, words):
    before, _, after = change.partition("=>")
    calib.write_text(CALIB.replace(before, after) if before else CALIB)
    status, text, _ = call("stereo", *pair, "-o", tmp_path / "out", "--calib", calib, *options, "--model", "sgbm")
    assert status == 0
    assert (words in text) if words else (str(calib) not in text)


def test_a_calibration_without_a_size_is_not_rescaled_by_guess(call, tmp_path, make_pair, save):
    for name, (height, width) in {"a": (64, 96), "b": (128, 192)}.items():
        for side, image in zip(("left", "right"), make_pair(8, height, width), strict=True):
            save(tmp_path / side / f"{name}.png", image)
    (tmp_path / "K.txt").write_text("80 0 48 0 80 32 0 0 1\n0.1\n")
    command = ("stereo", tmp_path / "left", tmp_path / "right", "-o", tmp_path / "out", "--model", "sgbm", "--calib")
    status, text, _ = call(*command, tmp_path / "K.txt", "--json")
    assert status == 1
    result = json.loads(text)
    assert result["done"] == ["a"]
    assert "states no image size" in result["failed"]["b"]
    (tmp_path / "calib.txt").write_text(CALIB)  # states 96x64: the larger pair is the same shape, K is scaled
    assert call(*command, tmp_path / "calib.txt")[0] == 0


def test_no_metres_without_a_calibration(call, tmp_path, pair):
    out = tmp_path / "out"
    assert call("stereo", *pair, "-o", out)[0] == 0
    status, _, error = call("measure", out, "--from", "3,4")
    assert status == 2 and "no metres without a calibration" in error
    assert call("measure", tmp_path / "nothing", "--from", "3,4")[0] == 2


@pytest.mark.parametrize(
    "option",
    [
        ("--depth", "png"),
        ("--cloud", "pcd"),
        ("--mesh",),
        ("--min-depth", "1"),
        ("--max-depth", "9"),
        ("--voxel", "0.1"),
        ("--normals",),
        ("--export", "tum"),
    ],
)
def test_metric_options_need_a_calibration(call, tmp_path, pair, option):
    status, _, error = call("stereo", *pair, "-o", tmp_path / "out", *option)
    assert status == 2 and f"{option[0]} needs --calib" in error
    assert not (tmp_path / "out").exists()


def test_formats_of_depth_cloud_and_mesh(call, tmp_path, pair, calib):
    out = tmp_path / "out"
    options = (
        "--depth",
        "png,npy",
        "--cloud",
        "pcd,glb",
        "--mesh",
        "--max-depth",
        "50",
        "--voxel",
        "0.02",
        "--normals",
    )
    status, text, error = call("stereo", *pair, "-o", out, "--calib", calib, *options, "--json")
    assert status == 0, error
    result = json.loads(text)
    files = {"depth.png", "depth.npy", "depth_sigma.npy", "cloud.pcd", "cloud.glb", "mesh.glb"}
    assert files <= set(result["files"]) and "cloud.ply" not in result["files"]
    assert all((out / name).is_file() for name in files)
    exact, stored = read_depth(out / "depth.npy"), read_depth(out / "depth.png")
    np.testing.assert_allclose(stored.depth_HW, exact.depth_HW, atol=0.0005)
    assert call("stereo", *pair, "-o", out, "--calib", calib, "--cloud", "none")[0] == 0
    assert not list(out.glob("cloud.*")) and not (out / "mesh.glb").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--depth", "exr"), "unknown depth format"),
        (("--cloud", "obj"), "unknown cloud format"),
        (("--voxel", "0"), "positive number of metres"),
        (("--min-depth", "5", "--max-depth", "2"), "nearest first"),
        (("--min-depth", "500"), "no pixel lies between 500"),
        (("--export", "tom"), "tum"),
    ],
)
def test_values_that_make_no_sense_are_one_line(call, tmp_path, pair, calib, options, words):
    status, _, error = call("stereo", *pair, "-o", tmp_path / "out", "--calib", calib, *options)
    assert status == 2 and words in error and error.count("\n") == 1


def test_a_folder_becomes_one_rgbd_folder_and_resumes(call, tmp_path, make_pair, save, calib):
    for name, shift in (("a", 8), ("b", 6)):
        left, right = make_pair(shift, 64, 96)
        save(tmp_path / f"lefts/{name}.png", left)
        save(tmp_path / f"rights/{name}.png", right)
    command = ("stereo", tmp_path / "lefts", tmp_path / "rights", "-o", tmp_path / "out", "--calib", calib)
    status, _, error = call(*command, "--max-depth", "10", "--export", "tum")
    assert status == 0, error
    lines = (tmp_path / "out/tum/associations.txt").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["rgb/a.png", "rgb/b.png"]
    stored = np.asarray(Image.open(tmp_path / "out/tum/depth/a.png"))
    assert np.median(stored[stored > 0]) == pytest.approx(5000, rel=0.05)
    status, text, _ = call(*command, "--max-depth", "10", "--export", "nerfstudio")
    assert status == 0 and "2 already there" in text
    assert (tmp_path / "out/nerfstudio/transforms.json").is_file()


def test_an_export_never_replaces_an_input(call, tmp_path, make_pair, save, calib):
    left, right = make_pair(8, 64, 96)
    one, other = save(tmp_path / "out/tum/rgb/a.png", left), save(tmp_path / "r.png", right)
    status, _, error = call("stereo", one, other, "-o", tmp_path / "out", "--calib", calib, "--export", "tum")
    assert status == 2 and "is an input" in error and one.is_file()
    assert not (tmp_path / "out/result.json").exists()


def test_an_export_that_cannot_be_is_told_before_the_work(call, tmp_path, pair, calib, monkeypatch):
    monkeypatch.setattr("depthlight.cli.stereo._do", lambda *args: pytest.fail("worked"))
    (tmp_path / "out/tum").mkdir(parents=True)
    (tmp_path / "out/tum/mine.txt").write_text("")
    status, _, error = call("stereo", *pair, "-o", tmp_path / "out", "--calib", calib, "--export", "tum")
    assert status == 2 and "something else than a tum export" in error and error.count("\n") == 1


def test_another_range_is_another_request(call, tmp_path, make_pair, save, calib):
    left, right = make_pair(8, 64, 96)
    save(tmp_path / "lefts/a.png", left)
    save(tmp_path / "rights/a.png", right)
    command = ("stereo", tmp_path / "lefts", tmp_path / "rights", "-o", tmp_path / "out", "--calib", calib)
    assert "1 done" in call(*command)[1]
    assert "1 already there" in call(*command)[1]
    assert "1 done" in call(*command, "--max-depth", "30")[1]


def test_another_unit_or_right_camera_is_another_request(call, tmp_path, make_pair, save):
    left, right = make_pair(8, 64, 96)
    save(tmp_path / "lefts/a.png", left)
    save(tmp_path / "rights/a.png", right)
    command = ("stereo", tmp_path / "lefts", tmp_path / "rights", "-o", tmp_path / "out", "--model", "sgbm", "--calib")
    (tmp_path / "calib.txt").write_text(CALIB.replace("baseline=100", "baseline=2.5"))
    assert "1 done" in call(*command, tmp_path / "calib.txt")[1]
    assert "1 already there" in call(*command, tmp_path / "calib.txt", "--unit", "mm")[1]
    assert "1 done" in call(*command, tmp_path / "calib.txt", "--unit", "m")[1]
    rig = StereoRig(fx=80, fy=80, cx=48, cy=32, baseline=0.1, width=96, height=64)
    write_calibration(tmp_path / "ros", rig, "ros")
    assert "1 done" in call(*command, tmp_path / "ros")[1]
    assert "1 already there" in call(*command, tmp_path / "ros")[1]
    before = np.load(tmp_path / "out/a/depth.npy")
    write_calibration(tmp_path / "wide", replace(rig, baseline=0.2), "ros")
    (tmp_path / "wide/right.yaml").replace(tmp_path / "ros/right.yaml")
    assert "1 done" in call(*command, tmp_path / "ros")[1]
    np.testing.assert_allclose(np.load(tmp_path / "out/a/depth.npy"), 2 * before, rtol=1e-5)
