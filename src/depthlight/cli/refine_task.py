"""How ``depthlight refine`` goes through its jobs, be they photos or pairs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic

from ..core.errors import NonFiniteError
from ..core.signals import StopFlag
from ..infer.folder import is_complete
from ..infer.owned import RESULT
from .common import emit_json, progress, say
from .work import AnyJob, run_folder

OnStep = Callable[[dict[str, float]], None] | None


class StoppedEarlyError(NonFiniteError):
    """A refinement ended before its time and its last good result was written."""

    code = "stopped_early"
    exit_status = 1


class RefineTask(ABC, Generic[AnyJob]):
    """What the user asked for, the same for every job. Subclasses say what one job is."""

    noun: ClassVar[str]
    steps: int  # of one job
    resume: bool
    overwrite: bool

    @abstractmethod
    def facts(self, job: AnyJob) -> dict[str, Any]:
        """Everything the result depends on."""

    @abstractmethod
    def do(self, job: AnyJob, stop: StopFlag, on_step: OnStep) -> dict[str, Any]:
        """Refine one and write its folder; returns what ``result.json`` holds.

        Raises:
            StoppedEarlyError: the run ended early; what was good until then is written.
        """

    @abstractmethod
    def done(self, row: dict[str, float]) -> int:
        """How many steps a job has behind it, those of an interrupted run too."""

    @abstractmethod
    def note(self, row: dict[str, float]) -> str:
        """What stands beside the progress bar at a step."""

    @abstractmethod
    def sentence(self, facts: dict[str, Any]) -> str:
        """What was done, for people."""

    def request(self, job: AnyJob) -> dict[str, Any]:
        """The facts as they will be read back: a result of another request is done again."""
        return dict(json.loads(json.dumps(self.facts(job))))

    def is_done(self, job: AnyJob) -> bool:
        """Whether the job's folder holds its whole result."""
        return is_complete(job.folder, self.request(job))

    def run_one(self, job: AnyJob, stop: StopFlag, *, as_json: bool, quiet: bool) -> None:
        """One photo or pair; what is done already is only told when a run is to be resumed."""
        if self.resume and not self.overwrite and self.is_done(job):
            facts = json.loads((job.folder / RESULT).read_text(encoding="utf-8"))
        else:
            with progress("refine", self.steps, quiet=quiet) as bar:
                facts = self.do(job, stop, lambda row: bar.at(self.done(row), self.note(row)))
        if as_json:
            emit_json(facts)
        say(f"{job.folder}: {self.sentence(facts)}", quiet=quiet, as_json=as_json)

    def run_folder(self, jobs: Sequence[AnyJob], stop: StopFlag, *, as_json: bool, quiet: bool) -> None:
        """Every job that is not done yet."""
        outcome = run_folder(
            "refine",
            jobs,
            lambda job: self.do(job, stop, None),
            lambda job: not self.overwrite and self.is_done(job),
            quiet=quiet,
            stop=stop,
        )
        outcome.tell(as_json=as_json, quiet=quiet)
        outcome.raise_failures(self.noun)
