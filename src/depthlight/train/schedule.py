"""Learning rate as a function of the samples seen: warm-up, constant, decay on request; or the papers' one-cycle.

The total is often unknown and runs are cut short, so nothing decays before it is asked to: ``decay_at`` can be set on a
run that has been going for days, and until then the run can be extended without a seam.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ..core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """All lengths in samples. ``samples`` 0 means until stopped."""

    kind: Literal["wsd", "onecycle"] = "wsd"
    lr: float = 8e-4
    warmup: int = 1000
    samples: int = 0
    decay_at: int = 0  # where the decay to ``floor`` at ``samples`` begins; 0 = never
    floor: float = 0.02  # last learning rate as a share of ``lr``
    core_hours: float = 0.0  # a budget instead of a number of samples: decay_at and samples follow from the pace
    decay_share: float = 0.15  # of that budget

    def __post_init__(self) -> None:
        if self.lr <= 0 or min(self.warmup, self.samples, self.decay_at, self.core_hours) < 0:
            raise ConfigError("schedule: lr must be above 0, lengths 0 or more")
        if self.kind == "onecycle" and not self.samples:
            raise ConfigError(
                "a one-cycle schedule needs schedule.samples", hint="Use kind = 'wsd' to run until stopped"
            )
        if self.decay_at and not self.decay_at < self.samples:
            raise ConfigError(
                f"schedule.decay_at is {self.decay_at}",
                expected=f"below schedule.samples ({self.samples}), where it ends",
            )
        if not (0 <= self.floor <= 1 and 0 <= self.decay_share < 1):
            raise ConfigError("schedule.floor and schedule.decay_share", expected="shares from 0 to 1")


def learning_rate(config: ScheduleConfig, samples: int) -> float:
    """The rate for the step that starts after ``samples`` samples."""
    if samples < config.warmup:
        return config.lr * (samples + 1) / (config.warmup + 1)
    if config.kind == "onecycle":
        progress = min((samples - config.warmup) / max(config.samples - config.warmup, 1), 1.0)
        return config.lr * (config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress)))
    if not config.decay_at or samples <= config.decay_at:
        return config.lr
    progress = min((samples - config.decay_at) / (config.samples - config.decay_at), 1.0)
    # 1 - sqrt: the cooldown that reached the lowest loss in arXiv 2405.18392.
    return config.lr * (config.floor + (1 - config.floor) * (1 - math.sqrt(progress)))


def settle(config: ScheduleConfig, samples: int, core_hours: float) -> ScheduleConfig:
    """Turn a budget of core-hours into numbers once its decay is due; unchanged before that and without a budget.

    The result is kept in the checkpoint, so the rest of the run is a function of samples again.
    """
    start = config.core_hours * (1 - config.decay_share)
    if not config.core_hours or config.samples or core_hours < start or not samples:
        return config
    end = max(round(samples * config.core_hours / start), samples + 1)
    return replace(config, decay_at=samples if config.decay_share else 0, samples=end)
