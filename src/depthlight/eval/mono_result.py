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

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .mono_metrics import AlignedDepth, DepthMetrics
from .mono_protocol import MonoProtocol
from .mono_shape import ShapeMetrics
from .report import EvalReport

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
class MonoEvalResult(EvalReport):
    """All outcomes of one evaluation, in the order of the dataset."""

    protocol: MonoProtocol
    scenes: tuple[MonoSceneResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """The mapping described at the head of this module."""
        mean = _mean(self.scenes) if self.scenes else None
        return {
            "task": "mono",
            "protocol": self.protocol.to_dict(),
            **self.identity(),
            "scenes": {scene.name: scene.to_dict() for scene in self.scenes},
            "mean": mean,
            "groups": {name: {**_mean(scenes), "n": len(scenes)} for name, scenes in self.grouped(self.scenes).items()},
            "headline": {name: mean[name] if mean else None for name in HEADLINE},
            "counts": {
                "scenes": len(self.scenes),
                "failed": len(self.failures),
                "turned_round": sum(scene.aligned.scale < 0 for scene in self.scenes),
            },
            "failures": self.failed(),
        }

    def to_csv(self, target: str | os.PathLike[str] | None = None) -> str:
        """A table with a row per scene, failed scene and group, and one for the mean; written to ``target`` too.

        Raises:
            OutputError: ``target`` cannot be written.
        """
        result = self.to_dict()
        scenes = [
            {"name": name, **scene["all"], "unit": scene["unit"], "seconds": scene["seconds"]}
            for name, scene in result["scenes"].items()
        ]
        columns = ("kind", "name", "n", *(self.scenes[0].figures() if self.scenes else ()), "unit", "seconds")
        return self.table(columns, scenes, result["groups"], result["mean"], target)


def _mean(scenes: Sequence[MonoSceneResult]) -> dict[str, float | None]:
    one_unit = len({scene.unit for scene in scenes}) == 1
    means: dict[str, float | None] = {}
    for name in scenes[0].figures():
        values = [value for scene in scenes if (value := scene.figures()[name]) is not None]
        means[name] = float(np.mean(values)) if values and (one_unit or name not in WITH_UNIT) else None
    return means
