"""What an evaluation of single-image depth found, and its files; the stereo schema as far as it goes.

``to_dict`` gives::

    {"task": "mono", "protocol": {...}, "dataset", "model", "weights_sha256", "backend", "precision", "device",
     "scenes":   {"<scene>": {"all": {the metrics of mono_metrics and mono_shape},
                              "alignment": {"scale", "shift", "depth_scale", "depth_shift"},
                              "quantity", "unit", "camera", "max_depth", "pixels", "seconds"}},
     "mean":     mean over scenes of "all";
     "groups":   {"<text before the first '-' of the scene names>": {…, "n"}};
     "headline": {"abs_rel", "delta1"};
     "counts":   {"scenes", "failed", "turned_round"};
     "failures": {"<scene>": {"path", "error", "code"}}}

A metric that a scene does not have (null there) is averaged over the scenes that have it. ``sq_rel`` and ``rmse`` carry
the unit of the truth: null in a mean over scenes of different units. ``turned_round`` counts the scenes whose fit has a
negative scale: near and far were swapped.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..infer.prediction import ModelIdentity
from ..io.atomic import atomic_write_bytes
from .mono_metrics import AlignedDepth, DepthMetrics
from .mono_protocol import MonoProtocol
from .mono_shape import ShapeMetrics
from .result import SceneFailure

WITH_UNIT = ("sq_rel", "rmse")
HEADLINE = ("abs_rel", "delta1")


@dataclass(frozen=True, kw_only=True)
class MonoSceneResult:
    """One image: its metrics, the alignment behind them, and under which rules.

    ``camera`` is ``"pinhole"`` or ``"orthographic"``; ``max_depth`` the cap that held, or ``None``.
    """

    name: str
    metrics: DepthMetrics
    shape: ShapeMetrics
    aligned: AlignedDepth
    quantity: str
    unit: str
    camera: str
    max_depth: float | None
    pixels: int
    seconds: float

    def figures(self) -> dict[str, float | None]:
        """All metrics."""
        return {**self.metrics.to_dict(), **self.shape.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """The entry under ``scenes``."""
        fit = ("scale", "shift", "depth_scale", "depth_shift")
        return {
            "all": self.figures(),
            "alignment": {name: getattr(self.aligned, name) for name in fit},
            "quantity": self.quantity,
            "unit": self.unit,
            "camera": self.camera,
            "max_depth": self.max_depth,
            "pixels": self.pixels,
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True, kw_only=True)
class MonoEvalResult:
    """All outcomes of one evaluation, in the order of the dataset."""

    protocol: MonoProtocol
    model: ModelIdentity
    dataset: str
    scenes: tuple[MonoSceneResult, ...]
    failures: tuple[SceneFailure, ...]

    def group_of(self, scene: str) -> str:
        """The source of a scene: the text before the first ``-`` of its name, else the dataset's name."""
        return scene.split("-", 1)[0] if "-" in scene else self.dataset

    def to_dict(self) -> dict[str, Any]:
        """The mapping described at the head of this module."""
        groups: dict[str, list[MonoSceneResult]] = {}
        for scene in self.scenes:
            groups.setdefault(self.group_of(scene.name), []).append(scene)
        mean = _mean(self.scenes) if self.scenes else None
        return {
            "task": "mono",
            "protocol": self.protocol.to_dict(),
            "dataset": self.dataset,
            "model": self.model.name,
            "weights_sha256": self.model.weights_sha256,
            "backend": self.model.backend,
            "precision": self.model.precision,
            "device": self.model.device,
            "scenes": {scene.name: scene.to_dict() for scene in self.scenes},
            "mean": mean,
            "groups": {group: {**_mean(groups[group]), "n": len(groups[group])} for group in sorted(groups)},
            "headline": {name: mean[name] if mean else None for name in HEADLINE},
            "counts": {
                "scenes": len(self.scenes),
                "failed": len(self.failures),
                "turned_round": sum(scene.aligned.scale < 0 for scene in self.scenes),
            },
            "failures": {f.name: {"path": f.path, "error": f.error, "code": f.code} for f in self.failures},
        }

    def to_json(self, target: str | os.PathLike[str] | None = None) -> str:
        """The result as JSON text; written to ``target`` too, if given.

        Raises:
            OutputError: ``target`` cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        if target is not None:
            atomic_write_bytes(target, text.encode())
        return text

    def to_csv(self, target: str | os.PathLike[str] | None = None) -> str:
        """A table with a row per scene, failed scene and group, and one for the mean; written to ``target`` too.

        Raises:
            OutputError: ``target`` cannot be written.
        """
        result = self.to_dict()
        rows: list[dict[str, Any]] = [
            {"kind": "scene", "name": name, "n": 1, **scene["all"], "unit": scene["unit"], "seconds": scene["seconds"]}
            for name, scene in result["scenes"].items()
        ]
        rows += [{"kind": "failed", "name": failure.name, "n": 0} for failure in self.failures]
        rows += [{"kind": "group", "name": name, **figures} for name, figures in result["groups"].items()]
        if result["mean"]:
            rows.append({"kind": "mean", "name": self.dataset, "n": len(self.scenes), **result["mean"]})
        stream = io.StringIO()
        columns = ("kind", "name", "n", *(self.scenes[0].figures() if self.scenes else ()), "unit", "seconds")
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        if target is not None:
            atomic_write_bytes(target, stream.getvalue().encode())
        return stream.getvalue()


def _mean(scenes: Sequence[MonoSceneResult]) -> dict[str, float | None]:
    one_unit = len({scene.unit for scene in scenes}) == 1
    means: dict[str, float | None] = {}
    for name in scenes[0].figures():
        values = [value for scene in scenes if (value := scene.figures()[name]) is not None]
        means[name] = float(np.mean(values)) if values and (one_unit or name not in WITH_UNIT) else None
    return means
