"""The refinement loop: it follows its prior, repeats and resumes to the bit, and stops at what is not finite."""

import contextlib
import itertools
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from depthlight.core.errors import CheckpointError, ConfigError, InputError, NonFiniteError, OutputError
from depthlight.core.signals import StopRequestedError
from depthlight.core.tolerances import tolerance
from depthlight.io import checkpoint
from depthlight.refine.guidance import Scene
from depthlight.refine.keeping import Keeping, forget
from depthlight.refine.loop import DIVERGED, Refinement, fitted_size
from depthlight.refine.render import Lighting, relight

TINY = Path(__file__).with_name("conftest.py")


def bits(outcome) -> tuple[Any, ...]:
    return outcome.refined_B1hw.numpy().tobytes(), [r.numpy().tobytes() for r in outcome.runs], outcome.history


def weights_of(net) -> bytes:
    return b"".join(value.numpy().tobytes() for value in net.state_dict().values())


def objective(run: Refinement, raw_B1hw: torch.Tensor, pull) -> float:
    """The prior's loss under lights that are the same for all maps."""
    generator = torch.Generator().manual_seed(1)
    lighting = Lighting.sample(16, generator)
    relit = relight(run.photo_B3hw, run.normals(raw_B1hw), lighting)
    return float(pull.loss(Scene(run.photo_B3hw, relit, lighting), progress=0.0, generator=generator))


@pytest.mark.parametrize(
    ("optimise", "remaining"),
    [(("tokens", "offset"), 0.3), (("tokens", "head", "offset"), 0.3), (("head",), 0.95), (("depth",), 0.8)],
)
def test_it_follows_the_prior(optimise, remaining, net, tensor, pull, quick):
    rates = {"lr_tokens": 3e-3, "lr_head": 1e-3, "lr_depth": 3e-3}
    run = Refinement(net, tensor, quick(steps=60, smoothness=0.0, optimise=optimise, **rates), pull)
    outcome = run.run()
    start, refined = (objective(run, raw, pull) for raw in (outcome.start_B1hw, outcome.refined_B1hw))
    assert refined < remaining * start


def test_smoothness_alone_smooths(net, tensor, quick):
    outcome = Refinement(net, tensor, quick(steps=40, smoothness=1.0, lr_tokens=1e-2)).run()
    assert outcome.history[-1]["smoothness"] < 0.9 * outcome.history[0]["smoothness"]
    assert "guidance" not in outcome.history[0]


@pytest.mark.parametrize("group", ["tokens", "head", "offset", "depth"])
def test_only_the_chosen_groups_move(group, net, tensor, pull, quick):
    optimise = (group,) if group != "offset" else ("head", "offset")
    seen: list[dict[str, Any]] = []

    class Spy(Refinement):
        def _step(self, variables):
            row = super()._step(variables)
            seen.append({name: [v.detach().clone() for v in vs] for name, vs in variables.groups.items()})
            return row

    decoded = []
    decode = net.decode

    def watched(tokens, size):
        decoded.append([token.detach().clone() for token in tokens])
        heads.append([parameter.detach().clone() for parameter in net.head_parameters()])
        return decode(tokens, size)

    heads = []
    net.decode = watched
    Spy(net, tensor, quick(optimise=optimise, lr_head=1e-3), pull).run()
    assert set(seen[0]) == set(optimise)
    assert any(not torch.equal(a, b) for a, b in zip(seen[0][group], seen[-1][group], strict=True))
    if group == "depth":
        assert len(decoded) == 1, "the raw map itself is moved"
        return
    for name, states in (("tokens", decoded), ("head", heads)):  # as the head was given them, first and last
        still = all(torch.equal(a, b) for a, b in zip(states[1], states[-1], strict=True))
        assert still == (name not in optimise)


def test_only_coarse_maps_are_optimised(net, tensor, pull, quick):
    counts = {}
    for stride in (0, 8):

        class Spy(Refinement):
            def _begin(self, variables, start_B1hw, state, key=stride):
                counts[key] = [tuple(v.shape[-2:]) for v in variables.groups["tokens"]]
                super()._begin(variables, start_B1hw, state)

        Spy(net, tensor, quick(min_stride=stride), pull).run()
    assert counts == {0: [(12, 16), (6, 8)], 8: [(6, 8)]}
    with pytest.raises(ConfigError, match=r"largest of 4, 8"):
        Refinement(net, tensor, quick(min_stride=16), pull).run()


def test_the_network_is_given_back_as_it_was(net, tensor, pull, quick):
    net.train()
    next(net.parameters()).requires_grad_(False)
    before = weights_of(net), [p.requires_grad for p in net.parameters()]
    Refinement(net, tensor, quick(optimise=("tokens", "head", "offset"), lr_head=1e-2), pull).run()
    assert (weights_of(net), [p.requires_grad for p in net.parameters()]) == before
    assert net.training and all(p.grad is None for p in net.parameters())


def test_restarts_differ_and_their_mean_is_the_answer(net, tensor, pull, quick):
    config = quick(restarts=3, optimise=("tokens", "head", "offset"), lr_head=1e-3)
    outcome = Refinement(net, tensor, config, pull).run()
    assert len(outcome.runs) == 3 and not torch.equal(outcome.runs[0], outcome.runs[1])
    assert torch.equal(outcome.refined_B1hw, torch.stack(outcome.runs).mean(0))
    assert [row["restart"] for row in outcome.history] == [1] * 6 + [2] * 6 + [3] * 6
    alone = Refinement(net, tensor, quick(optimise=("tokens", "head", "offset"), lr_head=1e-3), pull).run()
    assert torch.equal(alone.runs[0], outcome.runs[0]), "the first restart must not depend on how many follow"


def test_same_seed_same_bits(net, tensor, pull, quick):
    one, again, other = (bits(Refinement(net, tensor, quick(seed=seed), pull).run()) for seed in (5, 5, 6))
    assert one == again
    assert one[0] != other[0]


def test_the_global_random_state_is_left_alone(net, tensor, pull, quick):
    before = torch.get_rng_state()
    Refinement(net, tensor, quick(), pull).run()
    assert torch.equal(torch.get_rng_state(), before)


def test_identity_without_guidance_and_smoothness(net, tensor, pull, quick):  # T9
    off = {"smoothness": 0.0, "steps": 120}
    outcome = Refinement(net, tensor, quick(**off), None).run()
    assert torch.equal(outcome.refined_B1hw, outcome.start_B1hw), "residual tokens decay towards the start"
    outcome = Refinement(net, tensor, quick(**off, guidance=quick().guidance.__class__(weight=0.0)), pull).run()
    assert torch.equal(outcome.refined_B1hw, outcome.start_B1hw), "weight 0 turns the prior off"
    paper = quick(**off | {"steps": 1000}, residual=False, lr_tokens=1e-3, optimise=("tokens", "head", "offset"))
    outcome = Refinement(net, tensor, paper, None).run()
    span = outcome.start_B1hw.max() - outcome.start_B1hw.min()
    distance = (outcome.refined_B1hw - outcome.start_B1hw).abs().max() / span
    assert 0 < distance <= tolerance("refine.identity"), "AdamW's weight decay alone"


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_what_is_not_finite_stops_with_the_last_good_map(fault, net, tensor, pull, quick):  # T5
    pull.fault, pull.fault_at = fault, 0.6
    outcome = Refinement(net, tensor, quick(), pull).run()
    assert outcome.stopped is not None and (outcome.stopped.restart, outcome.stopped.step) == (1, 4)
    term = "the loss term 'guidance'" if fault == "loss" else "the gradient of the tokens"
    assert str(outcome.stopped) == f"{term} is not finite at step 4 of restart 1"
    assert torch.isfinite(outcome.refined_B1hw).all()

    class UntilThree(Refinement):
        def _restart(self, variables, on_step, should_stop):
            return super()._restart(variables, lambda row: raws.append(variables.raw().detach()), should_stop)

    raws: list[torch.Tensor] = []
    pull.fault = ""
    pull.fault_at = 2.0
    UntilThree(net, tensor, quick(), pull).run()
    assert torch.equal(outcome.refined_B1hw, raws[2]), "the map after the three good steps"


def test_a_fault_in_decode_keeps_the_map_before(net, tensor, pull, quick, monkeypatch):
    calls, real = [], net.decode

    def spoiled(tokens, size):
        calls.append(1)
        return real(tokens, size) * (float("nan") if len(calls) >= 5 else 1.0)  # the first call is the start

    monkeypatch.setattr(net, "decode", spoiled)
    outcome = Refinement(net, tensor, quick(), pull).run()
    assert str(outcome.stopped) == "the raw map is not finite at step 4 of restart 1"
    assert torch.isfinite(outcome.refined_B1hw).all() and not torch.equal(outcome.refined_B1hw, outcome.start_B1hw)


def test_a_fault_at_once_leaves_the_start(net, tensor, pull, quick):
    pull.fault, pull.fault_at = "loss", 0.0
    outcome = Refinement(net, tensor, quick(), pull).run()
    assert outcome.stopped.step == 1
    assert torch.equal(outcome.refined_B1hw, outcome.start_B1hw)


def test_a_fault_in_a_later_restart_keeps_the_finished_ones(net, tensor, pull, quick):
    class Later(Refinement):
        def _begin(self, variables, start_B1hw, state):
            pull.fault, pull.fault_at = ("loss", 0.5) if self.progress.restart == 1 else ("", 2.0)
            super()._begin(variables, start_B1hw, state)

    outcome = Later(net, tensor, quick(restarts=3), pull).run()
    assert outcome.stopped.restart == 2 and len(outcome.runs) == 1
    assert torch.equal(outcome.refined_B1hw, outcome.runs[0])


def test_a_network_that_answers_nonsense_is_an_error(net, tensor, pull, quick):
    with torch.no_grad():
        net.out.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="depth network"):
        Refinement(net, tensor, quick(), pull).run()
    net.quantity = "depth"
    with pytest.raises(InputError, match="relative inverse depth"):
        Refinement(net, tensor, quick(), pull).run()
    net.splits = False
    with pytest.raises(InputError, match="split"):
        Refinement(net, tensor, quick(), pull).run()


def test_a_map_of_zeros_has_no_unit(net, tensor, pull, quick):
    with torch.no_grad():
        net.out.weight.zero_()
        net.out.bias.fill_(-200.0)
    with pytest.raises(InputError, match="inverse depth"):
        Refinement(net, tensor, quick(), pull).run()


@pytest.mark.parametrize("scored", ["relit", "depth"])
@pytest.mark.parametrize("camera", ["pinhole", "orthographic"])
def test_what_the_prior_sees(scored, camera, net, tensor, pull, quick):
    seen = []

    class Look:
        name = "look"

        def loss(self, scene, *, progress, generator):
            seen.append((progress, scene))
            return scene.relit_BL3HW.mean()

        def level(self, progress):
            return 0.7, 2.0

        def describe(self):
            return {}

    config = quick(scored=scored, camera=camera, render=24, lights=3, steps=3)
    Refinement(net, tensor, config, Look()).run()
    assert [progress for progress, _ in seen] == [0.0, 0.5, 1.0]
    for _, scene in seen:
        assert scene.relit_BL3HW.shape == (1, 3, 3, 24, 32) and scene.photo_B3HW.shape == (1, 3, 24, 32)
        assert scene.relit_BL3HW.requires_grad and not scene.photo_B3HW.requires_grad
        assert scene.relit_BL3HW.min() >= 0 and scene.relit_BL3HW.max() <= 1
    lights = torch.stack([scene.lighting.direction_L3 for _, scene in seen])
    assert len({tuple(light) for light in lights.reshape(-1, 3).tolist()}) == 9, "every step draws its own lights"


# ---------------------------------------------------------------------------------------------- T9: killed and resumed


WORKER = """
import runpy, sys
from pathlib import Path
import torch
from depthlight.refine.keeping import Keeping
torch.set_num_threads(1)
folder = Path(sys.argv[2])
run = runpy.run_path(sys.argv[1])["make_run"]
outcome = run(int(sys.argv[3]), Keeping(folder / "state", {"a": 1}, seconds=0.0, resume=True)).run()
torch.save({"refined": outcome.refined_B1hw, "history": outcome.history}, folder / "outcome.pt")
"""


def start(folder: Path, steps: int) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", WORKER, str(TINY), str(folder), str(steps)])


def outcome_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "outcome.pt", weights_only=True)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_random_steps_ends_with_the_same_bits(kills, tmp_path, kill_and_finish):
    steps = 12 + 8 * kills
    kill_and_finish(lambda: start(tmp_path / "killed", steps), tmp_path / "killed" / "state", kills)
    with one_thread():
        unbroken = runpy.run_path(str(TINY))["make_run"](steps, None).run()
    resumed = outcome_of(tmp_path / "killed")
    assert resumed["history"] == unbroken.history and len(unbroken.history) == 2 * steps
    assert torch.equal(resumed["refined"], unbroken.refined_B1hw)


@contextlib.contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_stopped_and_resumed_in_one_process(net, tensor, pull, quick, tmp_path):
    config = quick(restarts=3, optimise=("tokens", "head", "offset"), lr_head=1e-3)
    whole = bits(Refinement(net, tensor, config, pull).run())
    rows = []
    for stop_at in (4, 8, 12):  # within a restart, and on the seam of two
        keeping = Keeping(tmp_path / "state", {"x": 1}, resume=True)
        with pytest.raises(StopRequestedError):
            Refinement(net, tensor, config, pull, keeping=keeping).run(
                on_step=rows.append, should_stop=lambda stop=stop_at: len(rows) >= stop
            )
    assert len(rows) == 12, "no step was done twice"
    assert bits(Refinement(net, tensor, config, pull, keeping=keeping).run()) == whole


def test_a_state_of_another_request_is_refused_or_forgotten(net, tensor, pull, quick, tmp_path):
    with pytest.raises(StopRequestedError):
        Refinement(net, tensor, quick(), pull, keeping=Keeping(tmp_path, {"x": 1})).run(should_stop=lambda: True)
    with pytest.raises(CheckpointError, match=r"another refinement.*--resume"):
        Refinement(net, tensor, quick(), pull, keeping=Keeping(tmp_path, {"x": 2}, resume=True)).run()
    with pytest.raises(CheckpointError, match=r"this very refinement.*--resume.*--overwrite"):
        Refinement(net, tensor, quick(), pull, keeping=Keeping(tmp_path, {"x": 1})).run()
    assert list(tmp_path.glob("step-*.pt")), "nothing was lost"
    outcome = Refinement(net, tensor, quick(), pull, keeping=Keeping(tmp_path, {"x": 2})).run()
    assert len(outcome.history) == 6 and not list(tmp_path.glob("step-*"))


def test_overwriting_begins_anew(net, tensor, pull, quick, tmp_path):
    with pytest.raises(StopRequestedError):
        Refinement(net, tensor, quick(), pull, keeping=Keeping(tmp_path, {"x": 1})).run(should_stop=lambda: True)
    keeping = Keeping(tmp_path, {"x": 1}, overwrite=True)
    assert len(Refinement(net, tensor, quick(), pull, keeping=keeping).run().history) == 6


def test_the_state_is_kept_by_the_clock_however_short_a_restart_is(net, tensor, pull, quick, tmp_path, monkeypatch):
    now = itertools.count()
    monkeypatch.setattr("depthlight.refine.loop.time", SimpleNamespace(monotonic=lambda: next(now) / 2))
    saved = []
    keeping = Keeping(tmp_path, {"x": 1}, seconds=7.0)
    monkeypatch.setattr(Keeping, "save", lambda self, step, **parts: saved.append(step))
    Refinement(net, tensor, quick(restarts=8, steps=6), pull, keeping=keeping).run()
    assert len(saved) >= 3 and max(b - a for a, b in itertools.pairwise([0, *saved])) <= 16


@pytest.mark.parametrize("rate", [300.0, 1e3])
def test_a_run_that_diverges_stops_with_the_last_good_map(net, tensor, pull, quick, rate):
    config = quick(optimise=("depth",), lr_depth=rate, steps=8, restarts=2)
    outcome = Refinement(net, tensor, config, pull).run()
    assert outcome.stopped is not None and outcome.stopped.restart == 1
    assert torch.isfinite(outcome.refined_B1hw).all()
    assert outcome.refined_B1hw.max() <= DIVERGED * outcome.start_B1hw.max()


def test_turned_photos_get_turned_normals(net, pull, quick):
    """At the standard scale the short side is the unit: portraits must look no steeper than what training saw."""
    raw = torch.rand(1, 1, 24, 40, generator=torch.Generator().manual_seed(0)) + 0.5
    config = quick(unit="standard", camera="orthographic", normals="surface")
    wide = Refinement(net, torch.rand(1, 3, 24, 40), config, pull).normals(raw)
    tall = Refinement(net, torch.rand(1, 3, 40, 24), config, pull).normals(raw.transpose(-1, -2))
    swapped = torch.stack([-tall[:, 1], -tall[:, 0], tall[:, 2]], 1).transpose(-1, -2)
    torch.testing.assert_close(swapped[..., 1:-1, 1:-1], wide[..., 1:-1, 1:-1], atol=0.03, rtol=0)
    paper = Refinement(net, torch.rand(1, 3, 40, 24), replace(config, unit="network"), pull)
    theirs = paper.normals(raw.transpose(-1, -2))
    torch.testing.assert_close(theirs[:, :2] / theirs[:, 2:], 40 / 24 * tall[:, :2] / tall[:, 2:])


def test_a_damaged_state_is_passed_over(net, tensor, pull, quick, tmp_path):
    config, keeping = quick(), Keeping(tmp_path, {"x": 1}, seconds=0.0, resume=True)
    whole = bits(Refinement(net, tensor, config, pull).run())
    rows: list[Any] = []
    with pytest.raises(StopRequestedError):
        Refinement(net, tensor, config, pull, keeping=keeping).run(
            on_step=rows.append, should_stop=lambda: len(rows) >= 4
        )
    path = max(tmp_path.glob("step-*.pt"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="damaged"):
        assert bits(Refinement(net, tensor, config, pull, keeping=keeping).run()) == whole


def test_a_full_disk_is_told_and_leaves_the_state_before(net, tensor, pull, quick, tmp_path, monkeypatch):
    keeping = Keeping(tmp_path, {"x": 1}, seconds=0.0, resume=True)
    whole = bits(Refinement(net, tensor, quick(), pull).run())
    real, calls = checkpoint.atomic_write_bytes, []

    def full(target, data):
        calls.append(target)
        if len(calls) > 4:
            raise OutputError(f"cannot write {target}: No space left on device")
        real(target, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "atomic_write_bytes", full)
        with pytest.raises(OutputError, match="No space"):
            Refinement(net, tensor, quick(), pull, keeping=keeping).run()
    assert weights_of(net) == weights_of(runpy.run_path(str(TINY))["make_tiny_net"]())
    assert bits(Refinement(net, tensor, quick(), pull, keeping=keeping).run()) == whole


def test_forget_leaves_other_files_alone(tmp_path):
    forget(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("mine")
    forget(tmp_path)
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(
    ("size", "longest", "multiple", "expected"),
    [
        ((1080, 1920), 518, 14, (294, 518)),
        ((480, 640), 518, 14, (392, 518)),
        ((480, 640), 256, 32, (192, 256)),
        ((100, 60), 518, 14, (98, 56)),
        ((5, 3000), 256, 32, (32, 256)),
        ((700, 700), 500, 14, (490, 490)),
        ((8, 8), 4, 14, (14, 14)),
    ],
)
def test_fitted_size(size, longest, multiple, expected):
    assert fitted_size(*size, longest, multiple) == expected


def test_fitted_size_by_the_shorter_side():
    assert fitted_size(480, 640, 384, 32, shortest=192) == (192, 256)
    assert fitted_size(500, 3000, 384, 32, shortest=192) == (64, 384)
    assert fitted_size(100, 120, 384, 4, shortest=192) == (100, 120)
