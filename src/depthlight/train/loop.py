"""A training run: what it holds, how it starts or resumes, and the loop over steps.

Everything random follows from (seed, position), so a resumed run needs the network, the optimizer, the average, the
position and nothing that lives in a worker. What depends on the clock (checkpoints, evaluation) never changes the
weights: a run that was killed and resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.config import from_dict, to_dict
from ..core.errors import CheckpointError, ConfigError, DepthlightError, InputError
from ..core.memory import keep_freed_memory
from ..core.signals import StopFlag, StopRequestedError
from ..io import checkpoint
from ..io.atomic import atomic_write_bytes
from . import evaluation, machine, pictures, release
from .config import MODEL_SUFFIXES, TrainConfig
from .distributed import RankLostError, Ranks
from .ema import Ema
from .lineage import Lineage, Stretch
from .log import BAD, BadLog, RunLog, read_rows
from .schedule import ScheduleConfig, learning_rate, settle
from .start import bundled_card, start_file
from .step import Stepper, StepResult, freeze_batch_norm, refuse
from .task import Measure, TrainBatch, make_task

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"
BARREN = 100  # draws in a row of which none could be read: there is nothing to learn from


@dataclass
class Progress:
    """How far a run is; part of every checkpoint."""

    step: int = 0
    samples: int = 0  # positions used up, bad samples included
    core_seconds: float = 0.0  # of all ranks and their workers
    skipped: int = 0
    bad: int = 0  # draws, of which several may be of one sample
    bad_names: tuple[str, ...] = ()  # sorted, each once


class Run:
    """One run in one folder. ``run()`` trains until the schedule, a budget or a signal ends it."""

    def __init__(
        self, config: TrainConfig, folder: Path, *, ranks: Ranks | None = None, recipe: str = "", quiet: bool = False
    ) -> None:
        self.ranks = ranks or Ranks()
        if config.batch % self.ranks.world:
            raise ConfigError(f"batch {config.batch} over {self.ranks.world} ranks", expected="a multiple")
        keep_freed_memory()
        machine.set_threads(config.threads)
        self.device = machine.pick_device(config.device, self.ranks.local_rank)
        self.folder, named = folder, config.start
        self.config = config = replace(config, amp=self._precision(config), start=self._kept_start(config))
        self.progress, self.schedule = Progress(), config.schedule
        self.task = make_task(config, folder, self.ranks)
        self.start = self.task.start()
        self.net = self.start.net.to(self.device)
        machine.convolution_layout(self.net)
        self.optimizer = torch.optim.AdamW(
            self.task.parameters(self.net), config.schedule.lr, weight_decay=config.weight_decay
        )
        self.ema = Ema(self.net, config.ema) if config.ema else None
        self.stage = self.task.stage(self.net, self.autocast)
        self.log = RunLog(folder if self.ranks.is_first else None, total=self.schedule.samples, quiet=quiet)
        self.bad_log = BadLog(folder, self.ranks.rank)
        card = bundled_card(named)  # which tells more of its past than its file
        self.lineage = Lineage(
            card.lineage if card else self.start.lineage, Stretch.of(config, recipe, self.start.sha256)
        )
        self._barren = 0  # bad samples since the last good one
        self._resume()

    # -------------------------------------------------------------------------------------------- making it up

    def _precision(self, config: TrainConfig) -> machine.Precision:
        """What the first rank finds: ranks that each timed it for themselves could train in two precisions."""
        found = machine.resolve_precision(config.amp, config.device) if self.ranks.is_first else config.amp
        return "bf16" if self.ranks.decide(found == "bf16", self.device) else "fp32"

    def _kept_start(self, config: TrainConfig) -> str:
        """The run's own copy of the weights it starts from: the file they were read from may change meanwhile."""
        begun = any((self.folder / CHECKPOINTS).glob("step-*.json"))
        kept = next((path for suffix in MODEL_SUFFIXES if (path := self.folder / f"start{suffix}").is_file()), None)
        source = kept if begun and kept else start_file(config.start)
        if source is None or not config.start:
            return config.start
        kept = self.folder / f"start{source.suffix}"
        if self.ranks.is_first and source != kept:
            atomic_write_bytes(kept, source.read_bytes())
        self.ranks.barrier()
        return str(kept)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of forward passes."""
        return machine.autocast(self.device, self.config.amp)

    # -------------------------------------------------------------------------------------------- state

    def _resume(self) -> None:
        """Take up the newest whole checkpoint of the folder, if there is one."""
        folder = self.folder / CHECKPOINTS
        if self.ranks.is_first:
            checkpoint.clean(folder)
        self.ranks.barrier()
        state = checkpoint.load_latest(folder)
        if state is None:
            self.log.resume(0)
            self.bad_log.resume(0)
            return
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None and state["ema"]:
            self.ema.load(state["ema"])
        torch.set_rng_state(state["rng"])
        self.progress = from_dict(Progress, state["progress"])
        if "lineage" in state:  # those of earlier versions have none
            self._need_same_start(state["start_sha256"])
            hours = self.progress.core_seconds / 3600
            self.lineage.resume(state["lineage"], state["sha256"], self.progress.samples, hours)
        self.schedule = self._settled(state["schedule"])
        self.log.resume(self.progress.step)
        self.bad_log.resume(self.progress.samples)
        self.log.total = self.schedule.samples
        self.log.say(f"resumed at step {self.progress.step:,d}, {self.progress.samples:,d} samples")

    def _need_same_start(self, sha256: str) -> None:
        if sha256 != self.start.sha256:
            raise CheckpointError(
                f"{self.folder} was started from other weights ({sha256[:12] or 'random ones'})",
                expected=f"its own copy of them, not {self.start.sha256[:12] or 'random ones'}",
                hint="Start again in another folder",
            )

    def _settled(self, saved: dict[str, Any]) -> ScheduleConfig:
        """The configured schedule, with the end a spent budget has already fixed (unless the budget was changed)."""
        before = from_dict(ScheduleConfig, saved)
        if self.config.schedule.core_hours and self.config.schedule.core_hours == before.core_hours:
            return replace(self.config.schedule, samples=before.samples, decay_at=before.decay_at)
        return self.config.schedule

    def save(self) -> None:
        """Write a checkpoint and the model file (first rank only)."""
        if not self.ranks.is_first:
            return
        self.log.flush()
        state = {
            "format": checkpoint.FORMAT,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state() if self.ema is not None else {},
            "rng": torch.get_rng_state(),
            "progress": asdict(self.progress),
            "schedule": to_dict(self.schedule),
            "start_sha256": self.start.sha256,
            "lineage": self.lineage.state(),
        }
        checkpoint.save(self.folder / CHECKPOINTS, state, step=self.progress.step, keep=self.config.keep)
        self.write_model()

    def averaged(self) -> dict[str, Tensor]:
        """The weights to use: the average, or the network's own without one."""
        return {k: v.detach() for k, v in (self.ema.values if self.ema is not None else self.net.state_dict()).items()}

    def write_model(self) -> Path:
        """Write ``model.safetensors``, which ``--model`` loads."""
        path = self.folder / release.MODEL_FILE
        release.write_model(
            path,
            self.averaged(),
            family=self.start.family,
            network=self.start.network,
            facts=self.task.facts(self.net),
            name=f"{self.start.family}.{self.folder.resolve().name}",
            lineage=self.lineage.entries(self.progress.samples, self.progress.core_seconds / 3600),
        )
        return path

    # -------------------------------------------------------------------------------------------- the loop

    def run(self) -> int:
        """Train. Returns 0 at the end of the schedule, 128 + signal if stopped by one.

        Raises:
            NonFiniteError: a loss or gradient was not finite; nothing was updated.
            DepthlightError: too many bad samples, or the disk refused a checkpoint.
        """
        with StopFlag() as stop:
            try:
                return self._loop(stop)
            except StopRequestedError:
                self.save()
                self.log.say(f"stopped; go on with: depthlight train --resume -o {self.folder}")
                return 128 + stop.requested
            except RankLostError:
                if not stop.requested:
                    raise
                return 128 + stop.requested  # the first rank had the same signal, saved and left
            finally:
                self.log.close()
                if self.ranks.is_first:
                    self._draw_curves()

    def _loop(self, stop: StopFlag) -> int:
        stepper = Stepper(self.net, self.optimizer, self.ema, self.stage, self.ranks, self.config.clip)
        measure = self.task.evaluation() if self.ranks.is_first else None
        source = self.task.batches(self.progress.samples, self.log.say, stop.check)
        self._train_mode()
        means = _Means()
        saved = time.monotonic()
        evaluated = saved - self._since_evaluation()
        spent = 0.0  # CPU seconds of this rank that the others have not been told of
        self.log.begin(self.progress.samples)
        while not self._finished():
            started = time.process_time()
            save = self.ranks.is_first and time.monotonic() - saved >= 60 * self.config.checkpoint_minutes
            batch = next(source)
            self._report_bad(batch)
            lr = learning_rate(self.schedule, self.progress.samples)
            wish = self.ranks.wish_of(stop.requested)
            result = stepper.run(batch.to(self.device), lr, stop=wish, save=save, core_seconds=spent)
            spent = time.process_time() - started + batch.cpu_seconds
            self._advance(result, batch)
            self._log_step(result, lr, means)
            if result.save:
                self.save()
                saved = time.monotonic()
            if result.stop:
                stop.requested = self.ranks.signal_of(result.stop)  # of any rank: all leave with the same status
                raise StopRequestedError
            if measure is not None and time.monotonic() - evaluated >= 60 * self.config.evaluate.minutes:
                # A stop that comes meanwhile is taken at the next step, where all ranks hear of it.
                with contextlib.suppress(StopRequestedError):
                    self._evaluate(measure, stop)
                evaluated = time.monotonic()
        self.save()
        if measure is not None:
            self._evaluate(measure, stop)
        self.log.say(f"done: {self.progress.samples:,d} samples, {self.progress.core_seconds / 3600:.2f} core-hours")
        return 0

    def _since_evaluation(self) -> float:
        """Seconds of training since the last evaluation: a run that is often stopped is measured all the same."""
        table = self.folder / evaluation.TABLE
        rows = read_rows(table) if table.is_file() else []
        last = max((float(row["core_hours"]) for row in rows), default=0.0)
        return max(self.progress.core_seconds - 3600 * last, 0.0) / self.ranks.world

    def _train_mode(self) -> None:
        self.net.train()
        if self.config.freeze_bn:
            freeze_batch_norm(self.net)

    def _finished(self) -> bool:
        return bool(self.schedule.samples) and self.progress.samples >= self.schedule.samples

    def _advance(self, result: StepResult, batch: TrainBatch) -> None:
        """Count the step; stop where the policy says so."""
        progress = self.progress
        if result.problem:
            progress.skipped += 1
            if self.config.on_non_finite == "stop" or progress.skipped > self.config.max_skips:
                raise refuse(result.problem)
            self.log.say(f"skipped step {progress.step + 1}: {result.problem}")
        if result.bad:
            self._count_bad(result, batch)
        self._barren = 0 if result.samples else self._barren
        progress.step += 1
        progress.samples += self.config.batch
        progress.core_seconds += result.core_seconds
        self.schedule = settle(self.schedule, progress.samples, progress.core_seconds / 3600)
        self.log.total = self.schedule.samples

    def _count_bad(self, result: StepResult, batch: TrainBatch) -> None:
        """Different samples count, however often each is drawn; and draws, where nothing else has come for long."""
        progress, limit = self.progress, self.config.max_bad_samples
        progress.bad += result.bad
        self._barren += result.bad
        progress.bad_names = tuple(sorted({*progress.bad_names, *self.ranks.gather([b.name for b in batch.bad])}))
        if len(progress.bad_names) > limit:
            raise DepthlightError(
                f"{len(progress.bad_names)} samples could not be read",
                expected=f"at most max_bad_samples = {limit}",
                hint=f"{BAD} names them; --set max_bad_samples=N lets a run go on with more",
            )
        if not result.samples and self._barren >= BARREN:
            raise DepthlightError(f"none of the last {self._barren} samples could be read", hint=f"{BAD} says why")

    def _report_bad(self, batch: TrainBatch) -> None:
        self.bad_log.add([{"position": bad.position, "sample": bad.name, "error": bad.error} for bad in batch.bad])
        for bad in batch.bad:
            if self.config.bad_samples == "stop":
                raise InputError(
                    f"bad sample {bad.name}: {bad.error}", hint="bad_samples = 'skip' leaves such samples out"
                )
            self.log.say(f"bad sample {bad.name}, left out: {bad.error}")

    def _log_step(self, result: StepResult, lr: float, means: _Means) -> None:
        row = {
            "step": self.progress.step,
            "samples": self.progress.samples,
            "loss": result.loss,
            **result.terms,
            self.task.error: result.error,
            "lr": lr,
            "grad_norm": result.grad_norm,
        }
        self.log.row(row)
        means.add({"loss": result.loss, self.task.error: result.error, "grad_norm": result.grad_norm})
        if self.progress.step % self.config.log_every == 0:
            self.log.progress({**means.take(), "lr": lr}, self.progress.samples)
            self.log.flush()

    def _evaluate(self, measure: Measure, stop: StopFlag) -> None:
        row = measure(evaluation.with_weights(self.net, self.averaged()), self.device, stop.check)
        facts = {
            "samples": self.progress.samples,
            "core_hours": f"{self.progress.core_seconds / 3600:.3f}",
            "lr": f"{learning_rate(self.schedule, self.progress.samples):.3g}",
        }
        evaluation.record(self.folder, facts, row, self.task.figures)
        self.log.scalars("eval", row, self.progress.samples)
        self.log.flush()
        self._draw_curves()
        self.log.say("evaluation: " + "  ".join(f"{name} {row[name]:.3f}" for name in self.task.figures))

    def _draw_curves(self) -> None:
        pictures.draw_curves(self.folder, self.task.error, self.task.curves, self.task.unit)


class _Means:
    """Running means since the last progress line."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        means = {name: value / max(self.count, 1) for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


def write_config(config: TrainConfig, folder: Path, recipe: str) -> None:
    """The resolved configuration, from which the run is resumed."""
    text = json.dumps({"recipe": recipe, "config": to_dict(config)}, indent=1)
    atomic_write_bytes(folder / CONFIG_FILE, text.encode())


def read_config(folder: Path) -> tuple[dict[str, Any], str]:
    """Plain configuration and recipe name of a run folder.

    Raises:
        InputError: the folder holds no run.
    """
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        config, recipe = dict(content["config"]), str(content["recipe"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} holds no run that could be resumed ({error})", expected=f"a {CONFIG_FILE}"
        ) from None
    for source in config.get("data", ()):
        source.pop("limit", None)  # a setting that runs begun before 0.1 still carry; it was never other than 0
    return config, recipe
