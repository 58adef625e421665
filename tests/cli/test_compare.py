"""``depthlight compare``: several models on one pair."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from depthlight.io.disparity_files import write_disparity


@pytest.fixture
def truth(tmp_path):
    """The true disparity of ``pair``, as a file."""
    write_disparity(tmp_path / "truth.png", np.full((64, 96), 8, np.float32))
    return tmp_path / "truth.png"


def test_compare_gives_figures_and_a_picture(call, tmp_path, pair, truth):
    args = ["--models", "light,sgbm", "--truth", truth, "-o", tmp_path / "c", "--json"]
    status, text, _ = call("compare", *pair, *args)
    found = json.loads(text)
    assert status == 0
    assert found["models"]["light"]["epe"] < 3
    assert set(found["models"]) == {"light", "sgbm"}
    assert cv2.imread(found["picture"]).shape[1] > 96
    assert found["models"]["light"]["density"] == 100
    assert 0 < found["models"]["sgbm"]["density"] < 100  # before its holes were filled


def test_the_images_of_the_picture_have_one_width(call, tmp_path, pair, truth):
    call("compare", *pair, "--models", "sgbm", "--truth", truth, "-o", tmp_path / "c", "-q")
    picture = cv2.imread(str(tmp_path / "c/compare.png"))
    shown = _width_of_the_image(picture[:, : picture.shape[1] // 2])
    assert abs(shown - 240) <= 2  # not stretched into the room of the scale that the left image lacks


def _width_of_the_image(panel):
    """Columns that are not paper halfway down the first row of panels."""
    row = panel[panel.shape[0] // 4]
    return int((row.min(axis=1) < 250).sum())


def test_the_oracle_takes_the_truth(call, tmp_path, pair, truth):
    args = ["--models", "sgbm,sgbm-oracle", "-o", tmp_path / "c", "--json"]
    status, text, _ = call("compare", *pair, "--truth", truth, *args)
    assert status == 0
    assert json.loads(text)["models"]["sgbm-oracle"]["epe"] < 1
    status, text, err = call("compare", *pair, *args)
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert "compare --truth" in err


def test_networks_take_the_options_and_sgbm_has_its_own(call, tmp_path, pair):
    options = ["--backend", "torch", "--device", "cpu", "--precision", "fp32", "--threads", "1"]
    assert call("compare", *pair, "--models", "light,sgbm", *options, "-o", tmp_path / "c", "-q")[0] == 0
    status, _, err = call("compare", *pair, "--models", "light", "--device", "meta", "-o", tmp_path / "c")
    assert status == 2
    assert "meta" in err


def test_the_picture_never_replaces_an_input(call, tmp_path, pair):
    left = pair[0].rename(tmp_path / "compare.png")
    before = left.read_bytes()
    status, _, err = call("compare", left, pair[1], "--models", "sgbm", "-o", tmp_path)
    assert status == 2
    assert "compare.png is an input" in err
    assert left.read_bytes() == before
