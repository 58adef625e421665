from __future__ import annotations

import numpy as np
import pytest

from depthlight.core.errors import InputError
from depthlight.data.samples import StereoSample
from depthlight.eval.regions import BORDER, REGIONS, region_masks, region_metrics

HEIGHT, WIDTH = 60, 100
STEP_AT = 50  # a depth step between columns 49 and 50


def sample(**more: object) -> StereoSample:
    """Left half noise at 20 px, right half constant at 10 px; columns 40–49 occluded."""
    image_HW3 = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    image_HW3[:, :STEP_AT] = np.random.default_rng(0).integers(0, 256, (HEIGHT, STEP_AT, 3))
    truth_HW = np.full((HEIGHT, WIDTH), 10, np.float32)
    truth_HW[:, :STEP_AT] = 20
    visible_HW = np.ones((HEIGHT, WIDTH), bool)
    visible_HW[:, 40:STEP_AT] = False
    facts = {"disparity_HW": truth_HW, "valid_HW": np.ones_like(visible_HW), "visible_HW": visible_HW, **more}
    return StereoSample(left_HW3=image_HW3, right_HW3=image_HW3, name="s", **facts)  # type: ignore[arg-type]


def columns(mask_HW: np.ndarray) -> list[int]:
    """The columns of which every pixel off the border is in the mask."""
    return np.flatnonzero(mask_HW[BORDER:-BORDER].all(axis=0)).tolist()


def test_the_six_regions() -> None:
    masks = region_masks(sample())
    assert tuple(masks) == REGIONS
    assert columns(masks["all"]) == list(range(10, 90))
    assert columns(masks["occ"]) == list(range(40, 50))
    assert columns(masks["edges"]) == list(range(45, 55))
    assert columns(masks["textureless"]) == list(range(52, 90))  # the 3×3 window of column 51 still sees the noise
    assert masks["textured"][BORDER:-BORDER, 12:48].mean() > 0.99


def test_pairs_of_regions_part_the_whole() -> None:
    masks = region_masks(sample())
    for one, other in (("noc", "occ"), ("textured", "textureless")):
        assert not (masks[one] & masks[other]).any()
        np.testing.assert_array_equal(masks[one] | masks[other], masks["all"])
    assert not masks["all"][:BORDER].any()
    assert not masks["all"][:, -BORDER:].any()


def test_pixels_without_truth_belong_to_none_and_make_no_edge() -> None:
    valid_HW = np.ones((HEIGHT, WIDTH), bool)
    valid_HW[:, 49:51] = False
    masks = region_masks(sample(valid_HW=valid_HW))
    assert not masks["edges"].any()
    assert not any(mask_HW[:, 49:51].any() for mask_HW in masks.values())


def test_each_region_is_measured_on_its_own() -> None:
    truth = sample()
    assert truth.disparity_HW is not None
    wrong_HW = truth.disparity_HW + np.where(region_masks(truth)["occ"], np.float32(8), np.float32(0))
    found = region_metrics(wrong_HW, truth)
    assert {region: row and row.epe for region, row in found.items() if region in ("noc", "occ")} == {
        "noc": 0,
        "occ": 8,
    }
    assert found["all"] is not None
    assert found["all"].epe == pytest.approx(1.0)  # 10 of 80 columns


def test_without_visibility_or_size_or_truth() -> None:
    assert "occ" not in region_masks(sample(visible_HW=None))
    small = StereoSample(
        np.zeros((5, 5, 3), np.uint8),
        np.zeros((5, 5, 3), np.uint8),
        "t",
        np.ones((5, 5), np.float32),
        np.ones((5, 5), bool),
    )
    assert set(region_metrics(np.ones((5, 5), np.float32), small).values()) == {None}
    with pytest.raises(InputError, match="no ground truth"):
        region_masks(sample(disparity_HW=None))
