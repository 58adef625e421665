"""Jobs and their results: unguessable ids, files that only a job's own list names, expiry."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import Problem, Refusal
from .settings import ServeConfig

Kind = Literal["stereo", "mono", "refine"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
_OUT = "out"
_GRACE = 1.0  # s in which a download that has been granted opens its file


@dataclass(eq=False)
class Job:
    """One piece of work; changed by the event loop alone.

    Attributes:
        id: 192 random bits, which are all that is needed to see it.
        task: what the worker is told.
        folder: inputs under their field's name, and ``out/`` with the results.
        seconds: it may run.
        changed: set by the next change, and then another one.
        files: name → bytes, of what may be fetched.
    """

    kind: Kind
    task: dict[str, Any]
    folder: Path
    id: str
    seconds: float
    state: State = "queued"
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: Problem | None = None
    files: dict[str, int] = field(default_factory=dict)
    began: float = 0.0  # monotonic, as ended
    ended: float = 0.0
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def out(self) -> Path:
        """Where results lie."""
        return self.folder / _OUT

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    def run(self) -> None:
        """A worker takes it up."""
        self.state, self.began = "running", time.monotonic()
        self._tell()

    def step(self, progress: dict[str, Any]) -> None:
        """How far it is; ``picture`` names the one file that can be fetched before the end."""
        self.progress = progress
        if "picture" in progress:
            with contextlib.suppress(OSError):
                name = str(progress["picture"])
                self.files = {name: (self.out / name).stat().st_size}
        self._tell()

    def done(self, result: dict[str, Any], files: dict[str, int]) -> None:
        """It has a result."""
        self.result, self.files = result, files
        self._end("done")

    def fail(self, problem: Problem) -> None:
        """It has none, and this is why."""
        self.error = problem
        self._end("failed")

    def cancel(self) -> None:
        """Nobody wants it any more; a worker that has it is ended (:mod:`.pool`)."""
        self.unwanted.set()
        if self.state == "queued":
            self.cancelled()

    def cancelled(self) -> None:
        """It has stopped."""
        self._end("cancelled")

    def drop_inputs(self) -> None:
        """Remove what the client sent; blocks."""
        for path in self.folder.glob("*"):
            if path.is_file():
                path.unlink(missing_ok=True)

    def _end(self, state: State) -> None:
        self.state, self.ended = state, time.monotonic()
        self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def wait(self) -> None:
        """Until it has ended."""
        while not self.has_ended:
            await self.changed.wait()


class Store:
    """All jobs, and the folder with their files, which nobody else can read and which goes with the server."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.jobs: dict[str, Job] = {}
        self._root = Path(tempfile.mkdtemp(prefix="depthlight-serve-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)

    def new(self, kind: Kind, task: dict[str, Any]) -> Job:
        """A job with an empty folder."""
        name = secrets.token_urlsafe(24)
        folder = self._root / name
        (folder / _OUT).mkdir(parents=True)
        seconds = self.config.refine_seconds if kind == "refine" else self.config.work_seconds
        self.jobs[name] = Job(kind, task, folder, name, seconds)
        return self.jobs[name]

    def get(self, name: str) -> Job:
        """The job of this id.

        Raises:
            Refusal: there is none, or no more.
        """
        job = self.jobs.get(name)
        if job is None or self._expired(job):
            raise Refusal("not_found", "there is no such job", hint="Results expire; send the request again")
        return job

    def _expired(self, job: Job) -> bool:
        return job.has_ended and self.left(job) < 0

    def left(self, job: Job) -> float:
        """Seconds that an ended job stays."""
        return self.config.keep_seconds - (time.monotonic() - job.ended)

    async def forget(self, job: Job) -> None:
        """Cancel it, if it runs, and remove it with its files."""
        self.jobs.pop(job.id, None)
        job.cancel()
        await job.wait()
        await asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True)

    async def sweep(self) -> None:
        """Remove what has expired, and the oldest of what is too much."""
        ended = sorted((job for job in self.jobs.values() if job.has_ended), key=lambda job: job.ended)
        held = sum(sum(job.files.values()) for job in ended)
        excess = len(ended) - self.config.keep_jobs
        gone = []
        for index, job in enumerate(ended):
            if not (self._expired(job) or index < excess or held > self.config.keep_bytes):
                break
            held -= sum(job.files.values())
            gone.append(self.jobs.pop(job.id))
        if gone:
            await asyncio.sleep(_GRACE)
        for job in gone:
            await self.forget(job)

    async def sweep_forever(self, every: float = 1.0) -> None:
        """:meth:`sweep`, again and again."""
        while True:
            await asyncio.sleep(every)
            await self.sweep()

    def close(self) -> None:
        """Remove everything."""
        with contextlib.suppress(OSError):
            self._remove()
