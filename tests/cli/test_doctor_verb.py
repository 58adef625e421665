"""``depthlight doctor``: status, JSON, files, bad input; and the hint of ``stereo``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAIR = Path(__file__).parents[1] / "eval" / "frozen_pairs" / "layered"


@pytest.fixture
def views():
    return PAIR / "left.webp", PAIR / "right.webp"


def test_a_good_pair_is_status_0(call, views):
    status, text, err = call("doctor", *views)
    assert (status, err) == (0, "")
    assert "Nothing wrong was found" in text


def test_an_error_is_status_1_with_advice(call, views):
    status, text, err = call("doctor", *views[::-1])
    assert status == 1
    assert "error swapped: " in text
    assert "do:  exchange the two files" in text
    assert err == "depthlight: the pair is not fit for stereo: swapped.\n"


def test_json_and_files_hold_the_same(call, views, tmp_path):
    status, text, _ = call("doctor", *views[::-1], "--json", "-q", "-o", tmp_path / "out")
    assert status == 1
    result = json.loads(text)
    assert result == json.loads((tmp_path / "out/doctor.json").read_text())
    assert result["ok"] is False
    assert set(result["findings"][0]) == {"id", "severity", "value", "unit", "says", "why", "do"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"doctor.json", "doctor.png"}
    with Image.open(tmp_path / "out/doctor.png") as picture:
        assert picture.width == 1000


def test_quiet_prints_nothing_on_a_good_pair(call, views):
    assert call("doctor", *views, "-q") == (0, "", "")


def test_a_warning_is_status_0(call, save, tmp_path):
    left, right = (np.asarray(Image.open(PAIR / f"{side}.webp").convert("RGB")) for side in ("left", "right"))
    dark = save(tmp_path / "dark.png", (right * 0.6).astype(np.uint8))
    status, text, _ = call("doctor", save(tmp_path / "l.png", left), dark)
    assert status == 0
    assert "warning exposure: " in text


def test_calibration_is_checked(call, views, tmp_path):
    rig = {"fx": 711, "fy": 711, "cx": 255.5, "cy": 127.5, "baseline": 51.4, "width": 512, "height": 256}
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    status, text, _ = call("doctor", *views, "--calib", tmp_path / "rig.json")
    assert status == 1
    assert "baseline-unit" in text


def test_unit_and_format_of_the_calibration_can_be_stated(call, views, tmp_path):
    (tmp_path / "K.txt").write_text("711 0 255.5 0 711 127.5 0 0 1\n51.4\n")
    options = ["--calib", tmp_path / "K.txt", "--calib-format", "foundation"]
    assert "baseline-unit" in call("doctor", *views, *options)[1]
    assert call("doctor", *views, *options, "--unit", "mm", "-q") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no.png", "r"], "no.png does not exist"),
        (["l", "text.png"], "text.png is not an image"),
        (["l"], "argument 'right'"),
        (["l", "r", "--calib", "none.txt"], "none.txt does not exist"),
        (["l", "r", "--calib", "text.png"], "text.png"),
        (["l", "r", "--max-disp", "0"], "--max-disp"),
        (["l", "r", "-o", "text.png/out"], "cannot write"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(call, views, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    known = {"l": views[0], "r": views[1]}
    status, text, err = call("doctor", *[known.get(word, word) for word in arguments])
    assert (status, text) == (2, "")
    assert err.count("\n") == 1
    assert says in err


def test_inputs_are_not_replaced(call, save, tmp_path, views):
    left = save(tmp_path / "doctor.png", np.asarray(Image.open(views[0]).convert("RGB")))
    before = left.read_bytes()
    status, _, err = call("doctor", left, views[1], "-o", tmp_path)
    assert status == 2
    assert "is an input" in err
    assert left.read_bytes() == before


def test_stereo_hints_at_the_doctor(call, views, tmp_path):
    status, text, _ = call("stereo", *views, "-o", tmp_path / "good")
    assert status == 0
    assert "doctor" not in text
    status, text, _ = call("stereo", *views[::-1], "-o", tmp_path / "swapped")
    assert status == 0
    assert "Run depthlight doctor on the pair." in text.splitlines()[-1]


def test_a_folder_run_says_how_many_look_wrong(call, save, tmp_path, views):
    left, right = (np.asarray(Image.open(path).convert("RGB")) for path in views)
    for name, pair in {"a": (left, right), "b": (right, left)}.items():
        save(tmp_path / f"lefts/{name}.png", pair[0])
        save(tmp_path / f"rights/{name}.png", pair[1])
    status, text, _ = call("stereo", tmp_path / "lefts", tmp_path / "rights", "-o", tmp_path / "out")
    assert status == 0
    assert "1 of 2 look wrong, first b: " in text
