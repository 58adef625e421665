"""``depthlight.refine``: before and after at the photo's size, names and settings checked, guidance helpers."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import depthlight
from depthlight.core.config import from_dict, to_dict
from depthlight.core.errors import CheckpointError, ConfigError, InputError, LimitError, UnknownNameError
from depthlight.core.signals import StopRequestedError
from depthlight.infer import memory
from depthlight.infer.mono import MonoModel
from depthlight.nets.mono.small import MonoSmall
from depthlight.nets.prior.denoiser import Denoiser, DenoiserConfig
from depthlight.refine.api import applied
from depthlight.refine.config import RECIPES, GuidanceConfig, RefineConfig, load_recipe
from depthlight.refine.guidance import sds_loss
from depthlight.refine.guidance_small import RelightGuidance
from depthlight.refine.loop import Refinement
from depthlight.refine.render import normals_pinhole
from depthlight.refine.upsample import brightness, enlarge


def test_refine_is_a_call_and_a_package():
    code = (
        "import sys, depthlight as dl\n"
        "assert callable(dl.refine) and 'torch' not in sys.modules\n"
        "from depthlight.refine.config import RefineConfig\n"
        "assert dl.refine.config.RefineConfig is RefineConfig and callable(dl.refine)\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_before_and_after(photo, model, pull, quick):
    rows = []
    config = quick(steps=30, longest=48)
    result = depthlight.refine(photo, model=model, prior=pull, recipe=config, seed=4, on_step=rows.append)
    assert np.array_equal(result.before, model.predict(photo, working=48).values)
    assert result.after.shape == result.before.shape == photo.shape[:2] and result.after.dtype == np.float32
    assert np.isfinite(result.after).all() and (result.after >= 0).all()
    assert not np.array_equal(result.after, result.before)
    assert result.start.shape == (40, 48) or result.start.shape == (32, 48)
    assert list(result.history) == rows and len(rows) == 30
    assert result.config.seed == 4 and not result.stopped
    maps = []
    again = depthlight.refine(photo, model=model, prior=pull, recipe=config, seed=4, on_map=maps.append)
    assert np.array_equal(result.after, again.after)
    assert len(maps) == 30 and maps[0].shape == result.start.shape and not np.array_equal(maps[0], maps[-1])
    normals = result.normals()
    assert normals.shape == photo.shape and np.allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    assert not np.array_equal(normals, result.normals(before=True))
    assert result.summary()["prior"] == {"name": "pull"} and result.summary()["losses"]["loss"] > 0


@pytest.mark.parametrize("upsample", ["bilinear", "guided"])
def test_nothing_to_follow_changes_nothing(upsample, photo, model, quick):  # T9
    config = quick(smoothness=0.0, upsample=upsample, longest=48)
    result = depthlight.refine(photo, model=model, prior="none", recipe=config)
    assert np.array_equal(result.after, result.before)
    assert result.prior is None and result.config.guidance.weight == 0


def test_a_fault_is_told_and_the_last_good_map_kept(photo, model, pull, quick):
    pull.fault, pull.fault_at = "loss", 0.5
    result = depthlight.refine(photo, model=model, prior=pull, recipe=quick())
    assert result.stopped == "the loss term 'guidance' is not finite at step 4 of restart 1"
    assert np.isfinite(result.after).all() and not np.array_equal(result.after, result.before)


def test_the_photos_focal_length_makes_a_pinhole(photo, model, quick):
    result = depthlight.refine(photo, model=model, prior="none", recipe=quick(camera="orthographic"), focal=80.0)
    assert result.config.camera == "pinhole" and result.config.focal == 80 / 64
    with pytest.raises(ConfigError, match="focal"):
        depthlight.refine(photo, model=model, prior="none", recipe=quick(), focal=-1.0)


def test_wrong_requests(photo, model, quick):
    with pytest.raises(InputError, match="tiny cannot be adapted"):
        depthlight.refine(photo, photo, model=model)
    with pytest.raises(UnknownNameError, match=r"recipe 'fsat'.*fast"):
        depthlight.refine(photo, model=model, recipe="fsat")
    with pytest.raises(InputError, match="takes no prompt"):
        depthlight.refine(photo, model=model, prior="relight.synth-v1", prompt="a chair")
    with pytest.raises(InputError, match="prompt would change nothing"):
        depthlight.refine(photo, model=model, prior="none", prompt="a chair", recipe=quick())
    with pytest.raises(InputError, match="precision would change nothing"):
        depthlight.refine(photo, model=model, prior="none", precision="bf16", recipe=quick())
    with pytest.raises(ConfigError, match="steps"):
        depthlight.refine(photo, model=model, prior="none", steps=0)
    with pytest.raises(InputError, match="nowhere"):
        depthlight.refine("nowhere.png", model=model, prior="none")
    with pytest.raises(InputError, match=r"the photo has 40×1 px; expected at least 8 on each side"):
        depthlight.refine(photo[:1, :40], model=model, prior="none")


def test_a_refinement_that_does_not_fit_into_memory_is_refused(photo, model, quick, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    monkeypatch.setattr(model, "prepare", lambda *args: pytest.fail("prepared"))
    with pytest.raises(LimitError, match=r"a refinement at 64×48 px needs about"):
        depthlight.refine(photo, model=model, prior="none", recipe=quick())


def test_measured_depth_is_kept_and_gives_metres(photo, model, pull, quick):
    """The prior wants a bump; where the plain answer was measured, it stays, up to the scale and shift of metres."""
    config = quick(steps=60, optimise=("depth",), lr_depth=1e-2, lights=1, anchored=50.0)
    before = model.predict(photo).values.astype(np.float64)
    inverse = 0.2 + 0.6 * (before - before.min()) / np.ptp(before)
    measured = np.where(np.arange(64)[None, :] < 32, 1 / inverse, 0)
    free = depthlight.refine(photo, model=model, prior=pull, recipe=config)
    kept = depthlight.refine(photo, model=model, prior=pull, recipe=config, measured=measured)
    change = [np.abs(result.after - result.before) for result in (free, kept)]
    assert change[1][:, :28].mean() < 0.5 * change[0][:, :28].mean(), "anchored"
    assert change[1][:, 36:].mean() > 0.5 * change[0][:, 36:].mean(), "free to change"
    assert set(kept.history[0]) == {"restart", "step", "guidance", "smoothness", "anchored", "loss"}
    assert kept.history[0]["anchored"] == pytest.approx(0, abs=1e-5)
    assert kept.anchored is not None and free.anchored is None
    known = measured > 0
    assert np.median(np.abs(kept.anchored.depth[known] / measured[known] - 1)) < 0.02
    assert kept.summary()["anchor"]["trusted_share"] > 0.8
    with pytest.raises(InputError, match="the measured depth"):
        depthlight.refine(photo, model=model, prior=pull, recipe=config, measured=measured[:10])
    with pytest.raises(InputError, match="measured is for one photo"):
        depthlight.refine(photo, photo, model=model, measured=measured)


def test_anchors_pull_the_map_to_what_was_measured(photo, model, quick):
    config = quick(steps=80, optimise=("depth",), lr_depth=3e-2, smoothness=0.0, anchored=10.0)
    before = model.predict(photo).values.astype(np.float64)
    inverse = 0.2 + 0.6 * (before - before.min()) / np.ptp(before)
    truth = inverse * (1 + 0.05 * np.sin(np.arange(64) / 5))[None, :]
    result = depthlight.refine(photo, model=model, prior="none", recipe=config, measured=1 / truth)
    errors = []
    for values in (result.before, result.after):
        scale, shift = np.polyfit(values.ravel().astype(np.float64), truth.ravel(), 1)
        errors.append(np.abs(scale * values + shift - truth).mean())
    assert errors[1] < 0.5 * errors[0]


def test_both_axes_keep_their_focal_length(net, quick):
    """48×64 px of a photo of 48×128: a plane seen along its slope is steeper than with square pixels."""
    tensor = torch.zeros(1, 3, 48, 64)
    raw = torch.linspace(1, 3, 64).expand(1, 1, 48, 64)
    square, squeezed = (
        Refinement(net, tensor, quick(focal=1.5, unit="network"), sides=sides).normals(raw)
        for sides in ((48, 64), (48, 128))
    )
    z = 7 / (raw + 0.1)
    plain = normals_pinhole(z, 96, 96, 31.5, 23.5)
    torch.testing.assert_close(square, plain)
    torch.testing.assert_close(squeezed, normals_pinhole(z, 96, 192, 31.5, 23.5))


# ------------------------------------------------------------------------------------------------ recipes


def test_paper_is_the_papers():
    config = load_recipe("paper")
    assert replace_guidance(config) == RefineConfig(), "the defaults are the paper's"
    assert config.guidance == GuidanceConfig(scale=50.0, t_high=0.6, t_low=0.02, anneal=False, weighting="uniform")
    assert (config.steps, config.restarts, config.longest, config.lights) == (1000, 10, 518, 1)
    assert (config.lr_tokens, config.lr_head, config.lr_offset, config.weight_decay) == (1e-3, 2e-6, 1e-3, 0.01)


def replace_guidance(config: RefineConfig) -> RefineConfig:
    return from_dict(RefineConfig, {**to_dict(config), "guidance": {}})


@pytest.mark.parametrize("name", RECIPES.names())
def test_recipes_round_trip(name):
    config = load_recipe(name)
    assert from_dict(RefineConfig, to_dict(config)) == config


def test_overrides_reach_inside(tmp_path):
    config = load_recipe("paper", {"steps": 7, "seed": None, "guidance": {"prompt": "a cat", "scale": None}})
    assert (config.steps, config.guidance.prompt, config.guidance.scale) == (7, "a cat", 50.0)
    (tmp_path / "mine.toml").write_text("steps = 3\n[guidance]\nweight = 0.5\n")
    assert load_recipe(str(tmp_path / "mine.toml")).guidance.weight == 0.5
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(InputError, match="TOML"):
        load_recipe(str(tmp_path / "bad.toml"))
    with pytest.raises(InputError, match="does not exist"):
        load_recipe("gone.toml")
    with pytest.raises(UnknownNameError, match="steps"):
        load_recipe("paper", {"step": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"restarts": 0},
        {"lights": -1},
        {"lr_tokens": float("nan")},
        {"smoothness": -1.0},
        {"scale": 1.0},
        {"shift": 0.0},
        {"optimise": ("offset",)},
        {"optimise": ("tokens", "tokens")},
        {"optimise": ("depth", "tokens")},
        {"seed": -1},
        {"seed": 10**20},
        {"longest": 8000},
        {"render": 8000},
        {"render": 1},
        {"scale": float("inf")},
        {"lr_depth": 3e38},
        {"steps": 10**20},
        {"lights": 100_000},
    ],
)
def test_settings_that_are_refused(wrong):
    with pytest.raises(ConfigError):
        RefineConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"t_low": 0.7, "t_high": 0.6}, {"t_high": 1.5}, {"scale": -1.0}, {"t_low": -0.1}])
def test_guidance_settings_that_are_refused(wrong):
    with pytest.raises(ConfigError):
        GuidanceConfig(**wrong)


def test_a_state_of_another_working_size_is_not_gone_on_with(net, photo, quick, tmp_path):
    def run(working, **options):
        loaded = MonoModel("tiny", net, weights_sha256="0" * 64, device="cpu", working=working)
        return depthlight.refine(photo, model=loaded, prior="none", recipe=quick(longest=0), keep=tmp_path, **options)

    with pytest.raises(StopRequestedError):
        run(64, should_stop=lambda: True)
    with pytest.raises(CheckpointError, match="another refinement"):
        run(32, resume=True)


# ------------------------------------------------------------------------------------------------ score distillation


@pytest.mark.parametrize("weight", [1.0, 0.3, torch.tensor([[[[2.0]]], [[[0.5]]]])])
def test_the_gradient_of_sds(weight):
    generator = torch.Generator().manual_seed(0)
    x, predicted, noise = (torch.randn(2, 4, 5, 6, generator=generator) for _ in range(3))
    leaves = [tensor.clone().requires_grad_() for tensor in (x, predicted, noise)]
    loss = sds_loss(*leaves, weight)
    loss.backward()
    difference = weight * (predicted - noise)
    torch.testing.assert_close(leaves[0].grad, difference / x.numel(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(loss.detach(), 0.5 * difference.square().mean())
    assert leaves[1].grad is None and leaves[2].grad is None


def test_sds_in_half_precision_computes_in_float32():
    x = torch.full((1, 4, 8, 8), 3.0, dtype=torch.float16, requires_grad=True)
    assert sds_loss(x.double(), x.double(), x.double()).dtype == torch.float64
    loss = sds_loss(x, torch.full_like(x, 1e-3), torch.zeros_like(x))
    assert loss.dtype == torch.float32 and float(loss.detach()) == pytest.approx(0.5e-6, rel=2e-2)
    with pytest.raises(InputError, match="one shape"):
        sds_loss(x, x[:, :2], x)


# ------------------------------------------------------------------------------------------------ upsampling


@given(st.floats(-10, 10, width=32), st.sampled_from(["bilinear", "guided"]))
def test_a_constant_change_stays_constant(value, method):
    guide = np.random.default_rng(0).random((33, 47), np.float32)
    large = enlarge(np.full((8, 12), value, np.float32), guide, method)
    assert large.shape == (33, 47) and np.allclose(large, value, atol=1e-5 * (1 + abs(value)))


def test_a_change_gets_the_guides_edge():
    guide = np.zeros((96, 128), np.float32)
    guide[:, 61:] = 1  # between two columns of the small map
    truth = guide.copy()
    small = truth.reshape(12, 8, 16, 8).mean((1, 3))
    errors = {method: np.abs(enlarge(small, guide, method) - truth).mean() for method in ("bilinear", "guided")}
    assert errors["guided"] < 0.3 * errors["bilinear"]


def test_brightness():
    photo = np.zeros((4, 4, 3), np.uint8)
    photo[..., 1] = 255
    assert brightness(photo) == pytest.approx(np.full((4, 4), 0.587), abs=2e-3)


# ------------------------------------------------------------------------------------------------ the two maps


@pytest.mark.parametrize("longest", [0, 48])
def test_before_is_the_map_that_is_refined(model, photo, longest, quick):
    result = depthlight.refine(photo, model=model, prior="none", recipe=quick(longest=longest, steps=1))
    height, width = photo.shape[:2]
    assert max(result.start.shape) == (longest or model.working)
    assert np.array_equal(result.before, cv2.resize(result.start, (width, height), interpolation=cv2.INTER_LINEAR))


def test_what_leads_below_zero_is_zero_and_counted(photo, quick):
    before = np.full(photo.shape[:2], 1.0, np.float32)
    start = np.ones((6, 8), np.float32)
    refined = start.copy()
    refined[:, :4] = -1
    after, clipped = applied(before, start, refined, photo, quick(upsample="bilinear"))
    assert after.min() == 0 and after.max() == 1 and clipped == pytest.approx((after == 0).mean(), abs=1e-3)
    assert 0.4 < clipped <= 0.5
    assert applied(before, start, start, photo, quick())[1] == 0


def test_the_learned_scale_is_told_and_used(model, photo, pull, quick):
    config = quick(steps=5, restarts=2, optimise=("tokens", "offset"), lr_offset=0.3, camera="orthographic")
    result = depthlight.refine(photo, model=model, prior=pull, recipe=config)
    assert len(result.offsets) == 2 and all(offset != 0 for offset in result.offsets)
    assert result.summary()["offsets"] == list(result.offsets)
    flat = replace(result, offsets=())
    assert np.array_equal(flat.normals(before=True), result.normals(before=True))
    assert not np.array_equal(flat.normals(), result.normals())


def test_the_fast_recipe_with_networks_of_our_own_kind():
    """Untrained ones: what is tested is that rendering, patches, prior and head fit together."""
    torch.manual_seed(0)
    model = MonoModel("mono.random", MonoSmall(), weights_sha256=None, device="cpu", working=128)
    net = Denoiser(DenoiserConfig.tiny()).eval().requires_grad_(False)
    prior = RelightGuidance(net=net, name="relight.random", sha256="", scale=3.0, t_high=0.75, t_low=0.3, anneal=True)
    photo = np.random.default_rng(0).integers(0, 255, (100, 130, 3), np.uint8)
    result = depthlight.refine(photo, model=model, prior=prior, recipe="fast", steps=2)
    assert result.start.shape == (96, 128) and not result.stopped
    assert set(result.history[0]) == {"restart", "step", "guidance", "smoothness", "loss", "t", "guidance_raw"}
    assert [row["t"] for row in result.history] == [0.75, 0.3]
    for row in result.history:
        angle = row["t"] * np.pi / 2  # sigma / alpha of the cosine schedule
        assert row["guidance_raw"] == pytest.approx(row["guidance"] / np.tan(angle) ** 2, rel=1e-4)
    assert not np.array_equal(result.refined, result.start) and np.isfinite(result.after).all()
    described = result.summary()["prior"]
    assert described["guidance_scale"]["g"] == 3.0 and described["guidance_scale"]["usual"] == 4.0
    with pytest.raises(ConfigError, match=r"relight\.random was not trained for normals = 'paper'"):
        depthlight.refine(photo, model=model, prior=prior, recipe=replace(load_recipe("fast"), normals="paper"))
    with pytest.raises(ConfigError, match=r"not trained for camera = 'orthographic'"):
        depthlight.refine(photo, model=model, prior=prior, recipe=replace(load_recipe("fast"), camera="orthographic"))
    with pytest.raises(ConfigError, match=r"not trained for shift = 0\.1"):
        depthlight.refine(photo, model=model, prior=prior, recipe=replace(load_recipe("fast"), shift=0.1))
    known = depthlight.refine(photo, model=model, prior=prior, recipe="fast", steps=2, focal=120)
    assert not np.array_equal(known.refined, result.refined) and not known.stopped
