"""T5: nothing that is not finite reaches the weights, and the message says what and where."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from depthlight.core.errors import NonFiniteError
from depthlight.data.loader import Batch
from depthlight.nets.losses import LossConfig
from depthlight.nets.stereo.base import StereoNet
from depthlight.train import machine
from depthlight.train.config import TrainConfig
from depthlight.train.ema import Ema
from depthlight.train.loop import Run
from depthlight.train.stage1 import StageOutput, Supervised
from depthlight.train.start import make_start
from depthlight.train.step import Stepper, freeze_batch_norm

Tiny = Callable[..., TrainConfig]


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randint(0, 256, (2, 2, 3, 64, 96), generator=generator, dtype=torch.uint8)
    disp = 20 * torch.rand((2, 64, 96), generator=generator)
    return Batch(left, right, disp, disp > 1, ("first", "second"), (40, 41), 2)


@pytest.fixture
def stepper(tiny: Tiny) -> Stepper:
    net = make_start(tiny()).net.train()
    stage = Supervised(LossConfig(), lambda: machine.autocast(torch.device("cpu"), "fp32"))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    made = Stepper(net, optimizer, Ema(net, 0.9), stage)
    made.run(make_batch(), 1e-3)  # so that optimizer and average have a state to lose
    return made


def everything(stepper: Stepper) -> dict[str, Any]:
    assert stepper.ema is not None
    return copy.deepcopy(
        {
            "net": stepper.net.state_dict(),
            "optimizer": stepper.optimizer.state_dict()["state"],
            "ema": stepper.ema.state(),
        }
    )


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    return bool(one == two)


def spoil_term(stepper: Stepper, value: float) -> None:
    real = stepper.stage

    def stage(net: StereoNet, batch: Batch) -> StageOutput:
        output = real(net, batch)
        output.terms["full"] = output.terms["full"] + torch.tensor([0.0, value])
        return output

    stepper.stage = stage


def spoil_gradient(stepper: Stepper, value: float) -> None:
    parameter = dict(stepper.net.named_parameters())["aggregate.leave.weight"]
    parameter.register_hook(lambda gradient: torch.full_like(gradient, value))


def spoil_activation(stepper: Stepper, value: float) -> None:
    stepper.net.features.stem.register_forward_hook(lambda *args: args[2] * value)  # type: ignore[union-attr]


SPOILERS: dict[str, tuple[Callable[[Stepper, float], None], float, str]] = {
    "loss NaN": (spoil_term, math.nan, "loss term 'full' is not finite; samples second (position 41)"),
    "loss Inf": (spoil_term, math.inf, "loss term 'full' is not finite; samples second (position 41)"),
    "gradient NaN": (spoil_gradient, math.nan, "gradient of aggregate.leave.weight is not finite; samples first"),
    "gradient Inf": (spoil_gradient, math.inf, "gradient of aggregate.leave.weight is not finite; samples first"),
    "activation NaN": (spoil_activation, math.nan, "samples first (position 40), second (position 41)"),
}


@pytest.mark.parametrize("case", [*SPOILERS, "truth NaN"])
def test_nothing_changes_and_the_place_is_named(case: str, stepper: Stepper) -> None:
    batch = make_batch()
    if case == "truth NaN":
        batch.disp_BHW[1, 5, 5] = math.nan
        message = "samples second (position 41)"
    else:
        spoil, value, message = SPOILERS[case]
        spoil(stepper, value)
    before = everything(stepper)
    result = stepper.run(batch, 1e-3)
    assert message in result.problem
    assert equal(everything(stepper), before)


def test_a_good_step_changes_everything(stepper: Stepper) -> None:
    before = everything(stepper)
    result = stepper.run(make_batch(), 1e-3)
    after = everything(stepper)
    assert not result.problem and result.samples == 2
    assert result.loss == pytest.approx(sum(result.terms.values()))
    assert all(not equal(before[part], after[part]) for part in before)


def test_a_missing_sample_weighs_nothing(stepper: Stepper) -> None:
    """One of two samples missing: its neighbour's gradient stays what it was in the full batch's sum."""
    freeze_batch_norm(stepper.net)
    full, half = make_batch(), make_batch()
    keep = {
        key: value[:1] for key, value in vars(half).items() if isinstance(value, Tensor | tuple) and len(value) == 2
    }
    half = replace(half, **keep)
    twin = copy.deepcopy(stepper.net)
    stepper.net.zero_grad()
    stepper._backward(half)
    alone = [p.grad.clone() for p in stepper.net.parameters() if p.grad is not None]
    masked = replace(full, mask_BHW=full.mask_BHW & torch.tensor([True, False])[:, None, None])
    stepper.net.load_state_dict(twin.state_dict())
    stepper.net.zero_grad()
    stepper._backward(masked)
    for ours, theirs in zip(alone, [p.grad for p in stepper.net.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_a_batch_of_bad_samples_changes_nothing(stepper: Stepper) -> None:
    batch = make_batch()
    empty = {key: value[:0] for key, value in vars(batch).items() if isinstance(value, Tensor | tuple)}
    before = everything(stepper)
    assert stepper.run(replace(batch, **empty), 1e-3).samples == 0
    assert equal(everything(stepper), before)


def test_frozen_batch_norm_keeps_its_statistics(stepper: Stepper) -> None:
    freeze_batch_norm(stepper.net)
    before = {k: v.clone() for k, v in stepper.net.state_dict().items() if "running" in k}
    stepper.run(make_batch(), 1e-3)
    after = stepper.net.state_dict()
    assert before and all(torch.equal(v, after[k]) for k, v in before.items())


def test_the_gradient_is_clipped(stepper: Stepper) -> None:
    stepper.clip = 0.01
    stepper.run(make_batch(), 0.0)
    norm = torch.stack([p.grad.norm() for p in stepper.net.parameters() if p.grad is not None]).norm()
    assert norm <= 0.0101


def spoiled_run(tiny: Tiny, folder: Path, monkeypatch: pytest.MonkeyPatch, steps: set[int], **changes: Any) -> Run:
    """A run whose loss is NaN at certain steps."""
    run = Run(tiny(**changes), folder, quiet=True)
    real = run.stage

    def stage(net: StereoNet, batch: Batch) -> StageOutput:
        output = real(net, batch)
        if run.progress.step + 1 in steps:
            output.terms["full"] = output.terms["full"] * math.nan
        return output

    monkeypatch.setattr(run, "stage", stage)
    return run


def test_policy_stop(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = spoiled_run(tiny, tmp_path, monkeypatch, {3})
    with pytest.raises(NonFiniteError, match=r"before the update.*'full'.*plane-\d"):
        run.run()
    assert run.progress.step == 2


def test_policy_skip_up_to_its_limit(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, Any] = {"on_non_finite": "skip", "max_skips": 2}
    run = spoiled_run(tiny, tmp_path / "two", monkeypatch, {2, 4}, **changes)
    assert run.run() == 0
    assert (run.progress.step, run.progress.skipped) == (6, 2)
    with pytest.raises(NonFiniteError):
        spoiled_run(tiny, tmp_path / "three", monkeypatch, {2, 4, 5}, **changes).run()
