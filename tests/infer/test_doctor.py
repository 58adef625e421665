"""The doctor: each fault of known size is found under its name, and what is whole raises no alarm."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import depthlight as dl
from depthlight.core.errors import InputError
from depthlight.geometry.rig import StereoRig
from depthlight.infer.doctor.appearance import edge_blur, gain, noise
from depthlight.infer.doctor.diagnose import diagnose, glance
from depthlight.infer.doctor.matches import Matches, find_matches
from depthlight.infer.doctor.measure import supported
from depthlight.infer.doctor.picture import diagnosis_page
from depthlight.infer.doctor.rows import fit_rows
from depthlight.io.disparity_files import read_disparity
from depthlight.io.images import read_image

ROOT = Path(__file__).parents[2]
PAIRS = ROOT / "tests" / "eval" / "frozen_pairs"
SEVERITIES = {"error", "warning", "notice"}


def _tool():
    spec = importlib.util.spec_from_file_location("doctor_report", ROOT / "tools" / "doctor_report.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["doctor_report"] = module
    spec.loader.exec_module(module)
    return module


TOOL = _tool()


def case(name: str):
    folder = PAIRS / name
    left, right = (read_image(folder / f"{side}.webp") for side in ("left", "right"))
    numbers = json.loads((folder / "meta.json").read_text())["calibration"]
    rig = StereoRig(**numbers, width=left.shape[1], height=left.shape[0])
    return TOOL.Case(left, right, read_disparity(folder / "disp.png").disparity_HW, rig)


@pytest.fixture(scope="module", params=["layered", "meshes"])
def whole(request):
    return case(request.param)


@pytest.fixture(scope="module")
def layered():
    return case("layered")


def alarms(*views, **options) -> set[str]:
    return TOOL.alarms(diagnose(*views, **options).findings)


# What is whole


def test_a_good_pair_raises_no_alarm(whole):
    diagnosis = diagnose(whole.left, whole.right, whole.rig)
    assert TOOL.alarms(diagnosis.findings) == set()
    assert diagnosis.ok


def test_a_real_pair_raises_no_alarm(motorcycle):
    left, right, _ = motorcycle
    from depthlight.cli.demo import MOTORCYCLE_RIG

    assert alarms(left, right, rig=MOTORCYCLE_RIG) == set()


@pytest.mark.parametrize("shift", [0.4, -0.7])
def test_the_vertical_offset_of_public_sets_is_a_notice(layered, shift):
    moved = cv2.warpAffine(layered.right, np.float32([[1, 0, 0], [0, 1, shift]]), layered.right.shape[1::-1])
    diagnosis = diagnose(layered.left, moved)
    assert diagnosis["vertical-offset"].severity == "notice"
    assert diagnosis["vertical-offset"].value == pytest.approx(shift, abs=0.1)
    assert TOOL.alarms(diagnosis.findings) == set()


def test_the_answer_is_the_same_twice(layered):
    one, other = (diagnose(layered.left, layered.right).to_dict() for _ in range(2))
    assert one == other


# What is not


@pytest.mark.parametrize("name", [name for name in TOOL.FAULTS if name not in ("unrelated", "range-saturation")])
def test_each_fault_is_found(layered, name):
    wrong = TOOL.FAULTS[name](layered, np.random.default_rng(5))
    diagnosis = diagnose(wrong.left, wrong.right, wrong.rig)
    assert TOOL.alarms(diagnosis.findings) & set(TOOL.NAMES.get(name, (name,)))
    for finding in diagnosis.findings:
        assert finding.severity in SEVERITIES
        assert np.isfinite(finding.value)
        assert finding.unit and finding.says and finding.why and finding.do
        assert not any("\n" in text or text.endswith(".") for text in (finding.says, finding.why, finding.do))


def test_what_is_beyond_the_range_is_found(layered):
    added = 160  # px cut off the left of the right view are added to every disparity
    left, right = layered.left[:, :-added], layered.right[:, added:]
    truth = layered.truth[:, :-added] + added
    seen = truth <= np.arange(truth.shape[1])
    finding = diagnose(left, right)["range-saturation"]
    # some of what has no match in the right view is filled in by the network, and counted
    assert 0.7 * (seen & (truth > 192)).mean() < finding.value < (truth > 192).mean()
    assert "--max-disp" in finding.do and "--backend" not in finding.do
    assert "range-saturation" not in diagnose(left, right, max_disp=300)


def test_views_of_two_scenes_are_unrelated(layered):
    assert diagnose(layered.left, case("meshes").right)["unrelated"].severity == "error"


@pytest.mark.parametrize(
    ("name", "known"), [("vertical-offset", 3.0), ("rotation", 2.0), ("scale", 4.0), ("exposure", 1.5)]
)
def test_the_measured_value_is_the_injected_one(layered, name, known):
    height, width = layered.left.shape[:2]
    centre = (width - 1) / 2, (height - 1) / 2
    right = layered.right
    if name == "vertical-offset":
        right = cv2.warpAffine(right, np.float32([[1, 0, 0], [0, 1, known]]), (width, height))
    elif name == "rotation":  # OpenCV's positive angles turn counter-clockwise
        right = cv2.warpAffine(right, cv2.getRotationMatrix2D(centre, -known, 1), (width, height))
    elif name == "scale":
        right = cv2.warpAffine(right, cv2.getRotationMatrix2D(centre, 0, 1 + known / 100), (width, height))
    else:
        right = np.clip(np.rint(right * known), 0, 255).astype(np.uint8)
    assert diagnose(layered.left, right)[name].value == pytest.approx(known, rel=0.1)


def test_negative_share_is_measured(layered):
    wrong = TOOL.negative_disparity(layered, np.random.default_rng(3))
    shift = layered.left.shape[1] - wrong.left.shape[1]
    truth = layered.truth[layered.truth > 0]
    finding = diagnose(wrong.left, wrong.right)["negative-disparity"]
    assert finding.value == pytest.approx(float((truth < shift).mean()), abs=0.15)
    assert "--min-disp -" in finding.do and "--find-range" in finding.do


def test_sizes_that_differ_stop_nothing_else(layered):
    diagnosis = diagnose(layered.left, layered.right[:-3])
    assert diagnosis["size-mismatch"].value == 3
    assert not diagnosis.ok
    assert diagnosis.to_dict()["measured"]["matches"] is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (31, 33), (100, 70)])
def test_tiny_images_get_a_diagnosis(shape):
    views = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    assert not np.array_equal(*views)
    diagnosis = diagnose(*views)
    json.dumps(diagnosis.to_dict(), allow_nan=False)
    assert diagnosis.findings


# Calibration


@pytest.mark.parametrize(
    ("change", "name", "severity"),
    [
        ({"width": 256, "height": 128, "fx": 355, "fy": 355, "cx": 127, "cy": 63}, "calibration-size", "notice"),
        ({"height": 200}, "calibration-size", "error"),
        ({"cx": 2000.0}, "intrinsics", "error"),
        ({"cx": 400.0}, "intrinsics", "warning"),
        ({"fx": 20.0, "fy": 20.0}, "intrinsics", "error"),
        ({"baseline": 51.4}, "baseline-unit", "error"),
        ({"baseline": 5e-5}, "baseline-unit", "error"),
        ({"doffs": -500.0}, "depth", "warning"),
    ],
)
def test_calibrations_that_do_not_fit(layered, change, name, severity):
    diagnosis = diagnose(layered.left, layered.right, replace(layered.rig, **change))
    assert diagnosis[name].severity == severity


def test_a_calibration_file_is_read_however_wrong_it_is(layered, tmp_path):
    text = (
        "cam0=[700 0 255; 0 700 127; 0 0 1]\ncam1=[700 0 255; 0 700 127; 0 0 1]\n"
        "doffs=0\nbaseline=0.0514\nwidth=512\nheight=256\n"
    )
    (tmp_path / "calib.txt").write_text(text)  # metres where the format has millimetres
    with pytest.raises(InputError):
        StereoRig.from_file(tmp_path / "calib.txt")
    assert "baseline-unit" in diagnose(layered.left, layered.right, tmp_path / "calib.txt")


# Parts


def matched(count: int, offset: float, roll: float, zoom: float, seed: int = 0) -> Matches:
    """Random points of 640×480 images, the right camera rolled and zoomed, a fifth of the matches wrong."""
    random = np.random.default_rng(seed)
    left = random.uniform((60, 20), (620, 460), (count, 2))
    right = left - np.stack([random.uniform(1, 60, count), np.zeros(count)], axis=1)
    x, y = right[:, 0] - 319.5, right[:, 1] - 239.5
    c, s = np.cos(roll), np.sin(roll)
    right = np.stack([(c * x - s * y) * zoom + 319.5, (s * x + c * y) * zoom + 239.5 + offset], axis=1)
    right += random.normal(0, 0.2, right.shape)
    right[: count // 5] = random.uniform(0, 480, (count // 5, 2))
    turn = np.zeros(count, np.float32)
    return Matches(left.astype(np.float32), right.astype(np.float32), turn, count, count, 1.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("offset", "roll", "zoom"), [(0, 0, 1), (5, 0, 1), (-2, 0.03, 1), (0, -0.05, 1.04), (3, 0, 0.96)]
)
def test_row_fit_recovers_offset_roll_and_scale(offset, roll, zoom, seed):
    fit = fit_rows(matched(300, offset, roll, zoom, seed), 640, 480)
    assert fit.offset == pytest.approx(offset, abs=0.15)
    assert np.arctan(fit.by_column) == pytest.approx(roll, abs=1e-3)
    assert fit.by_row == pytest.approx(zoom / np.cos(roll) - 1, abs=2e-3)
    assert fit.inlier_N[60:].mean() > 0.95
    assert fit.inlier_N[:60].mean() < 0.1


def test_a_sloping_scene_is_not_taken_for_a_rolled_camera():
    """On a plane disparity runs with the columns: offset, roll and a rise with disparity cannot be told apart."""
    random = np.random.default_rng(1)
    left = random.uniform((60, 20), (620, 460), (300, 2))
    right = left - np.stack([5 + left[:, 0] * 0.08, np.zeros(300)], axis=1) + random.normal(0, 0.3, (300, 2))
    points = [view.astype(np.float32) for view in (left, right)]
    fit = fit_rows(Matches(*points, np.zeros(300, np.float32), 300, 300, 1.0), 640, 480)
    assert abs(fit.by_column) * 320 < 0.2
    assert abs(fit.by_row) * 240 < 0.2


def test_too_few_matches_give_no_fit():
    assert fit_rows(matched(7, 0, 0, 1), 640, 480) is None


def test_matches_of_large_images_are_in_their_own_pixels(make_pair):
    left, right = make_pair(30, 300, 1300)
    matches = find_matches(left, right, side=650)
    apart = matches.left_N2 - matches.right_N2
    assert matches.reduction == 2
    assert np.median(apart[:, 0]) == pytest.approx(30, abs=0.2)
    assert np.median(apart[:, 1]) == pytest.approx(0, abs=0.1)


def test_a_lone_match_has_no_support():
    points = np.random.default_rng(0).uniform(0, 100, (50, 2)).astype(np.float32)
    disparity = np.full(50, 20.0)
    disparity[7] = 60.0
    assert supported(points, disparity).tolist() == [i != 7 for i in range(50)]


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_edge_blur_is_the_sigma_of_the_blur(sigma):
    image = np.kron(np.random.default_rng(0).integers(0, 2, (8, 8)), np.ones((40, 40))).astype(np.float32) * 200
    assert edge_blur(cv2.GaussianBlur(image, (0, 0), sigma)) == pytest.approx(sigma, rel=0.25)


def test_noise_is_its_standard_deviation():
    image = 128 + np.random.default_rng(0).normal(0, 10, (200, 200)).astype(np.float32)
    assert noise(image) == pytest.approx(10, rel=0.2)


def test_gain_leaves_clipped_squares_out():
    left = np.full((100, 3), 100, np.float32)
    right = left * 1.5
    left[:60], right[:60] = 255, 255
    assert gain(left, right) == pytest.approx(1.5)


# What is given back


def test_public_name_takes_paths(layered, tmp_path, save_views):
    left, right = save_views(layered.left, layered.right)
    diagnosis = dl.diagnose(left, right, layered.rig)
    assert diagnosis.ok
    with pytest.raises(KeyError):
        diagnosis["swapped"]


@pytest.fixture
def save_views(tmp_path):
    def save(*views):
        paths = [tmp_path / f"{i}.png" for i in range(len(views))]
        for path, view in zip(paths, views, strict=True):
            cv2.imwrite(str(path), view[..., ::-1])
        return paths

    return save


def test_findings_come_worst_first(layered):
    dark = (layered.left * 0.6).astype(np.uint8)
    found = [finding.severity for finding in diagnose(layered.right, dark).findings]
    assert found == sorted(found, key=("error", "warning", "notice").index)
    assert {"error", "warning"} <= set(found)


def test_the_page_shows_errors_in_their_place(layered):
    moved = np.roll(layered.right, 4, axis=0)
    good, bad = (diagnosis_page(diagnose(layered.left, view), layered.left, view) for view in (layered.right, moved))
    assert good.dtype == bad.dtype == np.uint8
    assert good.shape[1] == bad.shape[1] == 1000

    def red(page):
        return (np.abs(page[:300].astype(int) - (192, 36, 28)).sum(axis=2) < 30).sum()

    assert red(bad) > 20 * max(1, red(good))


def test_a_page_without_matches_is_drawn():
    views = np.random.default_rng(0).integers(0, 256, (2, 31, 33, 3), dtype=np.uint8)
    assert diagnosis_page(diagnose(*views), *views).shape[1] == 1000


@pytest.mark.parametrize("name", ["swapped", "vertical-offset", "duplicate", "blank"])
def test_a_glance_finds_the_gross_faults(layered, name):
    wrong = TOOL.FAULTS[name](layered, np.random.default_rng(5))
    assert glance(wrong.left, wrong.right).id == name
    assert glance(layered.left, layered.right) is None
