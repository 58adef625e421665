"""The engine's promises: exact truth in both views, the same bytes for the same seed, clear errors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depthlight.core.config import from_dict, to_dict
from depthlight.core.errors import ConfigError, InputError, UnknownNameError
from depthlight.core.tolerances import tolerance
from depthlight.data.samples import StereoSample
from depthlight.data.synth import engine as engine_module
from depthlight.data.synth.camera import CameraConfig
from depthlight.data.synth.engine import Engine, SynthConfig, visible_mask

EXACT = CameraConfig(strength=0.0)


def small(**changes: object) -> SynthConfig:
    values = {"height": 96, "width": 192, "families": {"layered": 1.0}, "max_max_disp": 80.0, "camera": EXACT}
    return SynthConfig(**{**values, **changes})  # type: ignore[arg-type]


def truth(sample: StereoSample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert sample.disparity_HW is not None and sample.right_disparity_HW is not None and sample.visible_HW is not None
    return sample.disparity_HW, sample.right_disparity_HW, sample.visible_HW


def same(first: StereoSample, second: StereoSample) -> bool:
    pairs = zip(
        (first.left_HW3, first.right_HW3, *truth(first)),
        (second.left_HW3, second.right_HW3, *truth(second)),
        strict=True,
    )
    return all(np.array_equal(a, b) for a, b in pairs) and first.extra == second.extra


@pytest.fixture(scope="module")
def samples() -> list[StereoSample]:
    engine = Engine(small(height=160, width=320))
    return [engine.sample(index) for index in range(8)]


def at_landing(image: np.ndarray, disparity_HW: np.ndarray) -> np.ndarray:
    height, width = disparity_HW.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(image.astype(np.float32), x - disparity_HW, y, cv2.INTER_LINEAR)


def away_from_edges(sample: StereoSample) -> np.ndarray:
    """Where neither neighbour of the landing belongs to another surface (between two, both views are right)."""
    disparity, right, _ = truth(sample)
    edge = cv2.morphologyEx(right, cv2.MORPH_GRADIENT, np.ones((1, 3), np.uint8)) > 0.5
    return at_landing(edge.astype(np.float32), disparity) == 0


def test_right_view_warped_by_the_truth_is_the_left_view(samples: list[StereoSample]) -> None:
    errors = []
    for sample in samples:
        disparity, _, visible = truth(sample)
        warped = at_landing(sample.right_HW3, disparity)
        seen = visible & away_from_edges(sample)
        errors.append(np.abs(warped - sample.left_HW3).mean(axis=2)[seen])
        shifted = at_landing(sample.right_HW3, disparity + 2)
        assert np.mean(errors[-1]) < np.mean(np.abs(shifted - sample.left_HW3).mean(axis=2)[seen])
    assert np.median(np.concatenate(errors)) <= tolerance("synth.photometric.median")
    assert np.mean(np.concatenate(errors) > 30) < 0.02  # gloss only


def test_left_and_right_truth_agree_where_both_see(samples: list[StereoSample]) -> None:
    for sample in samples:
        disparity, right, visible = truth(sample)
        gap = np.abs(at_landing(right, disparity) - disparity)[visible]
        assert np.median(gap) <= tolerance("synth.leftright.median")
        smooth = away_from_edges(sample)[visible]
        assert np.mean(gap[smooth] <= 0.5) >= tolerance("synth.leftright.share")
        assert 0.3 < visible.mean() < 1


def test_hidden_pixels_are_behind_what_hides_them(samples: list[StereoSample]) -> None:
    for sample in samples:
        disparity, right, visible = truth(sample)
        landing = np.arange(disparity.shape[1]) - disparity
        inside = landing >= 0
        seen_there = np.take_along_axis(right, np.clip(np.rint(landing), 0, None).astype(int), axis=1)
        hidden = inside & ~visible
        assert np.mean(seen_there[hidden] > disparity[hidden]) > 0.95


def test_same_seed_same_bytes_in_any_order() -> None:
    config = small(camera=CameraConfig())
    forward, backward = Engine(config), Engine(config)
    first = [forward.sample(index) for index in range(3)]
    second = [backward.sample(index) for index in reversed(range(3))]
    assert all(same(a, b) for a, b in zip(first, reversed(second), strict=True))
    assert not same(first[0], first[1])
    assert not same(first[0], Engine(small(camera=CameraConfig(), seed=1)).sample(0))


def test_a_small_texture_cache_changes_nothing() -> None:
    assert same(Engine(small(texture_cache_mb=0)).sample(1), Engine(small()).sample(1))


def test_largest_disparity_spreads_over_a_decade() -> None:
    engine = Engine(small(min_max_disp=8.0, max_max_disp=190.0))
    largest = [float(truth(engine.sample(index))[0].max()) for index in range(24)]
    assert max(largest) / min(largest) > 8
    assert max(largest) <= 190.5


def test_truth_is_dense_positive_and_in_range(samples: list[StereoSample]) -> None:
    for sample in samples:
        for values in truth(sample)[:2]:
            assert values.dtype == np.float32
            assert values.min() >= 1 / 256
            assert values.max() < 255.99


def test_visible_mask_of_a_step() -> None:
    left = np.full((1, 40), 2.0, np.float32)
    left[0, 20:30] = 10.0  # lands on 10..19
    right = np.full((1, 40), 2.0, np.float32)
    right[0, 10:20] = 10.0
    visible = visible_mask(left, right)[0]
    assert not visible[:2].any()  # out of the frame
    assert visible[20:30].all()
    assert not visible[12:20].any()  # 12 − 2 = 10 … is covered by the piece
    assert visible[2:12].all()
    assert visible[30:].all()


def test_camera_off_is_the_same_scene_and_effects_can_be_chosen() -> None:
    clean, full = Engine(small()).sample(2), Engine(small(camera=CameraConfig())).sample(2)
    assert np.array_equal(truth(clean)[0], truth(full)[0])
    assert not np.array_equal(clean.left_HW3, full.left_HW3)
    only_rows = Engine(small(camera=CameraConfig(effects=("misrectification",)))).sample(2)
    assert np.array_equal(only_rows.left_HW3, clean.left_HW3)


def test_a_sample_keeps_its_name_family_and_calibration() -> None:
    sample = Engine(small()).sample(7)
    assert sample.name == "000007"
    assert sample.extra["family"] == "layered"
    assert sample.extra["max_disp"] == pytest.approx(float(truth(sample)[0].max()))
    assert {"fx", "fy", "cx", "cy", "baseline", "doffs"} <= sample.extra["calibration"].keys()


@pytest.mark.parametrize("family", ["meshes", "rooms"])
def test_the_calibration_of_rendered_scenes_is_that_of_their_camera(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    from depthlight.data.synth import render

    seen = []
    render_pair = render.render_pair

    def watched(stage, camera, *rest):  # type: ignore[no-untyped-def]
        seen.append(camera)
        return render_pair(stage, camera, *rest)

    monkeypatch.setattr(render, "render_pair", watched)
    for index in range(3):
        sample = Engine(small(families={family: 1.0})).sample(index)
        calibration = sample.extra["calibration"]
        height = sample.left_HW3.shape[0]
        assert calibration["fx"] == calibration["fy"] == seen[-1].focal
        assert calibration["cy"] == (height - 1) * seen[-1].horizon
        nearest = calibration["fx"] * calibration["baseline"] / float(truth(sample)[0].max())
        assert 0.05 < nearest < 500, "metres"


def test_config_round_trips_and_refuses() -> None:
    config = small(seed=5)
    assert from_dict(SynthConfig, to_dict(config)) == config
    with pytest.raises(UnknownNameError, match="layered"):
        SynthConfig(families={"layerd": 1.0})
    for wrong in (
        {"height": 3},
        {"min_max_disp": 50.0, "max_max_disp": 20.0},
        {"max_max_disp": 400.0},
        {"families": {}},
    ):
        with pytest.raises(ConfigError):
            SynthConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        CameraConfig(effects=("sparkle",))


def test_a_family_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine_module.FAMILIES, "dreams", "no_such_module")
    with pytest.raises(InputError, match="dreams"):
        Engine(small(families={"dreams": 1.0}))


def test_textures_folder_must_exist_and_hold_images(tmp_path: object) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Engine(small(textures=f"{tmp_path}/nowhere"))
    with pytest.raises(InputError, match="holds no images"):
        Engine(small(textures=str(tmp_path)))
