"""What is trained. A :class:`Task` knows its network, batches, loss and self-evaluation; the run knows everything else.

To add one: a module with a subclass, a line in :data:`_TASKS`, its network families in ``core/registry.py``, and, if it
has settings of its own, a frozen configuration as one field of ``TrainConfig`` that bears the task's name.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..data.loader import BadSample
from .distributed import Ranks

if TYPE_CHECKING:
    from .config import TrainConfig

# task: module and class
_TASKS: Mapping[str, tuple[str, str]] = {
    "stereo": ("stereo", "StereoTask"),
    "mono": ("mono", "MonoTask"),
    "prior": ("prior", "PriorTask"),
}


class TrainBatch(Protocol):
    """What the loop asks of a batch; :func:`depthlight.data.loader.stream` makes such."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def positions(self) -> tuple[int, ...]: ...
    @property
    def nominal(self) -> int:
        """The samples asked for: losses are divided by it."""
        ...

    @property
    def bad(self) -> tuple[BadSample, ...]: ...
    @property
    def cpu_seconds(self) -> float: ...
    def to(self, device: torch.device) -> TrainBatch: ...


@dataclass(frozen=True)
class StageOutput:
    """``terms`` are weighted losses, each (B,); ``error_B`` is the error that is shown (:attr:`Task.error`)."""

    terms: dict[str, Tensor]
    error_B: Tensor


# A stage is a function of network and batch (the task's own kinds) that gives the loss terms per sample.
Stage = Callable[[Any, Any], StageOutput]
Autocast = Callable[[], AbstractContextManager[object]]
Measure = Callable[[nn.Module, torch.device, Callable[[], None]], dict[str, float]]


@dataclass(frozen=True)
class Start:
    """A network and where its weights come from (``sha256`` empty for random ones)."""

    net: Any
    family: str
    network: dict[str, Any]
    sha256: str = ""
    lineage: tuple[dict[str, Any], ...] = field(default=())


class Task(ABC):
    """One kind of network and how it learns. Made anew for every run, of its configuration, folder and ranks."""

    error: ClassVar[str]  # name of StageOutput.error_B in metrics.csv, on the terminal and in loss.png
    figures: ClassVar[tuple[str, ...]]  # what an evaluation always has: columns of evaluation.md
    curves: ClassVar[tuple[str, ...]]  # of these, what evaluation.png draws
    unit: ClassVar[str] = ""  # label of the curves' axis

    def __init__(self, config: TrainConfig, folder: Path, ranks: Ranks) -> None:
        self.config, self.folder, self.ranks = config, folder, ranks

    @abstractmethod
    def start(self) -> Start:
        """The network with the weights to start from; seeds torch with ``config.seed`` before it draws any."""

    def parameters(self, net: Any) -> list[dict[str, Any]]:
        """Groups for the optimizer. A ``scale`` in a group multiplies the learning rate there."""
        return [{"params": [p for p in net.parameters() if p.requires_grad]}]

    @abstractmethod
    def stage(self, net: Any, autocast: Autocast) -> Stage:
        """The loss. Forward passes go inside ``with autocast():``; randomness follows from the batch's positions."""

    @abstractmethod
    def batches(self, position: int, say: Callable[[str], None], check: Callable[[], None]) -> Iterator[TrainBatch]:
        """Endless batches of this rank from the global ``position`` on: a function of seed and position alone.

        Args:
            say: takes a line for people.
            check: to be called now and then during long preparations; may raise to stop.
        """

    def facts(self, net: Any) -> dict[str, str]:
        """Metadata of the model file besides name, family, network and lineage."""
        return {}

    @abstractmethod
    def evaluation(self) -> Measure | None:
        """Opens what the run measures itself on (errors are told before training begins), or None.

        The function it gives takes the network with the averaged weights in inference mode, a device, and a check to be
        called between images (it may raise to stop). It writes sample pictures into the run's folder and returns at
        least :attr:`figures`, as columns of ``evaluation.csv``.
        """


def make_task(config: TrainConfig, folder: Path, ranks: Ranks) -> Task:
    """The task a configuration names."""
    module, name = _TASKS[config.task]
    task: Task = getattr(importlib.import_module(f".{module}", __package__), name)(config, folder, ranks)
    return task
