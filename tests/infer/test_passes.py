"""Further passes over a pair: they come back at its size and px, and the sure ones decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthlight.infer.passes import confident_median, fitting_scales, middle, passes
from depthlight.infer.prediction import ModelIdentity, StereoPrediction


class Answer:
    """A model that answers a tenth of the width, and keeps what it was asked; ``doubt`` where it is upside down."""

    name = "answer"

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, int], int | None, float]] = []

    def predict(self, left: Any, right: Any, *, max_disp: int | None = None) -> StereoPrediction:
        height, width = left.shape[:2]
        self.asked.append(((height, width), max_disp, float(left[0].mean())))
        disparity = np.full((height, width), width / 10, np.float32)
        confidence = np.linspace(0, 1, height, dtype=np.float32)[:, None].repeat(width, 1)
        identity = ModelIdentity("answer", None, "", "", "")
        return StereoPrediction(disparity, confidence, confidence >= 0, 0.0, identity, max_disp or 192, 0.0, None)


def test_passes_come_back_at_the_pairs_size_and_px():
    model, image = Answer(), np.zeros((40, 60, 3), np.uint8)
    image[:20] = 200
    found = list(passes(model, image, image, model.predict(image, image), scales=(1.0, 1.5)))
    assert [size for size, _, _ in model.asked] == [(40, 60), (40, 60), (60, 90), (60, 90)]
    assert [reach for _, reach, _ in model.asked] == [None, 192, 288, 288]
    assert [top > 100 for _, _, top in model.asked] == [True, False, True, False], "every other one is upside down"
    for disparity, confidence in found:
        np.testing.assert_allclose(disparity, 6, rtol=1e-6)
        assert disparity.shape == confidence.shape == (40, 60)
    assert found[0][1][0, 0] < 0.1 and found[1][1][0, 0] > 0.9, "turned back"
    np.testing.assert_allclose(middle(found)[0], 6, rtol=1e-6)


def test_large_pairs_are_enlarged_less():
    scales = (1.0, 1.5, 2.0)
    assert fitting_scales(400, 400, scales, 1_000_000) == scales
    assert fitting_scales(600, 900, scales, 1_000_000) == pytest.approx((1.0, 1.361), abs=1e-3), "none twice"
    assert fitting_scales(1000, 1000, scales, 1_000_000) == (1.0,)
    assert fitting_scales(2000, 2000, scales, 1_000_000) == (1.0,), "never shrunk"
    assert fitting_scales(400, 400, ()) == ()


def test_confident_passes_outvote_doubtful_ones():
    disparity = np.float32([[[5, 5]], [[9, 9]], [[9.5, 2]]])
    confidence = np.float32([[[0.9, 0.1]], [[0.2, 0.9]], [[0.2, 0.1]]])
    middle, spread = confident_median(disparity, confidence)
    assert middle.tolist() == [[5, 9]]
    assert spread[0, 0] == pytest.approx((4 + 4.5) * 0.04 / 0.89, rel=1e-5)


@given(st.lists(st.floats(0, 200, width=32), min_size=1, max_size=5), st.floats(0, 1))
def test_equal_confidence_is_the_median(values, confidence):
    maps = np.float32(values)[:, None, None]
    middle, spread = confident_median(maps, np.full_like(maps, confidence))
    assert middle[0, 0] == sorted(np.float32(values))[(len(values) - 1) // 2]
    assert spread[0, 0] == pytest.approx(np.abs(maps - middle).mean(), abs=1e-3)
