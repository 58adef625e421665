from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthlight.core.errors import FileFormatError, InputError
from depthlight.data.samples import StereoSample
from depthlight.eval.protocol import PROTOCOLS
from depthlight.eval.runner import evaluate, measure_scene
from depthlight.infer.prediction import ModelIdentity, StereoPrediction
from depthlight.infer.sgbm import SgbmMatcher, SgbmOracle

METRICS = {"epe", "bad1", "bad2", "bad3", "d1", "density"}
FIGURES = METRICS | {"ause", "bad2_kept80", "bad2_drop80"}


def scene(
    name: str, error: float, *, truth: float = 20.0, size: tuple[int, int] = (4, 10), **more: Any
) -> StereoSample:
    """A sample whose left image says by how much :class:`Tinted` is to be wrong."""
    left_HW3 = np.full((*size, 3), round(error * 10), np.uint8)
    truth_HW = np.full(size, truth, np.float32)
    facts = {"disparity_HW": truth_HW, "valid_HW": np.ones(size, bool), **more}
    return StereoSample(left_HW3=left_HW3, right_HW3=left_HW3, name=name, **facts)


class Tinted:
    """Answers 20 px plus a tenth of the left image's brightness."""

    name = "tinted.test"

    def __init__(self) -> None:
        self.ranges: list[int] = []

    def predict(self, left: Any, right: Any, *, max_disp: int = 192) -> StereoPrediction:
        self.ranges.append(max_disp)
        disparity_HW = (20 + left[..., 0] / 10).astype(np.float32)
        return StereoPrediction(
            disparity=disparity_HW,
            confidence=np.full_like(disparity_HW, 0.5),
            valid=np.zeros(disparity_HW.shape, bool),
            saturated=0.0,
            model=ModelIdentity(self.name, "ab12", "numpy", "fp32", "cpu"),
            max_disp=max_disp,
            seconds=0.25,
        )


@dataclass
class Shelf:
    """Samples in memory; an exception in the place of a sample is raised when it is read."""

    samples: dict[str, StereoSample | Exception]
    name: str = "shelf"
    reads: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def sample_name(self, index: int) -> str:
        return list(self.samples)[index]

    def __getitem__(self, index: int) -> StereoSample:
        self.reads.append(self.sample_name(index))
        sample = self.samples[self.sample_name(index)]
        if isinstance(sample, Exception):
            raise sample
        return sample


def shelf(*samples: StereoSample) -> Shelf:
    return Shelf({sample.name: sample for sample in samples})


def test_the_schema_of_the_design() -> None:
    half = np.zeros((4, 10), bool)
    half[:, :5] = True
    result = evaluate(Tinted(), shelf(scene("a-1", 1.5, visible_HW=half), scene("a-2", 2.5), scene("b-1", 0.0)))
    found = json.loads(result.to_json())
    assert found["protocol"]["name"] == "default"
    assert found["protocol"]["cap"] is None
    assert found["protocol"]["max_disp"] == 192
    assert (found["model"], found["weights_sha256"], found["backend"]) == ("tinted.test", "ab12", "numpy")
    assert list(found["scenes"]) == ["a-1", "a-2", "b-1"]
    assert set(found["scenes"]["a-1"]["all"]) == METRICS | {"ause", "bad2_kept80"}
    assert set(found["scenes"]["a-1"]["noc"]) == METRICS
    assert found["scenes"]["a-2"]["noc"] is None
    assert set(found["mean"]) == FIGURES
    assert set(found["mean_noc"]) == METRICS | {"n"}
    assert found["mean_noc"]["n"] == 1
    assert {group: figures["n"] for group, figures in found["groups"].items()} == {"a": 2, "b": 1}
    assert set(found["groups"]["a"]) == FIGURES | {"n"}
    assert found["mean"]["epe"] == pytest.approx(4 / 3)
    assert found["groups"]["a"]["epe"] == pytest.approx(2.0)
    assert found["mean"]["bad1"] == pytest.approx(200 / 3)
    assert found["mean"]["density"] == 100.0
    assert found["counts"] == {"scenes": 3, "noc": 1, "failed": 0}
    assert found["headline"] == {metric: found["mean"][metric] for metric in ("epe", "bad1", "bad2", "d1")}


def test_scenes_weigh_alike_in_the_mean_and_pixels_in_the_pool() -> None:
    result = evaluate(Tinted(), shelf(scene("a-1", 4.0, size=(1, 10)), scene("a-2", 0.0, size=(3, 10)))).to_dict()
    assert result["mean"]["epe"] == pytest.approx(2.0)
    assert result["mean"]["d1"] == pytest.approx(50.0)
    assert result["pooled"]["epe"] == pytest.approx(1.0)
    assert result["pooled"]["d1"] == pytest.approx(25.0)
    assert result["pooled"]["pixels"] == 40


def test_kitti_pools_d1_and_averages_epe() -> None:
    result = evaluate(
        Tinted(), shelf(scene("k-1", 4.0, size=(1, 10)), scene("k-2", 0.0, size=(3, 10))), PROTOCOLS["kitti"]
    ).to_dict()
    assert result["headline"] == pytest.approx({"d1_pooled": 25.0, "epe": 2.0})


def test_a_cap_leaves_the_far_end_of_the_range_out_and_the_default_does_not() -> None:
    truth_HW = np.full((4, 10), 20.0, np.float32)
    truth_HW[:, :5] = 192.0
    sample = scene("k-1", 0.0, disparity_HW=truth_HW)
    prediction = Tinted().predict(sample.left_HW3, sample.right_HW3)
    assert measure_scene(prediction, sample, PROTOCOLS["kitti"]).sums.metrics().epe == 0.0
    assert measure_scene(prediction, sample, PROTOCOLS["default"]).sums.metrics().epe == pytest.approx(86.0)


def test_a_non_occluded_headline_leaves_scenes_without_a_mask_out() -> None:
    half = np.zeros((4, 10), bool)
    half[0] = True
    with_mask, without = scene("m-1", 1.5, visible_HW=half), scene("m-2", 9.0)
    found = evaluate(Tinted(), shelf(with_mask, without), PROTOCOLS["eth3d"]).to_dict()
    assert found["headline"] == {"bad1": 100.0}
    assert found["mean_noc"]["n"] == 1
    nothing = evaluate(Tinted(), shelf(without), PROTOCOLS["eth3d"]).to_dict()
    assert nothing["headline"] == {"bad1": None}
    assert nothing["mean_noc"] is None


def test_noc_is_over_the_pixels_both_views_see() -> None:
    seen_HW = np.zeros((4, 10), bool)
    seen_HW[:, :3] = True
    truth_HW = np.where(seen_HW, np.float32(21), np.float32(30))
    found = evaluate(Tinted(), shelf(scene("a-1", 0.0, disparity_HW=truth_HW, visible_HW=seen_HW))).to_dict()
    assert found["scenes"]["a-1"]["noc"]["epe"] == found["pooled_noc"]["epe"] == 1.0
    assert found["scenes"]["a-1"]["all"]["epe"] == pytest.approx(7.3)


def test_neither_valid_nor_confidence_removes_a_pixel() -> None:
    sample = scene("a-1", 3.5)
    prediction = Tinted().predict(sample.left_HW3, sample.right_HW3)  # valid nowhere
    assert measure_scene(prediction, sample, PROTOCOLS["default"]).sums.pixels == 40


def test_a_bad_scene_is_reported_and_counted_and_not_averaged() -> None:
    samples: dict[str, StereoSample | Exception] = {
        "a-1": scene("a-1", 1.0),
        "a-2": FileFormatError("/data/a-2/disp.png is damaged", path="/data/a-2"),
        "a-3": scene("a-3", 1.0, disparity_HW=None),
        "a-4": scene("a-4", 3.0, path=Path("/data/a-4")),
    }
    seen: list[str] = []
    dataset = Shelf(samples)
    result = evaluate(Tinted(), dataset, on_scene=lambda outcome: seen.append(outcome.name))
    found = json.loads(result.to_json())
    assert seen == dataset.reads == ["a-1", "a-2", "a-3", "a-4"]
    assert list(found["scenes"]) == ["a-1", "a-4"]
    assert found["mean"]["epe"] == pytest.approx(2.0)
    assert found["counts"]["failed"] == 2
    assert found["failures"]["a-2"] == {
        "path": "/data/a-2",
        "error": "/data/a-2/disp.png is damaged.",
        "code": "bad_file",
    }
    assert "no ground truth" in found["failures"]["a-3"]["error"]


def test_when_every_scene_fails_there_is_no_figure() -> None:
    found = evaluate(Tinted(), Shelf({"a-1": FileFormatError("broken")})).to_dict()
    assert found["mean"] is found["mean_noc"] is found["pooled"] is None
    assert found["groups"] == {}
    assert found["headline"]["epe"] is None
    assert found["model"] == "tinted.test"


def test_a_fault_of_the_program_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        evaluate(Tinted(), Shelf({"a-1": ZeroDivisionError()}))


def test_non_finite_predictions_fail_their_scene() -> None:
    class Broken(Tinted):
        def predict(self, left: Any, right: Any, *, max_disp: int = 192) -> StereoPrediction:
            prediction = super().predict(left, right, max_disp=max_disp)
            prediction.disparity[1, 2] = np.inf
            return prediction

    found = evaluate(Broken(), shelf(scene("a-1", 1.0))).to_dict()
    assert "row 1, column 2" in found["failures"]["a-1"]["error"]


def test_the_range_is_the_protocols_and_pictures_see_every_prediction() -> None:
    matcher = Tinted()
    drawn: list[str] = []
    evaluate(matcher, shelf(scene("a-1", 1.0), scene("a-2", 1.0)), pictures=lambda sample, _: drawn.append(sample.name))
    assert matcher.ranges == [192, 192]
    assert drawn == ["a-1", "a-2"]


def test_names_without_a_source_are_one_group() -> None:
    assert set(evaluate(Tinted(), shelf(scene("000001", 1.0), scene("000002", 1.0))).to_dict()["groups"]) == {"shelf"}


def test_empty_and_ambiguous_datasets_are_refused() -> None:
    class Twice(Shelf):
        def sample_name(self, index: int) -> str:
            return "same"

    with pytest.raises(InputError, match="is empty"):
        evaluate(Tinted(), Shelf({}))
    with pytest.raises(InputError, match="2 scenes named 'same'"):
        evaluate(Tinted(), Twice({"a": scene("a", 1.0), "b": scene("b", 1.0)}))


def test_the_oracle_is_given_the_range_of_the_truth_and_sgbm_is_not() -> None:
    texture = np.random.default_rng(3).integers(0, 256, (40, 130, 3), dtype=np.uint8)
    truth_HW = np.full((40, 120), 10, np.float32)
    sample = StereoSample(texture[:, :120], texture[:, 10:], "s-1", truth_HW, np.ones((40, 120), bool))
    used: dict[str, int] = {}
    for matcher in (SgbmMatcher(), SgbmOracle()):
        result = evaluate(
            matcher,
            shelf(sample),
            pictures=lambda _, prediction: used.update({prediction.model.name: prediction.max_disp}),
        ).to_dict()
        assert result["model"] == matcher.name
        assert 50 < result["mean"]["density"] < 100
        assert result["mean"]["epe"] < 0.5
    assert used == {"sgbm": 192, "sgbm-oracle": 16}


def test_csv_has_a_row_for_everything(tmp_path: Path) -> None:
    result = evaluate(
        Tinted(), Shelf({"a-1": scene("a-1", 1.5, visible_HW=np.ones((4, 10), bool)), "b-1": FileFormatError("broken")})
    )
    text = result.to_csv(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["kind"], row["name"]) for row in rows] == [
        ("scene", "a-1"),
        ("failed", "b-1"),
        ("group", "a"),
        ("mean", "shelf"),
    ]
    assert float(rows[0]["noc_epe"]) == float(rows[-1]["epe"]) == 1.5
    assert rows[1]["epe"] == ""


def test_json_lands_whole_and_repeats(tmp_path: Path) -> None:
    dataset = shelf(scene("a-1", 1.5), scene("a-2", 0.5))
    text = evaluate(Tinted(), dataset).to_json(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == text == evaluate(Tinted(), dataset).to_json()


def test_evaluation_needs_no_torch() -> None:
    code = (
        "import sys, depthlight.eval.runner, depthlight.eval.submission, depthlight.eval.assertions, "
        "depthlight.eval.regions, depthlight.data.scenes; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
