"""The task ``mono``: one view in, relative inverse depth out, supervised on images with depth known up to a scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..core.errors import ConfigError, InputError
from ..data.loader import StreamPlan
from ..data.mono import MonoBatch, MonoRecipe, MonoScenes, mono_batches
from ..data.scenes import read_list
from ..eval.mono_result import MonoSceneResult
from ..eval.mono_runner import MonoEstimator, Pictures, Ramp, evaluate_mono
from ..eval.mono_scenes import DepthScene, DepthScenes
from ..infer.mono import MonoModel, MonoPrediction
from ..io.colour import colour_map, robust_range
from ..io.names import safe_name
from ..io.pictures import sheet, write_image
from ..nets.mono import build
from ..nets.mono.base import MonoNet
from ..nets.mono.losses import mono_terms
from ..nets.mono.small import MonoSmall
from .config import TrainConfig
from .distributed import Ranks
from .sources import mixture
from .start import start_from
from .task import Autocast, Measure, Stage, StageOutput, Start, Task

SAMPLES = 6  # pictures per evaluation and folder
COLUMNS = ("absrel", "ramp", "median", "ramp_median")


class MonoTask(Task):
    """Scale-and-shift-invariant regression of inverse depth (MiDaS, arXiv 1907.01341)."""

    error = "misfit"  # mean |difference| of the normalised maps
    # means, and medians beside them: a ramp fitted to one scene with a far horizon can outweigh all others
    figures = tuple(f"{kind}_{what}" for kind in ("scenes", "photos") for what in COLUMNS)
    curves = ("scenes_median", "scenes_ramp_median", "photos_median", "photos_ramp_median")
    unit = "AbsRel"

    def start(self) -> Start:
        torch.manual_seed(self.config.seed)
        family, network = self.config.network, dict(self.config.network_config)
        if self.config.start not in ("", "imagenet"):
            return start_from(self.config.start, "mono", build)
        net = build(family, network)
        if not self.config.start:
            return Start(net, family, network)
        from ..nets.mono.imagenet import ORIGIN, load_imagenet

        load_imagenet(net.get_submodule("encoder"))
        return Start(net, family, network, ORIGIN["sha256"], (dict(ORIGIN),))

    def parameters(self, net: MonoSmall) -> list[dict[str, Any]]:
        net.freeze_early(self.config.mono.frozen)
        inside = {id(p) for p in net.encoder.parameters()}
        learning = [p for p in net.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if id(p) in inside], "scale": self.config.mono.encoder_rate},
            {"params": [p for p in learning if id(p) not in inside]},
        ]

    def stage(self, net: MonoNet, autocast: Autocast) -> Stage:
        def stage(net: MonoNet, batch: MonoBatch) -> StageOutput:
            with autocast():
                raw_B1HW = net(batch.image_B3HW.float() / 255)
            return StageOutput(*mono_terms(raw_B1HW[:, 0], batch.inverse_BHW, batch.mask_BHW, self.config.mono.loss))

        return stage

    def batches(self, position: int, say: Callable[[str], None], check: Callable[[], None]) -> Iterator[MonoBatch]:
        recipe = MonoRecipe(self.config.mono.augment, self.config.crop)
        return image_batches(self.config, recipe, self.ranks, position, say)

    def evaluation(self) -> Measure | None:
        scenes = self.config.evaluate
        sets: dict[str, DepthScenes] = {}
        if scenes.folder:
            sets["scenes"] = DepthScenes(scenes.folder, read_list(scenes.list) if scenes.list else None)
        if self.config.mono.photos:
            sets["photos"] = DepthScenes(self.config.mono.photos)
        if not sets:
            return None
        ramps = {kind: abs_rels(Ramp(), images) for kind, images in sets.items()}

        def measure(net: nn.Module, device: torch.device, check: Callable[[], None]) -> dict[str, float]:
            row = dict.fromkeys(self.figures, math.nan)
            model = MonoModel("run", cast(MonoNet, net), weights_sha256=None, device=str(device))
            for kind, images in sets.items():
                show = sample_writer(self.folder / "samples" / kind)
                ours, ramp = abs_rels(model, images, check, show), ramps[kind]
                found = (np.mean(ours), np.mean(ramp), np.median(ours), np.median(ramp))
                row |= {f"{kind}_{what}": float(value) for what, value in zip(COLUMNS, found, strict=True)}
            return row

        return measure


def image_batches(
    config: TrainConfig, recipe: MonoRecipe, ranks: Ranks, position: int, say: Callable[[str], None]
) -> Iterator[MonoBatch]:
    """This rank's batches of single images from sample ``position`` on, in the mixture of ``config.data``."""
    datasets = open_images(config)
    say("data: " + ", ".join(f"{d.name} ({len(d)})" for d in datasets))
    sampler = mixture(config.data, [len(d) for d in datasets], config.seed)
    plan = StreamPlan(batch=config.batch, workers=config.workers, rank=ranks.rank, world=ranks.world)
    return mono_batches(datasets, sampler, recipe, plan, position)


def open_images(config: TrainConfig) -> list[MonoScenes]:
    """The training images: sources of kind ``scenes``, of which the left views are read.

    Raises:
        InputError: there is no source, or a folder holds no scene.
        ConfigError: another kind of data, or it has options.
    """
    if not config.data:
        raise InputError("the run has no data", expected="--data DIR, or [[data]] in the recipe")
    for source in config.data:
        if source.kind != "scenes" or source.options:
            raise ConfigError(f"data of kind {source.kind!r}", expected="scenes, without options, for single images")
    return [MonoScenes(source.path) for source in config.data]


def abs_rels(
    model: MonoEstimator,
    images: DepthScenes,
    check: Callable[[], None] = lambda: None,
    pictures: Pictures = lambda scene, prediction, result: None,
) -> list[float]:
    """AbsRel of every image under the affine-invariant protocol.

    Args:
        check: called after every image; may raise to stop.

    Raises:
        InputError: no image could be measured.
    """

    def after(scene: DepthScene, prediction: MonoPrediction, result: MonoSceneResult) -> None:
        check()
        pictures(scene, prediction, result)

    found = evaluate_mono(model, images, pictures=after)
    if not found.scenes:
        raise InputError(f"none of the {len(images)} evaluation images could be measured: {found.failures[0].error}")
    return [scene.metrics.abs_rel for scene in found.scenes]


def sample_writer(folder: Path) -> Pictures:
    """Writes ``<folder>/<name>.png`` for the first images it is given: image, answer, truth, each in its own range."""
    written: list[str] = []

    def write(scene: DepthScene, prediction: MonoPrediction, _: MonoSceneResult) -> None:
        if len(written) >= SAMPLES:
            return
        written.append(scene.name)
        known_HW = scene.depth_HW > 0
        truth_HW = np.where(known_HW, 1 / np.where(known_HW, scene.depth_HW, 1), 0).astype(np.float32)
        maps = [
            colour_map(prediction.values, *robust_range(prediction.values)),
            colour_map(truth_HW, *robust_range(truth_HW, known_HW), valid_HW=known_HW),
        ]
        picture = sheet([scene.image_HW3, *maps], columns=3, labels=("Image", "Relative inverse depth", "Truth"))
        write_image(folder / f"{safe_name(scene.name)}.png", picture)

    return write
