"""Queues and the processes behind them: bounded waiting, one job a process, and an end to any job at any moment.

A process is ended (and another one started) where its job is cancelled, has lost its client, or has run out of time: so
a slot is free when it says so. Parent and worker speak JSON lines over pipes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DepthlightError
from .errors import Problem, Refusal, again, internal, problem_of
from .jobs import Job

logger = logging.getLogger("depthlight.app")

_LINE = 2**20  # bytes of a worker's longest message
_LONGEST_RETRY = 120  # s
_LONGEST_PAUSE = 30.0  # s between attempts to start a worker
_COMMAND = (sys.executable, "-P", "-m", "depthlight.app.worker")  # -P: the current folder holds no modules of ours


class Worker:
    """A process that computes one job after the other. ``setup`` is the first line it reads (:mod:`.worker`)."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.setup = setup
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process, unless it runs; returns when it has loaded its models.

        Raises:
            DepthlightError: it could not, and why.
        """
        if self.process is not None and self.process.returncode is None:
            return
        pipe = asyncio.subprocess.PIPE
        threads = self.setup["models"]["threads"]
        told = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        self.process = await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=pipe, stdout=pipe, limit=_LINE, env={**os.environ, **told}
        )
        try:
            await self._say(self.setup)
            answer = await self._hear()
        except BaseException:
            await self.kill()
            raise
        if answer["event"] == "failed":
            await self.kill()
            raise again(answer["problem"])

    async def kill(self) -> None:
        """End the process at once."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def compute(self, job: Job) -> dict[str, Any]:
        """The worker's answer to a job.

        Raises:
            DepthlightError: the job failed, or its process died.
        """
        await self.start()
        await self._say({"folder": str(job.folder), "kind": job.kind, **job.task})
        while True:
            message = await self._hear()
            if message["event"] == "progress":
                job.step(message["progress"])
            elif message["event"] == "failed":
                raise again(message["problem"])
            else:
                return dict(message["result"])

    async def _say(self, message: Mapping[str, Any]) -> None:
        assert self.process is not None and self.process.stdin is not None  # both made in start
        with contextlib.suppress(ConnectionError):  # what is wrong is found out by listening
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            await self.process.stdin.drain()

    async def _hear(self) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            await self.kill()
            raise Refusal("worker_died", "the process that computed this has died", hint="Try a smaller image")
        return dict(json.loads(line))


class Pool:
    """A bounded queue and its workers.

    Args:
        setup: what workers are told first; ``count``: how many there are; ``waiting``: how many jobs may wait.
        eager: start the processes before there is a job.
        ended: told of every job that has ended.
    """

    def __init__(
        self, setup: Mapping[str, Any], *, count: int, waiting: int, eager: bool, ended: Callable[[Job], None]
    ) -> None:
        self.workers = [Worker(setup) for _ in range(count)]
        self._queue: OrderedDict[str, Job] = OrderedDict()
        self.running: set[Job] = set()
        self.broken: Problem | None = None  # why the last attempt to start a worker failed
        self.restarts = 0
        self.closing = False
        self._most, self._eager, self._ended = waiting, eager, ended
        self._bell = asyncio.Event()
        self._usual = 1.0  # s a job takes, a running mean
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start.

        Raises:
            DepthlightError: an eager worker could not load its models.
        """
        if self._tasks:
            return
        if self._eager:
            await asyncio.gather(*(worker.start() for worker in self.workers))
        self._tasks = [asyncio.create_task(self._serve(worker)) for worker in self.workers]

    async def close(self) -> None:
        """End all work and all processes."""
        self.closing = True
        for job in (*self.waiting.values(), *self.running):
            job.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self.workers))
        self._queue.clear()
        for job in tuple(self.running):
            job.cancelled()
        self.running.clear()

    @property
    def waiting(self) -> OrderedDict[str, Job]:
        """Jobs that wait, by id, without those that nobody wants any more."""
        for name in [name for name, job in self._queue.items() if job.has_ended]:
            del self._queue[name]
        return self._queue

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self.waiting and not self.running

    def need_room(self) -> None:
        """Refuse now, rather than after a body has been read.

        Raises:
            Refusal: the queue is full.
        """
        if len(self.waiting) >= self._most:
            seconds = math.ceil(self._usual * (1 + len(self.waiting) / len(self.workers)))
            raise Refusal("busy", f"{len(self.waiting)} jobs are waiting already", seconds=min(seconds, _LONGEST_RETRY))

    def put(self, job: Job) -> None:
        """Queue a job.

        Raises:
            Refusal: the queue is full.
        """
        self.need_room()
        self.waiting[job.id] = job
        self._bell.set()

    def position(self, job: Job) -> int | None:
        """How many jobs are before a waiting one."""
        waiting = list(self.waiting)
        return waiting.index(job.id) if job.id in waiting else None

    async def _next(self) -> Job:
        while True:
            if self.waiting:
                return self.waiting.popitem(last=False)[1]
            self._bell.clear()
            await self._bell.wait()

    async def _serve(self, worker: Worker) -> None:
        pause = 0.5
        while True:
            if self._eager:
                try:
                    await worker.start()
                    self.broken, pause = None, 0.5
                except Exception as error:
                    self.broken = problem_of(error if isinstance(error, DepthlightError) else internal())
                    logger.error("a worker does not start: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
            job = await self._next()
            self.running.add(job)
            await self._do(worker, job)
            self.running.discard(job)
            self._ended(job)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(job.drop_inputs)

    async def _do(self, worker: Worker, job: Job) -> None:
        """Run a job to whichever end it comes to."""
        job.run()
        work = asyncio.create_task(worker.compute(job))
        unwanted = asyncio.create_task(job.unwanted.wait())
        try:
            await asyncio.wait({work, unwanted}, timeout=job.seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await self._settle(job, work, worker)
                return
        finally:
            unwanted.cancel()
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                await worker.kill()
                self.restarts += 1
        if job.unwanted.is_set():
            job.cancelled()
        else:
            error = Refusal("time_limit", f"the work took more than {job.seconds:g} s", hint="Try a smaller image")
            job.fail(problem_of(error))

    async def _settle(self, job: Job, work: asyncio.Task[dict[str, Any]], worker: Worker) -> None:
        try:
            result = work.result()
            files = await asyncio.to_thread(_listing, job.out)
        except DepthlightError as error:
            job.fail(problem_of(error))
            return
        except Exception:  # it said what it should not: it is not to be trusted with the next job
            logger.exception("a job failed")
            await worker.kill()
            job.fail(problem_of(internal()))
            return
        self._usual += 0.1 * (time.monotonic() - job.began - self._usual)
        job.done(result, files)


def _listing(folder: Path) -> dict[str, int]:
    """The regular files of a folder and their sizes; links are none."""
    found = (entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in sorted(found, key=lambda e: e.name)}
