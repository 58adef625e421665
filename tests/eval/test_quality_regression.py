"""X15: the bundled default on fixed engine pairs, by region: only worse fails. X7: what exposure and gray cost it.

After a change of weights, `python tests/eval/test_quality_regression.py` stores their figures.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import depthlight
from depthlight.core.registry import DEFAULT_MODEL
from depthlight.data.samples import StereoSample, iterate
from depthlight.data.scenes import SceneFolder
from depthlight.eval.metrics import stereo_metrics
from depthlight.eval.regions import REGIONS, region_metrics
from depthlight.infer.prediction import StereoMatcher

PAIRS = Path(__file__).with_name("frozen_pairs")
STORED = PAIRS / "quality.json"
WORSE = 1.03  # OpenCV's idea: a band upwards only
CHANGES = {
    "gain +10 %": lambda image: np.clip(image * 1.1, 0, 255),
    "gain -10 %": lambda image: image * 0.9,
    "5 levels up": lambda image: np.clip(image + 5.0, 0, 255),
    "5 levels down": lambda image: np.clip(image - 5.0, 0, 255),
}


def samples() -> list[StereoSample]:
    return list(iterate(SceneFolder(PAIRS, ["layered", "meshes"])))


def by_region(matcher: StereoMatcher) -> dict[str, dict[str, list[float]]]:
    """pair → region → [EPE, bad2]."""
    found = {}
    for sample in samples():
        metrics = region_metrics(matcher.predict(sample.left_HW3, sample.right_HW3).disparity, sample)
        found[sample.name] = {region: [m.epe, m.bad2] for region, m in metrics.items() if m is not None}
    return found


@pytest.fixture(scope="module")
def model() -> StereoMatcher:
    return depthlight.load(threads=1)


def test_no_region_is_worse_than_stored(model):  # X15
    stored = json.loads(STORED.read_text())[DEFAULT_MODEL]
    found = by_region(model)
    assert {region for regions in found.values() for region in regions} == set(REGIONS)
    worse = {
        (pair, region): (figures, stored[pair][region])
        for pair, regions in found.items()
        for region, figures in regions.items()
        if any(new > WORSE * old + 1e-6 for new, old in zip(figures, stored[pair][region], strict=True))
    }
    assert worse == {}


def error(matcher: StereoMatcher, sample: StereoSample, left: np.ndarray, right: np.ndarray) -> float:
    assert sample.disparity_HW is not None
    assert sample.valid_HW is not None
    disparity = matcher.predict(left, right).disparity
    return stereo_metrics(disparity, sample.disparity_HW, sample.valid_HW).epe


@pytest.mark.parametrize("change", list(CHANGES))
def test_exposure_of_one_view_costs_at_most_a_tenth(model, change):  # X7
    pairs = samples()
    plain = np.mean([error(model, s, s.left_HW3, s.right_HW3) for s in pairs])
    changed = [error(model, s, s.left_HW3, np.rint(CHANGES[change](s.right_HW3)).astype(np.uint8)) for s in pairs]
    assert np.mean(changed) <= 1.1 * plain


def test_gray_costs_at_most_a_tenth(model):  # X7
    pairs = samples()
    plain = np.mean([error(model, s, s.left_HW3, s.right_HW3) for s in pairs])
    gray = [[cv2.cvtColor(v, cv2.COLOR_RGB2GRAY) for v in (s.left_HW3, s.right_HW3)] for s in pairs]
    assert np.mean([error(model, s, *views) for s, views in zip(pairs, gray, strict=True)]) <= 1.1 * plain


if __name__ == "__main__":
    stored = {DEFAULT_MODEL: by_region(depthlight.load(threads=1))}
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
