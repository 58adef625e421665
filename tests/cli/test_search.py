"""Ranges and memory on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from depthlight.cli.search import parse_bytes
from depthlight.core.errors import InputError
from depthlight.io.disparity_files import read_disparity


@pytest.fixture
def below(tmp_path, make_pair):
    """A pair whose true disparity is -15 px."""
    right, left = make_pair(15, 96, 192)
    paths = tmp_path / "l.png", tmp_path / "r.png"
    for path, image in zip(paths, (left, right), strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_negative_disparities_are_searched_and_stored(call, tmp_path, below):
    out = tmp_path / "out"
    status, text, _ = call("stereo", *below, "-o", out, "--min-disp", "-20", "--format", "png,npy,pfm,tiff", "--json")
    assert status == 0
    result = json.loads(text)
    assert (result["min_disp"], result["max_disp"]) == (-32, 160)
    exact = read_disparity(out / "disparity.npy").disparity_HW
    assert np.abs(exact[:, 8:160] + 15).mean() < 1
    for suffix in ("png", "pfm", "tiff"):
        assert np.abs(read_disparity(out / f"disparity.{suffix}").disparity_HW - exact).max() <= 0.5 / 128 + 1e-4


def test_the_range_can_be_found(call, save, tmp_path, make_pair):
    right, left = make_pair(60, 128, 640, seed=3)  # disparity -60
    views = save(tmp_path / "l.png", left), save(tmp_path / "r.png", right)
    status, text, _ = call("stereo", *views, "-o", tmp_path / "out", "--find-range", "--json")
    assert status == 0
    assert json.loads(text)["min_disp"] <= -60


def test_a_folder_says_where_things_are_cut_off(call, save, tmp_path, make_pair):
    for name, shift in (("far", 12), ("near", 60)):
        left, right = make_pair(shift, 96, 320, seed=3)
        save(tmp_path / f"l/{name}.png", left)
        save(tmp_path / f"r/{name}.png", right)
    how = [tmp_path / "l", tmp_path / "r", "-o", tmp_path / "out", "--backend", "torch", "--max-disp", "64"]
    status, text, _ = call("stereo", *how)
    assert status == 0
    assert "1 of 2 reach the range's ends, first near: " in text and "--find-range" in text


def test_a_video_looks_at_several_frames_for_its_range(call, save, tmp_path, make_pair):
    for name, shift in (("0", 12), ("1", 280), ("2", 12)):
        left, right = make_pair(shift, 128, 640, seed=3)
        save(tmp_path / f"l/{name}.png", left)
        save(tmp_path / f"r/{name}.png", right)
    how = [tmp_path / "l", tmp_path / "r", "--video", "--fps", 10, "-o", tmp_path / "out", "--json"]
    found = json.loads(call("stereo", *how, "--find-range")[1])
    assert found["max_disp"] >= 280
    for side, image in zip("lr", make_pair(190, 128, 640, seed=3), strict=True):
        save(tmp_path / f"{side}/1.png", image)  # just inside: what a network says of 280 px is anybody's guess
    status, text, _ = call("stereo", *how[:-1], "--overwrite")
    assert status == 0
    assert "In the worst frame " in text and "at an end of the range (0 to 192 px)" in text


def test_compare_takes_the_same_range(call, tmp_path, below):
    status, text, _ = call(
        "compare", *below, "-o", tmp_path / "out", "--models", "light", "--min-disp", "-20", "--json"
    )
    assert status == 0
    assert json.loads(text)["models"]["light"]["disparity_min"] < -10


@pytest.mark.parametrize(
    ("text", "wanted"), [("4GB", 4 * 2**30), ("1.5 gib", 3 * 2**29), ("500m", 500 * 2**20), ("7", 7)]
)
def test_amounts_of_memory(text, wanted):
    assert parse_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "4 TB", "1e9", "nan"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InputError, match="4GB"):
        parse_bytes(text)
