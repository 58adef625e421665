"""What a server may do and how much of it: set by whoever starts it, never by a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..core import registry
from ..core.errors import ConfigError
from ..core.extras import have
from ..infer.load import WEIGHT_SUFFIXES

MIB = 2**20
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_FILE_SUFFIXES = (*WEIGHT_SUFFIXES, ".onnx", ".xml")
_LEAST_TOKEN = 16


def label(name: str) -> str:
    """What clients call a model: its name; of a file or a folder, the last part alone."""
    path = Path(name)
    if path.suffix.lower() in _FILE_SUFFIXES:
        return path.stem
    return path.name if path.is_dir() else name


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """A server's settings.

    Attributes:
        models, monos, priors: what clients may choose from; the first is the default. Names, files or hub ids.
        backend, device, precision, threads: as of :func:`depthlight.load`, for ``models``.
        max_memory: bytes a worker may use; larger pairs are computed in tiles. None: what is free.
        workers: processes that compute pairs and photos; refinement has one of its own.
        queue, refine_queue: jobs that may wait, beside those that run.
        max_body: bytes of a request; max_pixels: of one image.
        connections: open at once; more are answered 503.
        head_seconds: in which a request's head must arrive, body_seconds: its body.
        work_seconds: for a pair or a photo, refine_seconds: for a refinement, counted from its start.
        keep_seconds: results stay that long; the oldest go earlier beyond keep_bytes or keep_jobs.
        drain_seconds: that running work is given after SIGTERM.
        token: what clients must bear; None: nothing.
        hosts: names the server answers to (the Host header, without port); empty: any.
        static: folder of the page served under ``/``, if there is one.
    """

    models: tuple[str, ...] = (registry.DEFAULT_MODEL, registry.SMALL_MODEL, "sgbm")
    monos: tuple[str, ...] = field(default_factory=lambda: _bundled(registry.DEFAULT_MONO))
    priors: tuple[str, ...] = field(default_factory=lambda: (*_bundled(registry.DEFAULT_PRIOR), "none"))
    backend: str = "auto"
    device: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    max_memory: int | None = None
    workers: int = 1
    queue: int = 16
    refine_queue: int = 4
    max_body: int = 64 * MIB
    max_pixels: int = 25_000_000
    connections: int = 512
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    work_seconds: float = 120.0
    refine_seconds: float = 1800.0
    keep_seconds: float = 900.0
    keep_bytes: int = 4096 * MIB
    keep_jobs: int = 1000
    drain_seconds: float = 10.0
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = LOOPBACK
    static: Path | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not value > 0:
                raise ConfigError(f"{name} is {value}", expected="above 0")
        if self.token is not None and (len(self.token) < _LEAST_TOKEN or not self.token.isascii()):
            raise ConfigError("the token is too short or not ASCII", expected=f"{_LEAST_TOKEN} or more characters")
        if not self.models or not self.priors:
            raise ConfigError("no model or no prior", expected="at least one of each")
        for names in (self.models, self.monos, self.priors):
            if len({label(name) for name in names}) < len(names):
                raise ConfigError(f"two of {', '.join(map(label, names))} have one name", expected="different names")

    @property
    def can_refine(self) -> bool:
        """Whether refinement can run: it needs torch."""
        return have("torch")

    @property
    def choices(self) -> dict[str, dict[str, str]]:
        """Kind → what clients say → what is loaded, wherever the worker stands."""
        kinds = {"stereo": self.models, "mono": self.monos, "prior": self.priors}
        return {kind: {label(name): _anywhere(name) for name in names} for kind, names in kinds.items()}


def _bundled(name: str) -> tuple[str, ...]:
    return (name,) if name in registry.bundled() and have("torch") else ()


def _anywhere(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name
