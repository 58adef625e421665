"""Relative depth made metric: scale and shift in spite of wrong anchors, the correction, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import depthlight
from depthlight.cli import main as cli
from depthlight.cli import mono as mono_verb
from depthlight.core.errors import ConfigError, InputError, NonFiniteError
from depthlight.refine.anchor import AnchorConfig, anchor, anchor_prediction

HEIGHT, WIDTH = 60, 80


def scene(seed=0):
    """True depth, m: ground, a wall and two boxes."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    depth = np.minimum(8.0, 90 / (y + 4.0))
    rng = np.random.default_rng(seed)
    for _ in range(2):
        top, left = rng.integers(10, 40), rng.integers(5, 55)
        depth[top : top + 15, left : left + 20] = rng.uniform(1.5, 4)
    return depth + 0.002 * x


def relative(depth, scale=3.0, shift=0.4):
    """What a network would say of it: 1 / depth = (relative - shift) / scale."""
    return np.float32(scale / depth + shift)


def anchors(depth, count=400, outliers=0.3, noise=0.002, seed=1):
    """Sparse measurements, a share of them far off; the rest 0."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(depth.size, count, replace=False)
    values = depth.ravel()[chosen] * (1 + noise * rng.normal(size=count))
    wrong = rng.random(count) < outliers
    values[wrong] *= rng.uniform(1.3, 6, wrong.sum()) ** rng.choice((-1, 1), wrong.sum())
    measured = np.zeros(depth.size)
    measured[chosen] = values
    return measured.reshape(depth.shape)


def relative_error(found, depth):
    return np.abs(found / depth - 1)


@pytest.mark.parametrize("seed", range(4))
def test_scale_and_shift_with_a_third_of_the_anchors_wrong(seed):
    depth = scene(seed)
    found = depthlight.anchor(relative(depth), anchors(depth, seed=seed))
    assert found.scale == pytest.approx(1 / 3, rel=0.01) and found.shift == pytest.approx(-0.4 / 3, abs=2e-3)
    assert found.anchors == 400 and 0.6 < found.trusted < 0.8
    assert np.median(relative_error(found.depth, depth)) < 0.005
    assert relative_error(found.depth, depth).max() < 0.05


def test_where_the_network_is_wrong_anchors_bear_each_other_out():
    depth = scene()
    wrong = relative(depth)
    wrong[:30, :40] += np.float32(1.5) + np.linspace(0, 0.5, 40, dtype=np.float32)  # a wall that is seen far too near
    measured = anchors(depth, count=800)
    found = depthlight.anchor(wrong, measured)
    there, far_off = measured > 0, relative_error(measured, depth) > 0.2
    corner = np.zeros_like(there)
    corner[3:27, 3:37] = True
    assert found.trusted_HW[there & ~far_off & corner].mean() > 0.95
    assert found.trusted_HW[there & far_off].mean() < 0.05
    assert np.median(relative_error(found.depth, depth)[corner]) < 0.02


def test_a_map_full_of_anchors():
    depth = scene()
    found = depthlight.anchor(relative(depth), depth)
    assert found.trusted == 1 and relative_error(found.depth, depth).max() < 1e-3


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-10, 10))
def test_the_relative_maps_own_scale_and_shift_do_not_matter(scale, shift):
    depth = scene()
    measured = anchors(depth)
    one, other = (anchor(relative(depth, *how).astype(np.float64), measured).depth for how in ((1, 0), (scale, shift)))
    assert np.abs(one / other - 1).max() < 0.01  # the relative map is float32 under its shift


def test_metres_in_metres_out():
    depth = scene()
    one, other = (anchor(relative(depth), factor * anchors(depth)).depth for factor in (1, 2.5))
    assert np.allclose(other, 2.5 * one, rtol=1e-4)


def test_the_correction_follows_what_scale_and_shift_cannot():
    depth = scene()
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    warped = relative(depth) * (1 + 0.15 * np.sin(x / 25) * np.cos(y / 20))
    measured = anchors(depth, count=900, outliers=0.1)
    plain = anchor(warped, measured, config=AnchorConfig(smoothness=0.0))
    corrected = anchor(warped, measured)
    assert corrected.error_after < 0.4 * corrected.error_before == pytest.approx(0.4 * plain.error_after)
    assert relative_error(corrected.depth, depth).mean() < 0.6 * relative_error(plain.depth, depth).mean()


def test_the_correction_stays_on_its_side_of_an_edge():
    depth = np.full((HEIGHT, WIDTH), 4.0)
    depth[:, 40:] = 2.0
    wrong = relative(depth)
    wrong[:, 40:] *= 1.06  # the near side alone is off
    measured = np.where(np.random.default_rng(0).random(depth.shape) < 0.2, depth, 0)
    wrong += np.float32(0.02) * np.mgrid[0:HEIGHT, 0:WIDTH][0] / HEIGHT
    found = anchor(wrong, measured)
    assert relative_error(found.depth, depth)[:, 36:44].max() < 0.03, "also beside the edge"


def test_what_is_too_far_to_tell_is_unknown():
    depth = scene()
    inverse = relative(depth)
    inverse[0, :5] = 0.4  # infinitely far
    measured = anchors(depth)
    measured[0, :5] = 0
    found = anchor(inverse, measured, config=AnchorConfig(smoothness=0.0))
    assert (found.depth[0, :5] == 0).all() and (found.depth[1:] > 0).all()
    assert found.summary()["unknown_share"] == pytest.approx(5 / depth.size)


def test_same_seed_same_bits():
    depth = scene()
    one, other = (anchor(relative(depth), anchors(depth)).depth for _ in range(2))
    assert np.array_equal(one, other)


def test_what_is_refused():
    depth = scene()
    inverse, measured = relative(depth), anchors(depth)
    with pytest.raises(InputError, match=r"only 19 pixels.*20 or more"):
        anchor(inverse, anchors(depth, count=19))
    with pytest.raises(InputError, match=r"shape \(60, 80\).*\(30, 80\)"):
        anchor(inverse, measured[:30])
    with pytest.raises(InputError, match="one relative depth"):
        anchor(np.ones_like(inverse), measured)
    with pytest.raises(InputError, match=r"% of the anchors agree"):
        anchor(inverse, np.random.default_rng(0).uniform(0.5, 40, depth.shape))
    with pytest.raises(InputError, match=r"% of the anchors agree"):
        anchor(-inverse, measured)
    with pytest.raises(InputError, match=r"measured depth does not vary.*near and far"):
        anchor(inverse, np.where(measured > 0, 2.5, 0))
    spoilt = inverse.copy()
    spoilt[3, 4] = np.nan
    with pytest.raises(NonFiniteError, match="relative map"):
        anchor(spoilt, measured)
    with pytest.raises(NonFiniteError, match=r"\(0, 0\).*metres above 0"):
        anchor(inverse, np.where(measured > 0, measured, -1), valid_HW=np.ones(depth.shape, bool))
    with pytest.raises(ConfigError, match="tolerance"):
        AnchorConfig(tolerance=0.0)


# ------------------------------------------------------------------------------------------------ with a model


def test_a_prediction_in_metres(model, photo):
    plain = model.predict(photo)
    truth = 1 / (0.2 * plain.values + 0.1)
    metric, found = anchor_prediction(plain, truth, focal=70.0)
    assert metric.is_metric and np.allclose(metric.values, truth, rtol=1e-3)
    assert metric.to_depth().rig.fx == 70 and found.scale == pytest.approx(0.2, rel=1e-3)
    with pytest.raises(InputError, match="metres already"):
        anchor_prediction(metric, truth)
    for focal in (-1.0, 1e-9, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"the focal length is .*px of the photo"):
            anchor_prediction(plain, truth, focal=focal)


def test_the_verb(tmp_path, monkeypatch, model, photo, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mono_verb, "load_mono", lambda name, **options: model)
    Image.fromarray(photo).save("photo.png")
    truth = np.float32(1 / (0.2 * model.predict(photo).values + 0.1))
    np.save("depth.npy", np.where(np.arange(truth.shape[1]) % 3 == 0, truth, np.float32(0)))
    command = ["mono", "photo.png", "-o", "out", "--anchor", "depth.npy", "--format", "npy"]
    assert cli.run([*command, "--focal", "70"]) == 0
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    assert facts["unit"] == "m" and facts["anchor"]["scale"] == pytest.approx(0.2, rel=1e-2)
    assert facts["anchor"]["units"] == {"scale": "1/m per unit of relative inverse depth", "shift": "1/m"}
    assert "cloud.ply" in facts["files"]
    sidecar = json.loads((tmp_path / "out" / "depth.json").read_text())
    assert sidecar["unit"] == "m" and "view" not in sidecar, "one photo is no left view"
    assert np.allclose(np.load(tmp_path / "out" / "depth.npy"), truth, rtol=1e-2)
    capsys.readouterr()
    assert cli.run(["mono", ".", "-o", "out2", "--anchor", "depth.npy"]) == 2
    assert "one photo" in capsys.readouterr().err
