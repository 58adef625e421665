"""``calibrate``, ``rectify`` and then ``stereo``: the way from raw cameras to metres, and what is refused on it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from depthlight import StereoRig
from depthlight.cli.rectify import _tell
from depthlight.geometry.calibration import read_calibration, write_calibration
from depthlight.io.native import read_native, write_native


@pytest.fixture
def raw_pair(tmp_path, rig_of, make_pair):
    """A raw rig on disk and two textured images of its size."""
    rig = rig_of(4)
    write_calibration(tmp_path / "raw.json", rig, "json")
    left, right = make_pair(8, 300, 400)
    write_native(tmp_path / "l.png", left)
    write_native(tmp_path / "r.png", right)
    return rig, tmp_path / "l.png", tmp_path / "r.png", tmp_path / "raw.json"


@pytest.fixture(scope="module")
def boards(tmp_path_factory, rig_of, board_pairs):
    from dataclasses import replace

    from depthlight.geometry.cameras import to_vector

    folder = tmp_path_factory.mktemp("boards")
    rig = rig_of(3)
    rig = replace(rig, T=to_vector(np.array(rig.T) / rig.baseline * 0.08))
    for number, pair in enumerate(board_pairs(rig, 7, seed=2)):
        for side, image in zip(("left", "right"), pair, strict=True):
            write_native(folder / side / f"<b>{number}.png", image)
    blank = np.full((300, 400), 120, np.uint8)
    for side in ("left", "right"):
        write_native(folder / side / "without.png", blank)
    return rig, folder


def test_calibrate_writes_a_calibration_and_a_page(call, boards, tmp_path):
    rig, folder = boards
    words = ("--board", "chessboard", "9x6", "--square", "30mm", "-o", tmp_path / "out")
    status, text, _ = call("calibrate", folder / "left", folder / "right", *words, "--json")
    assert status == 0
    result = json.loads(text)
    assert result == json.loads((tmp_path / "out/result.json").read_text())
    assert result["rms_px"] < 0.2
    assert result["board_not_found"] == ["without"]
    assert result["baseline_m"] == pytest.approx(rig.baseline, rel=0.02)
    assert any("views were used" in remark for remark in result["remarks"])
    found = read_calibration(tmp_path / "out/calibration.json").cameras
    assert read_calibration(tmp_path / "out/opencv.yml").cameras == found
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "<script" not in page
    assert "<b>0" not in page  # names are text, not markup
    assert "&lt;b&gt;0" in page
    with pytest.raises(Exception, match="not rectified"):
        StereoRig.from_file(tmp_path / "out/calibration.json")


@pytest.mark.parametrize(
    ("board", "square", "says"),
    [
        (("chessboard", "9x6"), "30", "a length with its unit"),
        (("chessboard", "nine"), "30mm", "columns x rows"),
        (("circles", "9x6"), "30mm", "unknown board"),
        (("charuco", "9x6"), "30mm", "was found in no pair of 8"),
    ],
)
def test_calibrate_says_what_is_wrong(call, boards, tmp_path, board, square, says):
    _, folder = boards
    status, text, err = call(
        "calibrate", folder / "left", folder / "right", "--board", *board, "--square", square, "-o", tmp_path / "out"
    )
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert says in err


def test_rectify_then_stereo_gives_metres(call, raw_pair, tmp_path):
    rig, left, right, calib = raw_pair
    out = tmp_path / "out"
    status, text, _ = call("rectify", left, right, "--calib", calib, "-o", out, "--json")
    assert status == 0
    result = json.loads(text)
    assert result == json.loads((out / "result.json").read_text())
    assert result["metres"] is True
    assert result["valid_rectangle"] == [0, 0, 400, 300]
    made = StereoRig.from_file(out / "rig.json")
    assert made.baseline == rig.baseline
    assert StereoRig.from_file(out / "calib.txt") == made
    assert (read_native(out / "mask_left.png") == 255).all()
    pair = (out / "left.png", out / "right.png")
    assert call("stereo", *pair, "--calib", out / "rig.json", "-o", tmp_path / "depth")[0] == 0
    assert (tmp_path / "depth/cloud.ply").is_file()


def test_rectify_keeps_16_bits_and_gray_and_takes_folders(call, raw_pair, tmp_path):
    _, left, _, calib = raw_pair
    deep = read_native(left)[..., 0].astype(np.uint16) * 257
    for side in ("ls", "rs"):
        for name in ("a", "b"):
            write_native(tmp_path / side / f"{name}.png", deep)
    status, text, _ = call(
        "rectify", tmp_path / "ls", tmp_path / "rs", "--calib", calib, "-o", tmp_path / "out", "--json"
    )
    assert status == 0
    assert list(json.loads(text)["pairs"]) == ["a", "b"]
    made = read_native(tmp_path / "out/right/b.png")
    assert made.dtype == np.uint16
    assert made.shape == (300, 400)
    (tmp_path / "rs/b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    status, _, err = call("rectify", tmp_path / "ls", tmp_path / "rs", "--calib", calib, "-o", tmp_path / "out")
    assert status == 1
    assert "1 of 2 pairs failed" in err


def test_crop_alpha_shift_and_size(call, raw_pair, tmp_path):
    _, left, right, calib = raw_pair
    out = tmp_path / "out"
    words = ("--alpha", 1, "--shift", 12, "--size", "480x360", "--crop")
    status, text, _ = call("rectify", left, right, "--calib", calib, "-o", out, *words, "--json")
    assert status == 0
    result = json.loads(text)
    width, height = result["valid_rectangle"][2:]
    rig = StereoRig.from_file(out / "rig.json")
    assert (rig.width, rig.height, rig.doffs) == (width, height, 12)
    assert width < 480
    for name in ("left.png", "right.png", "mask_left.png"):
        assert read_native(out / name).shape[:2] == (height, width)
    assert (read_native(out / "mask_right.png") == 255).all()


def test_images_of_another_size_are_scaled_with_the_calibration_or_refused(call, raw_pair, tmp_path):
    _, left, right, calib = raw_pair
    for path in (left, right):
        write_native(path, cv2.resize(read_native(path), (800, 600)))
    status, text, _ = call("rectify", left, right, "--calib", calib, "-o", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(text)["calibrated_size"] == [400, 300]
    assert StereoRig.from_file(tmp_path / "out/rig.json").width == 800
    write_native(left, read_native(left)[:400])
    status, _, err = call("rectify", left, right, "--calib", calib, "-o", tmp_path / "out")
    assert status == 2
    assert "the camera is for 400x300" in err


def test_uncalibrated_states_its_limits(call, tmp_path, motorcycle):
    left, right, _ = motorcycle
    turn = cv2.getRotationMatrix2D((370, 250), 1.0, 1.0)
    crooked = cv2.warpAffine(right, turn, (741, 500), borderMode=cv2.BORDER_REPLICATE)
    write_native(tmp_path / "l.png", left)
    write_native(tmp_path / "r.png", crooked)
    out = tmp_path / "out"
    status, text, _ = call("rectify", tmp_path / "l.png", tmp_path / "r.png", "--uncalibrated", "-o", out, "--json")
    assert status == 0
    result = json.loads(text)
    assert result["metres"] is False
    assert any("No metres" in limit for limit in result["limits"])
    assert result["vertical_error_px"] < 0.5
    assert not (out / "rig.json").exists()
    assert not (out / "calib.txt").exists()


def test_a_poor_uncalibrated_result_is_not_blamed_on_a_calibration(capsys, tmp_path):
    result = {"pairs": {"a": None}, "vertical_error_px": 0.8}
    _tell(tmp_path, {**result, "metres": False}, quiet=False, as_json=False)
    text = capsys.readouterr().out
    assert "since the calibration" not in text
    assert "Calibrate them" in text
    _tell(tmp_path, {**result, "metres": True}, quiet=False, as_json=False)
    assert "since the calibration" in capsys.readouterr().out


def test_rectify_says_what_is_wrong(call, raw_pair, tmp_path):
    _, left, right, calib = raw_pair
    cases = {
        (left, right): "needs a calibration or --uncalibrated",
        (left, right, "--calib", calib, "--uncalibrated"): "not both",
        (left, tmp_path / "none.png", "--calib", calib): "does not exist",
        (left, tmp_path, "--calib", calib): "a folder and a file",
        (left, right, "--uncalibrated", "--shift", 9): "--shift needs --calib",
        (left, right, "--calib", calib, "--alpha", 2): "alpha is 2",
        (left, right, "--calib", calib, "--size", "big"): "width x height",
        (left, right, "--calib", calib, "--calib-format", "yaml"): "unknown calibration format",
        (left, right, "--calib", tmp_path / "none.json"): "does not exist",
    }
    for words, says in cases.items():
        status, text, err = call("rectify", *words, "-o", tmp_path / "out")
        assert (status, text, err.count("\n")) == (2, "", 1), words
        assert says in err
    kept = left.rename(tmp_path / "left.png")
    status, _, err = call("rectify", kept, right, "--calib", calib, "-o", tmp_path)
    assert status == 2
    assert "would be replaced" in err
