"""What the routes share, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

from pydantic import BaseModel, Field

from .guard import Guard
from .jobs import Job, Kind, Store
from .jobs import State as JobState
from .metrics import Metrics
from .pool import Pool
from .settings import ServeConfig

Samples: TypeAlias = "Mapping[str, Callable[[], Mapping[str, bytes]]]"  # name → what makes its files, by name
_TYPES = {
    "png": "image/png",
    "json": "application/json",
    "npy": "application/x-npy",
    "csv": "text/csv",
    "glb": "model/gltf-binary",
    "txt": "text/plain",
}


class ErrorFields(BaseModel):
    """One line for people in three parts, and a code for programs."""

    code: str = Field(examples=["bad_image"])
    what: str = Field(examples=["left is damaged or truncated"])
    expected: str = ""
    hint: str = Field("", examples=["Export it again as PNG"])


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorFields


class FileFields(BaseModel):
    """One file of a result."""

    name: str = Field(examples=["disparity.png"])
    url: str = Field(examples=["/v1/jobs/ID/files/disparity.png"])
    bytes: int
    type: str = Field(examples=["image/png"])


class JobAnswer(BaseModel):
    """A job, in any state. ``result`` is what ``result.json`` holds (and ``doubt``, ``doctor`` for pairs)."""

    id: str
    kind: Kind
    state: JobState
    before: int | None = Field(None, description="Jobs that wait before this one, while it is queued.")
    progress: dict[str, Any] | None = Field(None, examples=[{"step": 12, "steps": 100, "losses": {"loss": 0.42}}])
    result: dict[str, Any] | None = None
    files: list[FileFields] = []
    error: ErrorFields | None = None
    expires_in: float | None = Field(None, description="Seconds that a finished job stays.")


class State:
    """What the routes share: settings, jobs, pools, samples."""

    def __init__(self, config: ServeConfig, samples: Samples) -> None:
        self.config, self.samples = config, samples
        self.store = Store(config)
        self.metrics = Metrics()
        self.guard: Guard
        setup = _setup(config)
        common: dict[str, Any] = {"ended": self.metrics.job}
        self.quick = Pool(setup, count=config.workers, waiting=config.queue, eager=True, **common)
        self.slow = Pool({**setup, "preload": []}, count=1, waiting=config.refine_queue, eager=False, **common)
        self.metrics.gauges(
            {
                "jobs_waiting": ("Jobs in a queue", lambda: len(self.quick.waiting) + len(self.slow.waiting)),
                "jobs_running": ("Jobs under way", lambda: len(self.quick.running) + len(self.slow.running)),
                "jobs_kept": ("Jobs whose state or result can be fetched", lambda: len(self.store.jobs)),
                "worker_restarts": ("Workers ended to stop a job", lambda: self.quick.restarts + self.slow.restarts),
            }
        )
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no job runs or waits."""
        return self.quick.idle and self.slow.idle

    def pool_of(self, job: Job) -> Pool:
        """Where a job is queued."""
        return self.slow if job.kind == "refine" else self.quick

    async def open(self) -> None:
        """Start the workers; once.

        Raises:
            DepthlightError: a model cannot be loaded.
        """
        await self.quick.open()
        await self.slow.open()
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self.store.sweep_forever())

    async def close(self) -> None:
        """End everything and remove all results."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.stop()
        self.store.close()

    async def stop(self) -> None:
        """End all work."""
        await asyncio.gather(self.quick.close(), self.slow.close())

    def show(self, job: Job) -> JobAnswer:
        """A job as clients see it."""
        where = f"/v1/jobs/{job.id}/files/"
        return JobAnswer(
            id=job.id,
            kind=job.kind,
            state=job.state,
            before=self.pool_of(job).position(job),
            progress=job.progress,
            result=job.result,
            files=[
                FileFields(name=name, url=where + quote(name), bytes=size, type=media_type(name))
                for name, size in job.files.items()
            ],
            error=None if job.error is None else ErrorFields(**job.error),
            expires_in=round(self.store.left(job), 1) if job.has_ended else None,
        )


def _setup(config: ServeConfig) -> dict[str, Any]:
    """The first line a worker reads."""
    return {
        "models": {
            "backend": config.backend,
            "device": config.device,
            "precision": config.precision,
            "threads": config.threads,
        },
        "device": config.device,
        "max_memory": config.max_memory,
        "limits": {"max_bytes": config.max_body, "max_pixels": config.max_pixels},
        "preload": [next(iter(config.choices["stereo"].values()))],
    }


def media_type(name: str) -> str:
    """By the suffix of a name of ours; bytes where a browser could make nothing of it."""
    return _TYPES.get(name.rsplit(".", 1)[-1], "application/octet-stream")
