"""``depthlight eval --task mono``: depth from one image against measured depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..eval.mono_protocol import MonoProtocol
from ..eval.mono_result import MonoSceneResult
from ..eval.mono_runner import MonoEstimator, Ramp
from ..eval.mono_runner import evaluate_mono as run_protocol
from ..eval.mono_scenes import DepthScene, DepthScenes
from ..eval.report import SceneFailure
from ..io.colour import colour_map, robust_range
from ..io.names import inside, safe_name
from ..io.pictures import sheet, write_image
from .common import progress
from .eval import Report

if TYPE_CHECKING:
    from ..eval.mono_metrics import Alignment
    from ..infer.mono import MonoPrediction

BASELINE = "ramp"
PICTURE_WIDTH = 480
SHOWN = ("abs_rel", "rmse", "silog", "delta1", "clamped", "normal_mean", "boundary_f1")


def evaluate_mono(
    data: Path,
    model: str | None,
    names: Sequence[str] | None,
    alignment: str,
    max_depth: float | None,
    report: Report,
    pictures: Path | None,
    *,
    device: str,
    precision: str,
) -> None:
    """Measure a model on a folder of images with depth and report it; see :mod:`depthlight.eval.mono_protocol`."""
    protocol = MonoProtocol(alignment=cast("Alignment", alignment), max_depth=max_depth)
    dataset = DepthScenes(data, names)
    estimator = _estimator(model, device, precision)
    with progress("eval", len(dataset), quiet=report.quiet) as bar:

        def told(outcome: MonoSceneResult | SceneFailure) -> None:
            if isinstance(outcome, SceneFailure):
                bar.warn(f"{outcome.name}: {outcome.error}")
            bar.step(outcome.name)

        paint = _painter(pictures) if pictures else None
        result = run_protocol(estimator, dataset, protocol, on_scene=told, pictures=paint)
    report.of(result, SHOWN)


def _estimator(model: str | None, device: str, precision: str) -> MonoEstimator:
    if model == BASELINE:
        return Ramp()
    from ..infer.mono import load_mono  # needs torch, which the baseline does not

    return load_mono(model, device=device, precision=precision)


def _painter(folder: Path) -> Callable[[DepthScene, MonoPrediction, MonoSceneResult], None]:
    """Image, aligned estimate and truth side by side, both as inverse depth on the truth's scale."""

    def paint(scene: DepthScene, prediction: MonoPrediction, result: MonoSceneResult) -> None:
        depth_HW, known_HW = result.aligned.depth_HW, scene.depth_HW > 0
        shown_HW = depth_HW > 0
        truth_HW = 1 / np.where(known_HW, scene.depth_HW, 1.0)
        span = robust_range(truth_HW, known_HW)
        maps = [
            colour_map(1 / np.where(shown_HW, depth_HW, 1.0), *span, valid_HW=shown_HW),
            colour_map(truth_HW, *span, valid_HW=known_HW),
        ]
        labels = (scene.name, f"{prediction.model.name}, aligned: AbsRel {result.metrics.abs_rel:.3f}", "Ground truth")
        picture = sheet([scene.image_HW3, *maps], columns=3, labels=labels, width=PICTURE_WIDTH)
        write_image(inside(folder, f"{safe_name(scene.name)}.png"), picture)

    return paint
