from dataclasses import replace

import cv2
import numpy as np
import pytest

from depthlight.core.errors import ConfigError, InputError
from depthlight.data.augment import (
    AugmentConfig,
    augment,
    crop_scaled,
    mirrored_swap,
    photometric,
    resize_truth,
    strong_colour_jitter,
)
from depthlight.data.samples import StereoSample

PLAIN = AugmentConfig.none()


def slanted(height: int = 120, width: int = 240, slope: float = 0.05) -> StereoSample:
    """A smooth picture on a slanted plane: left(x) = f(x), right(x - d(x)) = f(x)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x_left = (x + 10 + slope * 0) / (1 - slope)  # x_r = x_l - (10 + slope·x_l)  ⇔  x_l = (x_r + 10) / (1 - slope)
    left, right = _look(x, y), _look(x_left, y)
    disparity = (10 + slope * x).astype(np.float32)
    right_disparity = (x_left - x).astype(np.float32)
    return StereoSample(left, right, "slanted", disparity, np.ones_like(disparity, bool), None, right_disparity)


def _look(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = [np.sin(x / 9 + y / 17), np.cos(x / 13 - y / 7), np.sin(x / 21)]
    return np.rint(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def residual(sample: StereoSample) -> float:
    """Mean |left - right warped by the truth| where the match is inside, in levels."""
    assert sample.disparity_HW is not None and sample.valid_HW is not None
    height, width = sample.disparity_HW.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warped = cv2.remap(sample.right_HW3, x - sample.disparity_HW, y, cv2.INTER_LINEAR)
    inside = sample.valid_HW & (x - sample.disparity_HW >= 1)
    return float(np.abs(warped.astype(float) - sample.left_HW3)[inside].mean())


@pytest.mark.parametrize("seed", range(12))
def test_geometry_keeps_the_truth_exact(seed: int) -> None:
    config = replace(PLAIN, scale=(0.85, 1.5), vertical_flip=0.5, mirrored_swap=0.5, shift=0.5, shift_px=12)
    out = augment(slanted(), config, np.random.default_rng(seed), (64, 96))
    assert out.left_HW3.shape == out.right_HW3.shape == (64, 96, 3)
    assert out.disparity_HW is not None and out.disparity_HW.dtype == np.float32
    assert residual(out) < 1.5  # levels; one px of error would be about ten
    wrong = replace(out, disparity_HW=out.disparity_HW + 1)
    assert residual(wrong) > 3 * residual(out)


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.37, 1.5])
def test_scale_and_shift_change_disparity_by_the_known_amount(scale: float) -> None:
    sample = replace(slanted(), disparity_HW=np.full((120, 240), 8, np.float32))
    out = crop_scaled(sample, (64, 96), scale, 5, np.random.default_rng(0))
    factor = 96 / round(96 / scale)
    np.testing.assert_allclose(out.disparity_HW, 13 * factor, rtol=1e-6)


def test_no_value_between_two_surfaces_is_invented() -> None:
    disparity = np.full((120, 240), 5, np.float32)
    disparity[:, 100:] = 60
    sample = replace(slanted(), disparity_HW=disparity)
    for seed in range(5):
        out = crop_scaled(sample, (64, 160), 1.3, 0, np.random.default_rng(seed))
        assert out.disparity_HW is not None
        factor = 160 / round(160 / 1.3)
        near = np.abs(out.disparity_HW[..., None] / factor - np.array([5, 60])).min(-1)
        assert near.max() < 1e-4


def test_slopes_are_interpolated_and_their_edges_are_not() -> None:
    """Half-size steps between two slanted surfaces: each value comes from one of them."""
    x = np.arange(240, dtype=np.float32)
    far, near = 5 + 0.1 * x, 6.6 + 0.1 * x  # apart by less than two steps
    disparity = np.tile(np.where(x < 100, far, near), (120, 1)).astype(np.float32)
    smooth, known = resize_truth(disparity, np.ones((120, 240), bool), (156, 312), step=1.0)
    place = (np.arange(312) + 0.5) / 1.3 - 0.5
    off = np.abs(smooth - (5 + 0.1 * place))
    assert known.all()
    assert np.minimum(off, np.abs(off - 1.6)).max() < 0.06, "at most half a pixel from a surface"
    assert off[:, 5:120].max() < 1e-4, "between pixels inside"


def test_unknown_pixels_stay_unknown_and_finite() -> None:
    sample = slanted()
    assert sample.disparity_HW is not None
    disparity = sample.disparity_HW.copy()
    disparity[20:40] = np.nan
    disparity[60:70] = np.inf
    valid = np.ones((120, 240), bool)
    valid[90:] = False
    out = crop_scaled(
        replace(sample, disparity_HW=disparity, valid_HW=valid), (120, 240), 1.0, 0, np.random.default_rng(0)
    )
    assert out.disparity_HW is not None and out.valid_HW is not None
    assert np.isfinite(out.disparity_HW).all()
    assert not out.valid_HW[20:40].any() and not out.valid_HW[60:70].any() and not out.valid_HW[90:].any()
    assert (out.disparity_HW[~out.valid_HW] == 0).all()
    assert out.valid_HW[:20].all()


def test_swapping_twice_gives_the_sample_back() -> None:
    sample = slanted()
    twice = mirrored_swap(mirrored_swap(sample))
    np.testing.assert_array_equal(twice.left_HW3, sample.left_HW3)
    np.testing.assert_array_equal(twice.disparity_HW, sample.disparity_HW)
    with pytest.raises(InputError, match="right disparity"):
        mirrored_swap(replace(sample, right_disparity_HW=None))


def test_same_generator_state_same_bytes() -> None:
    config = AugmentConfig()
    first, again, other = (augment(slanted(), config, np.random.default_rng(s), (64, 96)) for s in (5, 5, 6))
    assert first.left_HW3.tobytes() == again.left_HW3.tobytes()
    assert first.right_HW3.tobytes() == again.right_HW3.tobytes()
    assert first.left_HW3.tobytes() != other.left_HW3.tobytes()


def test_without_asymmetry_equal_views_stay_equal() -> None:
    image = slanted().left_HW3
    symmetric = AugmentConfig(asymmetric=False, noise=0.0)
    asymmetric = replace(symmetric, asymmetric=True)
    equal = {True: 0, False: 0}
    for seed in range(30):
        for config in (symmetric, asymmetric):
            left, right = photometric(image, image, config, np.random.default_rng(seed))
            equal[config.asymmetric] += bool((left == right).all())
    assert equal[False] == 30
    assert equal[True] < 20


def test_none_is_a_plain_crop() -> None:
    sample = slanted()
    out = augment(sample, PLAIN, np.random.default_rng(1), (64, 96))
    found = [
        (y, x)
        for y in range(120 - 64 + 1)
        for x in range(240 - 96 + 1)
        if (sample.left_HW3[y, x] == out.left_HW3[0, 0]).all()
        and (sample.left_HW3[y : y + 64, x : x + 96] == out.left_HW3).all()
    ]
    assert len(found) == 1
    (y, x) = found[0]
    assert sample.disparity_HW is not None
    np.testing.assert_array_equal(out.right_HW3, sample.right_HW3[y : y + 64, x : x + 96])
    np.testing.assert_array_equal(out.disparity_HW, sample.disparity_HW[y : y + 64, x : x + 96])


def test_small_samples_are_enlarged_with_their_disparity() -> None:
    out = augment(slanted(40, 100), PLAIN, np.random.default_rng(0), (80, 160))
    assert out.left_HW3.shape == (80, 160, 3)
    assert residual(out) < 1.5
    assert out.disparity_HW is not None and out.disparity_HW.mean() > 20


def test_unlabelled_samples_stay_without_truth() -> None:
    sample = replace(slanted(), disparity_HW=None, valid_HW=None, right_disparity_HW=None)
    out = augment(sample, AugmentConfig(), np.random.default_rng(0), (64, 96))
    assert out.disparity_HW is None and out.valid_HW is None


def test_strong_jitter_is_mostly_the_same_for_both_views() -> None:
    image = slanted().left_HW3
    same = changed = 0
    for seed in range(40):
        left, right = strong_colour_jitter(image, image, np.random.default_rng(seed))
        assert left.dtype == np.uint8 and left.shape == image.shape
        same += bool((left == right).all())
        changed += not (left == image).all()
    assert 24 <= same <= 38
    assert changed == 40


@pytest.mark.parametrize("wrong", [{"gray": 1.5}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"shift_px": -1}])
def test_configuration_is_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        AugmentConfig(**wrong)  # type: ignore[arg-type]
