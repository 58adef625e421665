"""What a run's weights have been through: a segment for every stretch of one commit and one set of settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.config import to_dict
from .config import TrainConfig

_LOGISTICS = ("evaluate", "checkpoint_minutes", "keep", "log_every", "workers", "threads", "device", "start", "ranks")


def segment(
    *,
    recipe: str,
    stage: int,
    samples: int,
    seed: int,
    start_sha256: str,
    core_hours: float,
    commit: str,
    changed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One entry of a lineage: what happened since ``start_sha256``, a model's or a checkpoint's ("" is random weights).

    ``changed`` are settings that differ from those of the segment before it, if that belongs to the same run.
    """
    return {
        "recipe": recipe,
        "stage": stage,
        "commit": commit,
        "samples": samples,
        "seed": seed,
        "start_sha256": start_sha256,
        "core_hours": round(core_hours, 3),
        **({"changed": dict(changed)} if changed else {}),
    }


@dataclass(frozen=True)
class Stretch:
    """The segment that is being trained: how it began. Part of every checkpoint."""

    recipe: str
    stage: int
    seed: int
    commit: str
    settings: dict[str, Any]
    start_sha256: str
    samples: int = 0  # of the run when it began
    core_hours: float = 0.0
    changed: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: TrainConfig, recipe: str, start_sha256: str) -> Stretch:
        """The first one of a run."""
        return cls(recipe, config.stage, config.seed, git_commit(), settings_of(config), start_sha256)

    def is_like(self, other: Stretch) -> bool:
        """Whether both are trained in the same way."""
        return (self.recipe, self.commit, self.settings) == (other.recipe, other.commit, other.settings)

    def following(self, before: Stretch, checkpoint_sha256: str, samples: int, core_hours: float) -> Stretch:
        """This one as what comes after ``before``, from a checkpoint of so many samples on."""
        changed = {key: value for key, value in self.settings.items() if before.settings.get(key) != value}
        begun = {"start_sha256": checkpoint_sha256, "samples": samples, "core_hours": core_hours, "changed": changed}
        return Stretch(**{**asdict(self), **begun})

    def closed(self, samples: int, core_hours: float) -> dict[str, Any]:
        """Its segment, at so many samples of the run."""
        return segment(
            recipe=self.recipe,
            stage=self.stage,
            samples=samples - self.samples,
            seed=self.seed,
            start_sha256=self.start_sha256,
            core_hours=core_hours - self.core_hours,
            commit=self.commit,
            changed=self.changed,
        )


@dataclass
class Lineage:
    """``before`` is the start's, ``segments`` are the run's own that have ended, ``now`` the one being trained."""

    before: Sequence[Mapping[str, Any]]
    now: Stretch
    segments: list[dict[str, Any]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"before": [dict(one) for one in self.before], "segments": self.segments, "now": asdict(self.now)}

    def resume(self, state: Mapping[str, Any], checkpoint_sha256: str, samples: int, core_hours: float) -> None:
        """Take up what a checkpoint of ``samples`` says; what was changed since begins a segment."""
        self.before, self.segments = state["before"], list(state["segments"])
        then = Stretch(**state["now"])
        if then.is_like(self.now):
            self.now = then
            return
        if samples > then.samples:
            self.segments.append(then.closed(samples, core_hours))
        self.now = self.now.following(then, checkpoint_sha256, samples, core_hours)

    def entries(self, samples: int, core_hours: float) -> list[dict[str, Any]]:
        """All segments, oldest first, the present one up to here."""
        return [*(dict(one) for one in self.before), *self.segments, self.now.closed(samples, core_hours)]


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """What decides the weights, as dotted names and plain values without paths; of sources and models the last part."""
    return dict(_flat({key: value for key, value in to_dict(config).items() if key not in _LOGISTICS}))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key == "data":
            yield name, [_source(one) for one in value]
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, [Path(one).name if _is_path(one) else one for one in value]
        elif not _is_path(value):
            yield name, value


def _source(one: Mapping[str, Any]) -> str:
    """A part of the mixture: its kind, the last part of its path, its options without paths, its share."""
    options = {key: value for key, value in one["options"].items() if not _is_path(value)}
    told = f" {json.dumps(options, sort_keys=True)}" if options else ""
    return f"{one['kind']}:{Path(one['path']).name}{told} x {one['weight']:g}"


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "/" in value


def git_commit() -> str:
    """Hash of the source tree the package runs from, or "" outside a git checkout."""
    folder = Path(__file__).resolve().parent
    for parent in folder.parents:
        head = parent / ".git" / "HEAD"
        if head.is_file():
            return _read_head(parent / ".git")
    return ""


def _read_head(git: Path) -> str:
    """HEAD's commit, read as a file: git itself may be missing, or distrust the folder."""
    text = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not text.startswith("ref: "):
        return text
    reference = git / text[5:]
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    packed = git / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(text[5:])), "")
