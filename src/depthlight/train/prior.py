"""The task ``prior``: re-lit patches and noise in, the noise's share out. See :mod:`.relighting` for what it sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from ..core.errors import ConfigError
from ..data.mono import MonoBatch, MonoRecipe, MonoScenes
from ..data.scenes import read_list
from ..eval.relight_gate import CORRUPTIONS, GateConfig, gate_figure, need_whole_truth, run_gate
from ..eval.relight_sheet import draw_sheet
from ..nets.prior.denoiser import Denoiser
from ..nets.prior.load import build
from .mono import image_batches
from .relighting import Denoising
from .start import start_from
from .task import Autocast, Measure, Stage, Start, Task

QUICK = GateConfig(images=16, patches=4)  # the gate as a run measures itself by it: two minutes of one core
LEAST = 0.02  # of a crop: with depth on less, the quantiles that set its scale can be 0


class PriorTask(Task):
    """Denoising of re-lit patches, conditional or not (``network_config.conditional``)."""

    error = "rms_levels"
    figures = ("true_loss", "ranked", "ranked_guided", *(f"ranked_{name}" for name in CORRUPTIONS))
    curves = ("ranked", "ranked_guided")
    unit = "% of comparisons"

    def start(self) -> Start:
        torch.manual_seed(self.config.seed)
        family, network = self.config.network, dict(self.config.network_config)
        if self.config.start:
            return start_from(self.config.start, "prior", build)
        return Start(build(family, network), family, network)

    def stage(self, net: Any, autocast: Autocast) -> Stage:
        if self.config.prior.wrong and not net.conditional:
            raise ConfigError("prior.wrong is for a network that is told photo and light", expected="0")
        return Denoising(self.config.prior, self.config.seed, autocast)

    def batches(self, position: int, say: Callable[[str], None], check: Callable[[], None]) -> Iterator[MonoBatch]:
        recipe = MonoRecipe(self.config.prior.augment, self.config.crop, LEAST)
        return image_batches(self.config, recipe, self.ranks, position, say)

    def evaluation(self) -> Measure | None:
        wanted = self.config.evaluate
        if not wanted.folder:
            return None
        scenes = MonoScenes(wanted.folder, read_list(wanted.list) if wanted.list else None)
        need_whole_truth(scenes, QUICK)  # before hours of training, not after

        def measure(net: nn.Module, device: torch.device, check: Callable[[], None]) -> dict[str, float]:
            denoiser = cast(Denoiser, net).eval()
            told = denoiser.conditional
            result = run_gate(denoiser, scenes, replace(QUICK, contrast=told), device=device, check=check)
            draw_sheet(denoiser, scenes, self.folder / "samples" / "sheet.png", count=8, device=device)
            ranked = {f"ranked_{name}": result["ranked"][name] for name in CORRUPTIONS}
            guided = gate_figure(result["ranked_guided_light"]) if told else math.nan
            total = {"true_loss": result["loss"]["true"], "ranked": result["ranked_gate"], "ranked_guided": guided}
            return total | ranked

        return measure
