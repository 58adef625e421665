"""The task ``stereo``: two views in, disparity out, in three stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from ..core.errors import InputError
from ..data.loader import Batch, LoaderPlan, batches
from ..data.samples import StereoDataset
from . import evaluation, pictures
from .sources import mixture, open_source
from .stage1 import Supervised
from .stage2 import SelfDistillation
from .start import make_start
from .task import Autocast, Measure, Stage, Start, Task


class StereoTask(Task):
    """Stages 1 (exact truth), 2 (self-distillation) and 3 (pseudo-labels)."""

    error = "epe"
    figures = evaluation.FIGURES
    curves = ("epe", "bad2", "d1")
    unit = "px and %"

    def start(self) -> Start:
        return make_start(self.config)

    def stage(self, net: Any, autocast: Autocast) -> Stage:
        if self.config.stage == 2:
            if not self.config.start:
                raise InputError("stage 2 has no teacher", expected="a start model", hint="--set start=MODEL")
            return SelfDistillation(net, self.config.loss, autocast)
        return Supervised(self.config.loss, autocast, fitted=self.config.fitted, seed=self.config.seed)

    def batches(self, position: int, say: Callable[[str], None], check: Callable[[], None]) -> Iterator[Batch]:
        datasets = self._open(say, check)
        sampler = mixture(self.config.data, [len(d) for d in datasets], self.config.seed)
        say("data: " + ", ".join(f"{d.name} ({len(d)})" for d in datasets))
        plan = LoaderPlan(
            batch=self.config.batch,
            crop=self.config.crop,
            augment=self.config.augment,
            student=self.config.stage == 2,
            truth=self.config.stage != 2 or self.config.loss.truth > 0,
            workers=self.config.workers,
            rank=self.ranks.rank,
            world=self.ranks.world,
        )
        return batches(datasets, sampler, plan, position)

    def _open(self, say: Callable[[str], None], check: Callable[[], None]) -> list[StereoDataset]:
        if not self.config.data:
            raise InputError("the run has no data", expected="--data DIR, or [[data]] in the recipe")
        mirrored = self.config.augment.mirrored_swap > 0
        datasets = [open_source(s, seed=self.config.seed, right_truth=mirrored) for s in self.config.data]
        if self.config.stage == 3:
            from .stage3 import with_labels

            return with_labels(datasets, self.config, self.folder, self.ranks, say, check)
        return datasets

    def facts(self, net: Any) -> dict[str, str]:
        return {"max_disp": str(net.max_disp)}

    def evaluation(self) -> Measure | None:
        scenes = evaluation.open_scenes(self.config.evaluate)
        if scenes is None:
            return None

        def measure(net: nn.Module, device: torch.device, check: Callable[[], None]) -> dict[str, float]:
            show = pictures.sample_writer(self.folder)
            return evaluation.measure(net, scenes, device=device, check=check, pictures=show)

        return measure
