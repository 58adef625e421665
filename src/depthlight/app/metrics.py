"""What ``/metrics`` says, for Prometheus. No label can take a value that a client makes up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from .jobs import Job

_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, float("inf"))
_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS")


class Metrics:
    """Counters and gauges of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "depthlight_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "depthlight_request_seconds",
            "From the head of a request to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._bytes = Counter("depthlight_received_bytes", "Bytes of request bodies", registry=registry)
        self._jobs = Counter("depthlight_jobs", "Jobs that have ended", ["kind", "state"], registry=registry)
        self._work = Histogram("depthlight_job_seconds", "Work on a job", ["kind"], buckets=_SECONDS, registry=registry)

    def gauges(self, values: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """Numbers that are asked for when somebody looks: name → what it is, and how to get it."""
        for name, (what, read) in values.items():
            Gauge(f"depthlight_{name}", what, registry=self.registry).set_function(read)

    def request(self, method: str, route: str, status: int, seconds: float, size: int) -> None:
        """A request has been answered."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._bytes.inc(size)

    def job(self, job: Job) -> None:
        """A job has ended."""
        self._jobs.labels(job.kind, job.state).inc()
        if job.state == "done":
            self._work.labels(job.kind).observe(job.ended - job.began)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
