"""What both refinement loops need to survive: a state on disk to go on from, and the check that all is finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CheckpointError
from ..io import checkpoint

Row = dict[str, float]  # restart, step and the terms of the loss


class NotFiniteTermError(Exception):
    """Inside a loop: ``term`` is not finite; the run ends with its last good answer."""

    def __init__(self, term: str) -> None:
        super().__init__(term)
        self.term = term


def need_finite(values: Tensor, name: str) -> Tensor:
    """``values``, detached.

    Raises:
        NotFiniteTermError: one is not finite.
    """
    values = values.detach()
    if not is_finite(values):
        raise NotFiniteTermError(name)
    return values


def is_finite(values: Tensor) -> bool:
    """Whether every value is."""
    return bool(torch.isfinite(values).all())


def total(terms: Mapping[str, Tensor], row: Row) -> Tensor:
    """The sum of the loss's terms, each written into ``row``.

    Raises:
        NotFiniteTermError: one is not finite.
    """
    for name, term in terms.items():
        row[name] = float(term.detach())
        if not math.isfinite(row[name]):
            raise NotFiniteTermError(f"the loss term {name!r}")
    loss = torch.stack(list(terms.values())).sum()
    row["loss"] = float(loss.detach())
    return loss


@dataclass(frozen=True)
class Keeping:
    """Where and how often a run keeps its state; ``request`` is what a state must match to be taken up again."""

    folder: Path
    request: dict[str, Any]
    seconds: float = 30.0  # between two checkpoints; 0 = after every step
    resume: bool = False
    overwrite: bool = False  # an unfinished run of the same request may be forgotten

    def save(self, step: int, **parts: Any) -> None:
        """Keep a state; the one before it stays too.

        Raises:
            OutputError: it cannot be written; the one before it is intact.
        """
        state = {"format": checkpoint.FORMAT, "request": self.request, **parts}
        checkpoint.save(self.folder, state, step=step, keep=2)

    def load(self) -> checkpoint.State | None:
        """The state to go on from; None begins anew, and forgets whatever was kept.

        Raises:
            CheckpointError: the state to go on from belongs to another request, or every one is damaged; or the state
                to be forgotten belongs to this one.
        """
        checkpoint.clean(self.folder)
        if not self.resume:
            if not self.overwrite:
                self._need_nothing_lost()
            forget(self.folder)
            return None
        state = checkpoint.load_latest(self.folder)
        if state is not None and state["request"] != self.request:
            raise CheckpointError(
                f"the state in {self.folder} belongs to another refinement",
                expected="the same input, model and settings",
                hint="Leave out --resume to begin anew",
            )
        return state

    def _need_nothing_lost(self) -> None:
        try:
            state = checkpoint.load_latest(self.folder)
        except CheckpointError:  # damaged: nobody can go on from it
            return
        if state is not None and state["request"] == self.request:
            raise CheckpointError(
                f"{self.folder} holds the unfinished run of this very refinement",
                hint="--resume goes on with it, --overwrite begins anew",
            )


def forget(folder: Path) -> None:
    """Remove the states kept in ``folder``, and the folder if nothing else is in it."""
    for path in (*folder.glob("step-*.json"), *folder.glob("step-*.pt")):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
