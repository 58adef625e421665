"""A map as HTML: self-contained, and the values it tells are the map's."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest

import depthlight as dl
from depthlight.io.hover import hover_html


def values_in(page: str) -> dict[str, np.ndarray]:
    """The maps a page holds, by name."""
    (text,) = re.findall(r"const maps = (\[.*\])\.map", page)
    width, height = map(int, re.findall(r"\[w, h\] = \[(\d+), (\d+)\]", page)[0])
    parts = json.loads(text.replace("'", '"'))
    return {name: np.frombuffer(base64.b64decode(data), "<f4").reshape(height, width) for name, _, data in parts}


@pytest.mark.parametrize("shape", [(3, 5), (40, 60), (300, 1000)])
def test_the_values_are_the_maps(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    page = hover_html("x", {"x": (columns, "px"), "y": (rows, "")}, "a map")
    found = values_in(page)
    step = shape[1] / found["x"].shape[1]
    middle = np.arange(found["x"].shape[1]) * step + step / 2
    assert np.abs(found["x"] - middle).max() <= 1  # the value under the pointer is one of the pixels under it
    assert np.abs(found["y"][:, 0] - (np.arange(found["y"].shape[0]) * step + step / 2)).max() <= 1


def test_what_is_not_valid_has_no_value():
    valid = np.ones((4, 6), bool)
    valid[1, 2] = False
    found = values_in(hover_html("d", {"d": (np.ones((4, 6), np.float32), "px")}, "", valid_HW=valid))
    assert np.isnan(found["d"][1, 2]) and np.isfinite(found["d"]).sum() == 23


def test_a_page_loads_nothing_and_no_caption_breaks_out():
    page = hover_html("d", {"d": (np.zeros((2, 2), np.float32), "m")}, '"><script>alert(1)</script>')
    assert "http" not in page and "<script>alert" not in page


def test_predictions_show_themselves(make_pair):
    prediction = dl.load(threads=1).predict(*make_pair(6, 64, 96))
    assert "96x64" in repr(prediction) and "light" in repr(prediction) and len(repr(prediction)) < 200
    found = values_in(prediction._repr_html_())
    np.testing.assert_array_equal(found["disparity"], prediction.disparity)
    np.testing.assert_array_equal(found["confidence"], prediction.confidence)
    depth = prediction.to_depth(dl.StereoRig(fx=100, fy=100, cx=48, cy=32, baseline=0.1, width=96, height=64))
    shown = values_in(depth._repr_html_())["depth"]
    np.testing.assert_array_equal(shown[depth.valid], depth.depth[depth.valid])
    assert np.isnan(shown[~depth.valid]).all()
