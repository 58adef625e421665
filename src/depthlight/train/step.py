"""One training step: forward, backward, exchange, checks, update. Nothing is updated unless everything is finite."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.errors import NonFiniteError
from .distributed import Ranks
from .ema import Ema
from .task import Stage, StageOutput, TrainBatch

MAX_TERMS = 8


@dataclass(frozen=True)
class StepResult:
    """Means over the samples of all ranks; ``stop`` and ``save`` are true if any rank asked for it.

    ``core_seconds`` is the sum of what the ranks reported, so that every rank counts the same.
    """

    loss: float
    terms: dict[str, float]
    error: float
    grad_norm: float
    samples: int
    bad: int
    stop: int
    save: bool
    core_seconds: float = 0.0
    problem: str = ""


@dataclass
class Stepper:
    """Network, optimizer and average, and how to take a step with them."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    stage: Stage
    ranks: Ranks = field(default_factory=Ranks)
    clip: float = 1.0

    def __post_init__(self) -> None:
        self._parameters = [p for p in self.net.parameters() if p.requires_grad]
        self._names = [name for name, p in self.net.named_parameters() if p.requires_grad]
        self._statistics = [b for b in self.net.buffers() if b.is_floating_point()]

    def run(
        self, batch: TrainBatch, lr: float, *, stop: int = 0, save: bool = False, core_seconds: float = 0.0
    ) -> StepResult:
        """Take one step. If anything is not finite, nothing changes and ``problem`` says what and where.

        Args:
            stop, save, core_seconds: this rank's wishes and CPU time since its last report, to be told to the others.
        """
        before = [b.clone() for b in self.net.buffers()]
        self.optimizer.zero_grad(set_to_none=True)
        output, problem = self._backward(batch)
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        names = sorted(output.terms) if output else []
        told = [float(stop), float(save), core_seconds]
        numbers = self._numbers(batch, output, names, problem, told)
        sums = self.ranks.exchange([*gradients, *self._statistics], numbers)
        norm = float(torch.nn.utils.get_total_norm(gradients))
        samples, failed = int(sums[0]), sums[1] > 0 or not math.isfinite(norm)
        if failed:
            problem = problem or self._first_bad_gradient(batch)
            self._restore(before)
        elif samples:
            if self.clip:
                torch.nn.utils.clip_grads_with_norm_(self._parameters, self.clip, torch.tensor(norm))
            for group in self.optimizer.param_groups:
                group["lr"] = lr * group.get("scale", 1.0)
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update(self.net)
        mean = [value / max(samples, 1) for value in sums[6:]]
        return StepResult(
            loss=sum(mean[1:]),
            terms=dict(zip(names, mean[1:], strict=False)),
            error=mean[0],
            grad_norm=norm,
            samples=samples,
            bad=int(sums[2]),
            stop=int(sums[3]),
            save=sums[4] > 0,
            core_seconds=sums[5],
            problem=problem if failed else "",
        )

    def _backward(self, batch: TrainBatch) -> tuple[StageOutput | None, str]:
        """Loss and gradients of this rank's samples; the loss is divided by the nominal number of them."""
        if not batch.names:
            return None, ""
        output = self.stage(self.net, batch)
        per_sample = torch.stack(list(output.terms.values())).sum(0)
        loss = per_sample.sum() / batch.nominal
        if not math.isfinite(loss.item()):
            return output, _describe_loss(output, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return output, ""

    def _numbers(
        self, batch: TrainBatch, output: StageOutput | None, names: list[str], problem: str, told: list[float]
    ) -> list[float]:
        """samples, failures, bad samples; stop, save, core seconds; then the sums of the error and of every term."""
        head = [float(len(batch.names)), float(bool(problem)), float(len(batch.bad)), *told]
        sums = [0.0] * (1 + MAX_TERMS)  # of one length on all ranks, also on one whose samples are all bad
        if output is not None:
            found = torch.stack([output.error_B.sum(), *(output.terms[name].detach().sum() for name in names)])
            sums[: len(found)] = found.tolist()
        return head + sums

    def _first_bad_gradient(self, batch: TrainBatch) -> str:
        for name, parameter in zip(self._names, self._parameters, strict=True):
            if parameter.grad is not None and not math.isfinite(float(parameter.grad.norm())):
                return f"gradient of {name} is not finite; {_describe_samples(batch)}"
        return f"the loss of another rank is not finite; {_describe_samples(batch)} were this one's"

    @torch.no_grad()
    def _restore(self, before: list[Tensor]) -> None:
        """Take back what the forward pass did to BatchNorm's statistics."""
        for buffer, value in zip(self.net.buffers(), before, strict=True):
            buffer.copy_(value)


def _describe_loss(output: StageOutput, batch: TrainBatch) -> str:
    for name, values in output.terms.items():
        wrong = [i for i, ok in enumerate(torch.isfinite(values).tolist()) if not ok]
        if wrong:
            return f"loss term {name!r} is not finite; {_describe_samples(batch, wrong)}"
    return f"the loss is not finite; {_describe_samples(batch)}"


def _describe_samples(batch: TrainBatch, which: list[int] | None = None) -> str:
    chosen = range(len(batch.names)) if which is None else which
    return "samples " + ", ".join(f"{batch.names[i]} (position {batch.positions[i]})" for i in chosen)


def freeze_batch_norm(net: nn.Module) -> None:
    """Use the running statistics of BatchNorm and leave them alone; call after ``net.train()``."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def refuse(problem: str) -> NonFiniteError:
    """The error a run stops with."""
    return NonFiniteError(
        f"training stopped before the update: {problem}",
        hint="Look at the sample; a lower schedule.lr or on_non_finite = 'skip' lets the run go on",
    )
