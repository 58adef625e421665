"""Stage 1: supervised training on exact truth.

A stage is a function of network and batch that gives the weighted loss terms per sample, and the error that is shown
(:mod:`depthlight.train.task`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..data.loader import Batch
from ..nets.losses import LossConfig, masked_mean, supervised_terms
from ..nets.stereo.base import StereoNet
from .task import StageOutput


def usable(batch: Batch, max_disp: int) -> Tensor:
    """Pixels a loss may use: known and inside the range; (B, H, W) bool."""
    return batch.mask_BHW & (batch.disp_BHW >= 0) & (batch.disp_BHW < max_disp)


@torch.no_grad()
def end_point_error(disp_B1HW: Tensor, truth_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Mean |error| over the mask; (B,)."""
    return masked_mean((disp_B1HW[:, 0].float() - truth_BHW).abs(), mask_BHW)


class Supervised:
    """Smooth-L1 of all outputs and cross-entropy over the bins. Stage 3 uses it with a clamp on pseudo-labels."""

    def __init__(self, config: LossConfig, autocast: Callable[[], AbstractContextManager[object]]) -> None:
        self.config = config
        self.autocast = autocast

    def __call__(self, net: StereoNet, batch: Batch) -> StageOutput:
        with self.autocast():
            output = net.forward_train(batch.left_B3HW.float(), batch.right_B3HW.float())
        mask = usable(batch, net.max_disp)
        terms = supervised_terms(output, batch.disp_BHW, mask, self.config)
        return StageOutput(terms, end_point_error(output.disparities[0], batch.disp_BHW, mask))
