"""What an evaluation found, and its files: one JSON schema for every model, dataset and protocol; CSV for tables.

``to_dict`` gives::

    {"protocol": {...}, "dataset", "model", "weights_sha256", "backend", "precision", "device",
     "scenes":   {"<scene>": {"all": {"epe", "bad1", "bad2", "bad3", "d1", "density", "ause", "bad2_kept80"},
                              "noc": {"epe", …, "density"} or null, "seconds"}},
     "mean":     mean over scenes of "all", and "bad2_drop80";  "mean_noc": {…, "n"};
     "groups":   {"<text before the first '-' of the scene names>": {…, "n"}},
     "pooled":   {…, "pixels"};  "pooled_noc": {…, "pixels"};
     "headline": the figures the protocol quotes, pooled ones as "<metric>_pooled";
     "counts":   {"scenes", "noc", "failed"};  "failures": {"<scene>": {"path", "error", "code"}}}

EPE in px, percentages 0–100. ``bad2_drop80`` says by how many percent mean bad2 falls when every scene's 20 % least
confident ground-truth pixels are dropped. Means are over the scenes that worked; null where there is none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .confidence import ConfidenceMetrics, relative_drop
from .metrics import ErrorSums, mean_metrics
from .protocol import METRICS, Protocol
from .report import EvalReport

FIGURES = (*METRICS, "ause", "bad2_kept80", "bad2_drop80")
CSV_COLUMNS = ("kind", "name", "n", *FIGURES, *(f"noc_{metric}" for metric in METRICS), "seconds")


@dataclass(frozen=True, kw_only=True)
class SceneResult:
    """One scene: error sums over all and over non-occluded pixels, how confidence ranks the errors, seconds taken."""

    name: str
    sums: ErrorSums
    noc_sums: ErrorSums | None
    confidence: ConfidenceMetrics
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The entry under ``scenes``."""
        return {
            "all": {**self.sums.metrics().to_dict(), **self.confidence.to_dict()},
            "noc": self.noc_sums.metrics().to_dict() if self.noc_sums else None,
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True, kw_only=True)
class EvalResult(EvalReport):
    """All outcomes of one evaluation, in the order of the dataset."""

    protocol: Protocol
    scenes: tuple[SceneResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """The mapping described at the head of this module."""
        noc = [scene.noc_sums for scene in self.scenes if scene.noc_sums]
        result = {
            "protocol": self.protocol.to_dict(),
            **self.identity(),
            "scenes": {scene.name: scene.to_dict() for scene in self.scenes},
            "mean": _mean(self.scenes) if self.scenes else None,
            "mean_noc": {**mean_metrics([sums.metrics() for sums in noc]).to_dict(), "n": len(noc)} if noc else None,
            "groups": {name: {**_mean(scenes), "n": len(scenes)} for name, scenes in self.grouped(self.scenes).items()},
            "pooled": _pooled([scene.sums for scene in self.scenes]),
            "pooled_noc": _pooled(noc),
            "counts": {"scenes": len(self.scenes), "noc": len(noc), "failed": len(self.failures)},
            "failures": self.failed(),
        }
        return {**result, "headline": self._headline(result)}

    def _headline(self, result: dict[str, Any]) -> dict[str, float | None]:
        suffix = "_noc" if self.protocol.mask == "noc" else ""
        figures: dict[str, float | None] = {}
        for headline in self.protocol.headline:
            pooled = headline.average == "pixels"
            source = result[("pooled" if pooled else "mean") + suffix]
            figures[headline.metric + ("_pooled" if pooled else "")] = source[headline.metric] if source else None
        return figures

    def to_csv(self, target: str | os.PathLike[str] | None = None) -> str:
        """A table with a row per scene, failed scene and group, and one for the mean; written to ``target`` too.

        Raises:
            OutputError: ``target`` cannot be written.
        """
        result = self.to_dict()
        scenes = [
            {"name": name, **scene["all"], **_columns(scene["noc"]), "seconds": scene["seconds"]}
            for name, scene in result["scenes"].items()
        ]
        mean = {**result["mean"], **_columns(result["mean_noc"])} if result["mean"] else None
        return self.table(CSV_COLUMNS, scenes, result["groups"], mean, target)


def _columns(noc: dict[str, float] | None) -> dict[str, float]:
    return {f"noc_{metric}": value for metric, value in (noc or {}).items() if metric != "n"}


def _mean(scenes: Sequence[SceneResult]) -> dict[str, float | None]:
    """Means over scenes of the metrics and confidence figures, and the drop of the mean bad2."""
    metrics = mean_metrics([scene.sums.metrics() for scene in scenes])
    kept = float(np.mean([scene.confidence.bad2_kept80 for scene in scenes]))
    return {
        **metrics.to_dict(),
        "ause": float(np.mean([scene.confidence.ause for scene in scenes])),
        "bad2_kept80": kept,
        "bad2_drop80": relative_drop(metrics.bad2, kept),
    }


def _pooled(sums: Sequence[ErrorSums]) -> dict[str, float] | None:
    if not sums:
        return None
    total = sum(sums, ErrorSums())
    return {**total.metrics().to_dict(), "pixels": total.pixels}
