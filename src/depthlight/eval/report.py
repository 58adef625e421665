"""What the results of all evaluations have in common: who answered, on what, sources of scenes, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..infer.prediction import ModelIdentity
from ..io.atomic import atomic_write_bytes


class Named(Protocol):
    """Whatever has a scene's name."""

    @property
    def name(self) -> str: ...


AnyScene = TypeVar("AnyScene", bound=Named)


@dataclass(frozen=True)
class SceneFailure:
    """A scene that could not be measured, and why."""

    name: str
    path: str
    error: str
    code: str


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """Model, dataset and failures of one evaluation. Subclasses add scenes, protocol and ``to_dict``."""

    model: ModelIdentity
    dataset: str
    failures: tuple[SceneFailure, ...]

    def to_dict(self) -> dict[str, Any]:
        """The whole result as what JSON can hold."""
        raise NotImplementedError

    def group_of(self, scene: str) -> str:
        """The source of a scene: the text before the first ``-`` of its name, else the dataset's name."""
        return scene.split("-", 1)[0] if "-" in scene else self.dataset

    def grouped(self, scenes: Sequence[AnyScene]) -> dict[str, list[AnyScene]]:
        """The scenes by their source, sorted by its name."""
        groups: dict[str, list[AnyScene]] = {}
        for scene in scenes:
            groups.setdefault(self.group_of(scene.name), []).append(scene)
        return dict(sorted(groups.items()))

    def identity(self) -> dict[str, Any]:
        """The entries that say what was measured on what."""
        return {
            "dataset": self.dataset,
            "model": self.model.name,
            "weights_sha256": self.model.weights_sha256,
            "backend": self.model.backend,
            "precision": self.model.precision,
            "device": self.model.device,
        }

    def failed(self) -> dict[str, dict[str, str]]:
        """The entry ``failures``."""
        return {f.name: {"path": f.path, "error": f.error, "code": f.code} for f in self.failures}

    def to_json(self, target: str | os.PathLike[str] | None = None) -> str:
        """The result as JSON text; written to ``target`` too, if given.

        Raises:
            OutputError: ``target`` cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        if target is not None:
            atomic_write_bytes(target, text.encode())
        return text

    def table(
        self,
        columns: Sequence[str],
        scenes: Sequence[Mapping[str, Any]],
        groups: Mapping[str, Mapping[str, Any]],
        mean: Mapping[str, Any] | None,
        target: str | os.PathLike[str] | None,
    ) -> str:
        """CSV: a row per scene (with its ``name``), failed scene and group, and one for the mean.

        Raises:
            OutputError: ``target`` cannot be written.
        """
        rows: list[dict[str, Any]] = [{"kind": "scene", "n": 1, **scene} for scene in scenes]
        rows += [{"kind": "failed", "name": failure.name, "n": 0} for failure in self.failures]
        rows += [{"kind": "group", "name": name, **figures} for name, figures in groups.items()]
        if mean:
            rows.append({"kind": "mean", "name": self.dataset, "n": len(scenes), **mean})
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if target is not None:
            atomic_write_bytes(target, stream.getvalue().encode())
        return stream.getvalue()
