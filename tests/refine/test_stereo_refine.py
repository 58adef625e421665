"""Adapting a stereo network to a pair: what changes, what does not, interruptions, faults, and wrong requests."""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

import depthlight
from depthlight.backends import TorchBackend
from depthlight.core.config import from_dict, to_dict
from depthlight.core.errors import CheckpointError, ConfigError, InputError, UnknownNameError
from depthlight.core.signals import StopRequestedError
from depthlight.infer.owned import EVERY
from depthlight.infer.stereo import StereoModel
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.prior.denoiser import Denoiser, DenoiserConfig
from depthlight.nets.stereo.las1 import LAS1
from depthlight.nets.stereo.light import Light, LightConfig
from depthlight.refine import stereo, stereo_api
from depthlight.refine.stereo_config import RECIPES, StereoRefineConfig, load_stereo_recipe
from depthlight.refine.stereo_teacher import teach

TINY = LightConfig(pyramid=(4, 4, 8, 8, 8), match=8, groups=2, volume=(4, 4, 4, 4), upsample=4, max_disp=32)


PHOTOMETRIC = stereo.photometric


def model_of(net):
    return StereoModel("light.tiny", TorchBackend(net, device="cpu"), weights_sha256="0" * 64, max_disp=32)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return Light(TINY)


@pytest.fixture
def model(tiny):
    return model_of(tiny)


@pytest.fixture
def views(make_pair):
    return make_pair(8, 60, 90)


def quick(**changes):
    return StereoRefineConfig(**({"steps": 6, "scales": (1.0,)} | changes))


# ------------------------------------------------------------------------------------------------ what it does


def test_before_and_after(model, views):
    rows = []
    result = depthlight.refine(*views, model=model, recipe=quick(), on_step=rows.append)
    plain = model.predict(*views, left_right=True)
    assert np.array_equal(result.before.disparity, plain.disparity)
    assert np.array_equal(result.before.valid, plain.valid)
    assert result.disparity.shape == (60, 90) and result.disparity.dtype == np.float32
    assert np.isfinite(result.disparity).all() and (result.disparity >= 0).all()
    assert not np.array_equal(result.disparity, plain.disparity)
    assert list(result.history) == rows and [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert result.teacher.passes == 2 and not result.stopped
    maps = []
    again = depthlight.refine(*views, model=model, recipe=quick(), on_map=maps.append)
    assert np.array_equal(result.disparity, again.disparity)
    assert len(maps) == 6 and np.array_equal(maps[0], result.before.disparity)


@pytest.mark.parametrize("optimise", [("logits",), ("upsample",), ("disparity",), ("logits", "upsample", "disparity")])
def test_nothing_to_follow_changes_nothing(optimise, model, views):  # T9
    config = quick(photometric=0.0, smoothness=0.0, closeness=0.0, optimise=optimise)
    result = depthlight.refine(*views, model=model, recipe=config)
    assert np.array_equal(result.disparity, result.before.disparity)
    assert result.teacher.passes == 1, "a pass that nothing follows is not made"


@pytest.mark.parametrize("term", ["photometric", "smoothness", "closeness"])
@pytest.mark.parametrize("optimise", [("logits", "upsample"), ("disparity",)])
def test_each_term_can_be_lowered_alone(term, optimise, model, views):
    off = dict.fromkeys(("photometric", "smoothness", "closeness"), 0.0)
    config = quick(**(off | {term: 1.0}), optimise=optimise, steps=15, agreement=100.0, lr_disparity=0.1)
    history = depthlight.refine(*views, model=model, recipe=config).history
    assert set(history[0]) == {"step", term, "loss"}
    assert history[-1][term] < 0.99 * history[0][term]


def test_a_far_teacher_is_reached_through_the_scores(tiny, views):
    """The nearest bins alone give no gradient towards a bin far away; the cross-entropy does."""
    left = torch.from_numpy(np.ascontiguousarray(views[0][:32, :64].transpose(2, 0, 1))).float()[None]
    everywhere = torch.ones(1, 32, 64)
    pair = stereo.PairTensors(left, left.flip(-1), 20 * everywhere, everywhere, everywhere, 32, (32, 64))
    config = quick(steps=60, lr_logits=0.3, photometric=0.0, smoothness=0.0)
    outcome = stereo.StereoRefinement(tiny, pair, config).run()
    assert float((outcome.start_BHW - 20).abs().mean()) > 3
    assert float((outcome.refined_BHW - 20).abs().mean()) < 0.5


def test_the_network_is_left_as_it_was(tiny, model, views):
    plain = model.predict(*views, left_right=True)
    teacher = teach(model, *views, plain, quick())
    tensors = stereo_api.pair_tensors(views, teacher, 32, torch.device("cpu"))
    tiny.train()
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    outcome = stereo.StereoRefinement(tiny, tensors, quick(steps=2)).run()
    assert np.array_equal(outcome.start_BHW[0, :60, :90].numpy(), plain.disparity), "as in evaluation mode"
    assert all(module.training for module in tiny.modules())
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items()), "BatchNorm, too"
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_metres(model, views):
    rig = depthlight.StereoRig(fx=100, fy=100, cx=45, cy=30, baseline=0.1, width=90, height=60)
    result = depthlight.refine(*views, model=model, recipe=quick(steps=2))
    depth = result.to_depth(rig)
    at = depth.valid
    assert at.any() and np.allclose(depth.depth[at], 10 / result.disparity[at], rtol=1e-5)


# ------------------------------------------------------------------------------------------------ the teacher


def test_enlarged_and_flipped_passes_come_back_at_input_size(model, views):
    config = quick(scales=(1.0, 1.5), steps=1)
    teacher = depthlight.refine(*views, model=model, recipe=config).teacher
    assert teacher.passes == 4 and teacher.disparity.shape == (60, 90)
    assert ((teacher.agreement > 0) & (teacher.agreement <= 1)).all()
    assert set(np.unique(teacher.visible)) <= {0.0, 1.0}


# ------------------------------------------------------------------------------------------------ interruptions


def test_interrupted_and_resumed(model, views, tmp_path):
    whole = stereo_api.refine_stereo(*views, model=model, recipe=quick())
    steps = []
    with pytest.raises(StopRequestedError):
        stereo_api.refine_stereo(
            *views,
            model=model,
            recipe=quick(),
            keep=tmp_path,
            on_step=steps.append,
            should_stop=lambda: len(steps) == 3,
        )
    resumed = stereo_api.refine_stereo(
        *views, model=model, recipe=quick(), keep=tmp_path, resume=True, on_step=steps.append
    )
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6], "nothing is done twice"
    assert np.array_equal(resumed.disparity, whole.disparity) and resumed.history == whole.history
    with pytest.raises(CheckpointError, match="another refinement"):
        stereo_api.refine_stereo(*views, model=model, recipe=quick(smoothness=2.0), keep=tmp_path, resume=True)


KILLED = """
import runpy, sys
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
here, folder, steps = runpy.run_path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
result = here["adapted"](np.load(folder / "views.npy"), steps, keep=folder / "state", keep_seconds=0.0, resume=True)
torch.save({"disparity": torch.from_numpy(result.disparity), "history": list(result.history)}, folder / "outcome.pt")
"""


def adapted(views, steps, **options):
    torch.manual_seed(0)
    recipe = quick(steps=steps)
    return stereo_api.refine_stereo(*views, model=model_of(Light(TINY).eval()), recipe=recipe, **options)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_random_steps_ends_with_the_same_bits(kills, views, tmp_path, kill_and_finish):  # T9
    steps = 12 + 8 * kills
    np.save(tmp_path / "views.npy", np.stack(views))
    command = [sys.executable, "-c", KILLED, __file__, str(tmp_path), str(steps)]
    kill_and_finish(lambda: subprocess.Popen(command), tmp_path / "state", kills)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    unbroken = adapted(views, steps)
    torch.set_num_threads(threads)
    resumed = torch.load(tmp_path / "outcome.pt", weights_only=True)
    assert resumed["history"] == list(unbroken.history) and len(unbroken.history) == steps
    assert np.array_equal(resumed["disparity"].numpy(), unbroken.disparity)


def faulty_at(step, fault):
    """The photometric term, not finite (or its gradient) from this step on."""
    calls = []

    def faulty(left, right, disparity, visible):
        calls.append(1)
        loss = PHOTOMETRIC(left, right, disparity, visible)
        if len(calls) < step:
            return loss
        if fault == "gradient":
            disparity.register_hook(lambda grad: grad * float("inf"))
            return loss
        return loss * float("nan")

    return faulty


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_fault_is_told_and_the_last_good_map_kept(fault, model, views, monkeypatch):
    maps = []
    monkeypatch.setattr(stereo, "photometric", faulty_at(4, fault))
    result = depthlight.refine(*views, model=model, recipe=quick(), on_map=maps.append)
    named = "the loss term 'photometric'" if fault == "loss" else "the gradient of the logits"
    assert result.stopped == f"{named} is not finite at step 4" and len(result.history) == 3
    assert np.isfinite(result.disparity).all() and not np.array_equal(result.disparity, result.before.disparity)
    assert not np.array_equal(result.disparity, maps[-1]), "the map of step 4 itself was good"


def test_a_fault_after_a_resume_leaves_what_it_leaves_in_an_unbroken_run(model, views, monkeypatch, tmp_path):
    monkeypatch.setattr(stereo, "photometric", faulty_at(4, "loss"))
    whole = depthlight.refine(*views, model=model, recipe=quick())
    steps = []
    with monkeypatch.context() as patch, pytest.raises(StopRequestedError):
        patch.setattr(stereo, "photometric", faulty_at(99, "loss"))
        depthlight.refine(
            *views,
            model=model,
            recipe=quick(),
            keep=tmp_path,
            on_step=steps.append,
            should_stop=lambda: len(steps) == 3,
        )
    monkeypatch.setattr(stereo, "photometric", faulty_at(1, "loss"))
    resumed = depthlight.refine(*views, model=model, recipe=quick(), keep=tmp_path, resume=True)
    assert resumed.stopped == whole.stopped and resumed.history == whole.history
    assert np.array_equal(resumed.disparity, whole.disparity)


def test_a_stop_is_heard_between_the_teachers_passes(model, views, monkeypatch):
    asked, passes = [], []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda *args, **how: (passes.append(1), predict(*args, **how))[1])
    with pytest.raises(StopRequestedError):
        depthlight.refine(
            *views,
            model=model,
            recipe=quick(scales=(1.0, 1.5)),
            should_stop=lambda: (asked.append(1), len(asked) > 1)[1],
        )
    assert len(passes) == 2, "the plain one and the first"


# ------------------------------------------------------------------------------------------------ re-lighting


@dataclass
class Brighter:
    """A prior that wants re-lit views brighter on the left half, so that its gradient has somewhere to go."""

    name: str = "brighter"

    def loss(self, scene, *, progress, generator):
        half = scene.relit_BL3HW.shape[-1] // 2
        noise = 1e-3 * torch.randn((), generator=generator)
        return (1 + noise) * (scene.relit_BL3HW[..., half:].mean() - scene.relit_BL3HW[..., :half].mean())

    def describe(self):
        return {"name": self.name}


def test_relighting_is_a_term_of_its_own_and_resumes_to_the_bit(model, views, tmp_path):
    config = quick(relight=5.0, photometric=0.0, smoothness=0.0, closeness=0.0, optimise=("disparity",))
    whole = depthlight.refine(*views, model=model, prior=Brighter(), recipe=config)
    assert set(whole.history[0]) == {"step", "relight", "loss"}
    assert not np.array_equal(whole.disparity, whole.before.disparity)
    assert whole.history[-1]["relight"] < whole.history[0]["relight"]
    other = depthlight.refine(*views, model=model, prior=Brighter(), recipe=quick(**(vars(config) | {"seed": 1})))
    assert not np.array_equal(other.disparity, whole.disparity), "other lights"
    steps = []
    how = {"model": model, "prior": Brighter(), "recipe": config, "keep": tmp_path}
    with pytest.raises(StopRequestedError):
        depthlight.refine(*views, **how, on_step=steps.append, should_stop=lambda: len(steps) == 3)
    resumed = depthlight.refine(*views, **how, resume=True)
    assert np.array_equal(resumed.disparity, whole.disparity) and resumed.history == whole.history
    with pytest.raises(CheckpointError, match="another refinement"):
        depthlight.refine(*views, **(how | {"prior": Brighter("x")}), resume=True)


def test_a_small_prior_relights_a_pair(model, views, tmp_path):
    torch.manual_seed(0)
    net = Denoiser(DenoiserConfig.tiny())
    metadata = {"name": "relight.test", "family": "relight", "network": json.dumps(to_dict(net.config))}
    save_safetensors(tmp_path / "prior.safetensors", net, metadata)
    result = depthlight.refine(
        *views, model=model, prior=str(tmp_path / "prior.safetensors"), recipe=quick(steps=2, relight=0.1)
    )
    assert {"relight", "photometric"} <= set(result.history[0]) and not result.stopped
    assert np.isfinite(result.disparity).all()


# ------------------------------------------------------------------------------------------------ requests


def test_no_prior_is_no_relighting(model, views):
    plain = depthlight.refine(*views, model=model, recipe=quick(steps=2))
    without = depthlight.refine(*views, model=model, prior="none", recipe=quick(steps=2, relight=0.1))
    assert np.array_equal(plain.disparity, without.disparity) and without.config.relight == 0
    assert "relight" not in without.history[0]


def test_an_unfinished_run_is_not_lost_by_mistake(model, views, tmp_path):
    how, steps = {"model": model, "recipe": quick(steps=3), "keep": tmp_path}, []
    with pytest.raises(StopRequestedError):
        depthlight.refine(*views, **how, on_step=steps.append, should_stop=lambda: len(steps) == 1)
    with pytest.raises(CheckpointError, match=r"--resume.*--overwrite"):
        depthlight.refine(*views, **how)
    assert len(depthlight.refine(*views, **how, overwrite=True).history) == 3


def test_wrong_requests(model, views):
    left, right = views
    with pytest.raises(InputError, match=r"a prior was given, and the recipe does not re-light.*relight = 0\.1"):
        depthlight.refine(left, right, model=model, prior="relight")
    with pytest.raises(InputError, match=r"sd-1\.5 cannot guide a stereo refinement"):
        depthlight.refine(left, right, model=model, prior="sd-1.5", recipe=quick(relight=1.0))
    with pytest.raises(InputError, match="restarts is for one photo"):
        depthlight.refine(left, right, model=model, restarts=3)
    with pytest.raises(InputError, match="max_disp is for a pair"):
        depthlight.refine(left, max_disp=64)
    for sgbm in ("sgbm", depthlight.load("sgbm")):
        with pytest.raises(InputError, match=r"sgbm.* cannot be adapted"):
            depthlight.refine(left, right, model=sgbm)
    with pytest.raises(InputError, match="rectified pair of one size"):
        depthlight.refine(left, right[:-1], model=model)
    with pytest.raises(UnknownNameError, match=r"'fsat'.*fast"):
        depthlight.refine(left, right, model=model, recipe="fsat")
    with pytest.raises(InputError, match="several passes"):
        depthlight.refine(left, right, model=model, recipe=quick(), max_disp=96)


def test_a_network_whose_late_layers_are_not_known(views):
    foreign = StereoModel("las1.x", TorchBackend(LAS1(), device="cpu"), weights_sha256=None)
    with pytest.raises(InputError, match=r"late layers of las1.*light"):
        depthlight.refine(*views, model=foreign, recipe=quick(scales=()))


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"steps": 10**20},
        {"lights": 10**9},
        {"smoothness": -1.0},
        {"photometric": float("nan")},
        {"optimise": ()},
        {"optimise": ("logits", "logits")},
        {"scales": (0.5,)},
        {"scales": (2.0, 1.0)},
        {"scales": (1.0, float("nan"))},
    ],
)
def test_settings_are_checked(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        StereoRefineConfig(**values)


def test_recipes_hold_what_they_say():
    for name in RECIPES.names():
        config = load_stereo_recipe(name)
        assert from_dict(StereoRefineConfig, to_dict(config)) == config
    assert load_stereo_recipe("fast") == StereoRefineConfig(), "the defaults are the recipe's"
    assert load_stereo_recipe("fast", {"steps": 3, "smoothness": None}).steps == 3


# ------------------------------------------------------------------------------------------------ the verb


RECIPE = "steps = 3\nscales = [1]\n"
CALIB = (
    "cam0=[100 0 45; 0 100 30; 0 0 1]\ncam1=[100 0 45; 0 100 30; 0 0 1]\ndoffs=0\nbaseline=100\nwidth=90\nheight=60\n"
)


@pytest.fixture
def workshop(tmp_path, monkeypatch, views, model):
    monkeypatch.setattr(stereo_api, "load", lambda name, **options: model)
    monkeypatch.chdir(tmp_path)
    for side, view in zip(("left", "right"), views, strict=True):
        Image.fromarray(view).save(f"{side}.png")
        (tmp_path / side).mkdir()
        for name in ("one", "two"):
            Image.fromarray(view).save(f"{side}/{name}.png")
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "calib.txt").write_text(CALIB)
    return tmp_path


def test_a_pair(workshop, call):
    command = ("refine", "left.png", "right.png", "-o", "out", "--recipe", "r.toml", "--calib", "calib.txt")
    (workshop / "out").mkdir()
    for name in EVERY:
        (workshop / "out" / name).write_bytes(b"of an earlier result")
    (workshop / "out" / "result.json").write_text(json.dumps({"files": EVERY}))
    status, out, err = call(*command)
    assert status == 0 and "light.tiny" in out and "3 steps" in out and not err
    folder = workshop / "out"
    facts = json.loads((folder / "result.json").read_text())
    there = {path.name for path in folder.iterdir()}
    assert there == {*facts["files"], "result.json"}, "everything is listed, of what was there before nothing is left"
    assert {"before.npy", "after.npy", "disparity.png", "difference.png", "losses.png", "depth.npy"} <= set(
        facts["files"]
    )
    before, after = (np.load(folder / f"{name}.npy") for name in ("before", "after"))
    assert before.shape == after.shape == (60, 90) and not np.array_equal(before, after)
    assert (facts["model"], facts["unit"], facts["steps_done"], facts["recipe"]) == ("light.tiny", "px", 3, "r.toml")
    assert facts["metres"]["unit"] == "m" and facts["request"]["config"]["steps"] == 3
    stamp = (folder / "after.npy").stat().st_mtime_ns
    assert call(*command, "--resume")[0] == 0
    assert (folder / "after.npy").stat().st_mtime_ns == stamp, "what is there is kept"


def test_no_prior_can_be_asked_for(workshop, call):
    (workshop / "lit.toml").write_text(RECIPE + "relight = 0.1\n")
    command = ("refine", "left.png", "right.png", "-o", "out", "--recipe", "lit.toml", "--prior", "none")
    assert call(*command)[0] == 0
    facts = json.loads((workshop / "out" / "result.json").read_text())
    assert facts["config"]["relight"] == 0 and "relight" not in facts["losses"]


def test_folders_of_pairs(workshop, call):
    command = ("refine", "left", "right", "-o", "out", "--recipe", "r.toml")
    Image.fromarray(np.zeros((60, 50, 3), np.uint8)).save("right/two.png")
    status, out, err = call(*command)
    assert status == 1 and "1 done, 0 already there, 1 failed" in out and "two" in err
    Image.open("right/one.png").save("right/two.png")
    status, out, _ = call(*command)
    assert status == 0 and "1 done, 1 already there, 0 failed" in out


def test_a_calibration_without_a_size_is_not_rescaled_by_guess(workshop, call):
    for side in ("left", "right"):
        Image.open(f"{side}/one.png").resize((180, 120)).save(f"{side}/two.png")
    (workshop / "K.txt").write_text("100 0 45 0 100 30 0 0 1\n0.1\n")
    command = ("refine", "left", "right", "-o", "out", "--recipe", "r.toml", "--calib")
    status, out, err = call(*command, "K.txt")
    assert status == 1 and "1 done, 0 already there, 1 failed" in out and "states no image size" in err
    status, out, _ = call(*command, "calib.txt")
    assert status == 0 and "1 done, 1 already there" in out, "the rig of one is the same, two is of the same shape"
    (workshop / "calib.txt").write_text(CALIB.replace("baseline=100", "baseline=50"))
    assert "2 done" in call(*command, "calib.txt")[1], "another rig is another request"


def test_a_fault_ends_with_status_1(workshop, call, monkeypatch):
    monkeypatch.setattr(stereo, "photometric", lambda left, right, disparity, visible: disparity.sum() * float("nan"))
    status, _, err = call("refine", "left.png", "right.png", "-o", "out", "--recipe", "r.toml")
    assert status == 1 and "not finite at step 1" in err and "Traceback" not in err
    facts = json.loads((workshop / "out" / "result.json").read_text())
    assert facts["stopped"] and facts["request"] == {}
    before, after = (np.load(workshop / "out" / f"{name}.npy") for name in ("before", "after"))
    assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["left.png", "right.png", "--prior", "relight"], "the recipe does not re-light"),
        (["left.png", "right.png", "--anchor", "calib.txt"], "--anchor is for one photo"),
        (["left.png", "right.png", "--seed", "1"], "--seed is for one photo"),
        (["left.png", "--max-disp", "64"], "--max-disp is for a pair"),
        (["left.png", "--calib", "calib.txt"], "--calib is for a pair"),
        (["left.png", "right"], "a folder and a file"),
        (["left.png", "nowhere.png"], "nowhere.png does not exist"),
        (["left.png", "right.png", "--recipe", "paper"], "stereo recipe 'paper'"),
        (["left.png", "right.png", "--calib", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_wrong_requests_are_one_line_and_status_2(arguments, said, workshop, call):
    status, out, err = call("refine", *arguments, "-o", "out")
    assert status == 2 and said in err and not out and len(err.splitlines()) == 1
    assert not (workshop / "out" / "result.json").exists()
