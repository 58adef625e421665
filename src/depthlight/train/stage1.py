"""Stage 1: supervised training on exact truth.

A stage is a function of network and batch that gives the weighted loss terms per sample, and the error that is shown
(:mod:`depthlight.train.task`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from ..data.loader import Batch
from ..nets.losses import LossConfig, masked_mean, supervised_terms
from ..nets.stereo.base import StereoNet
from .task import StageOutput

SPARE = 16  # px searched beyond the truth


def usable(batch: Batch, max_disp: int) -> Tensor:
    """Pixels a loss may use: known and inside the range; (B, H, W) bool."""
    return batch.mask_BHW & (batch.disp_BHW >= 0) & (batch.disp_BHW < max_disp)


@torch.no_grad()
def end_point_error(disp_B1HW: Tensor, truth_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Mean |error| over the mask; (B,)."""
    return masked_mean((disp_B1HW[:, 0].float() - truth_BHW).abs(), mask_BHW)


def fitted_range(net: StereoNet, disp_BHW: Tensor, mask_BHW: Tensor) -> int:
    """The smallest range of the network's that holds the truth and :data:`SPARE` px more."""
    farthest = float(torch.where(mask_BHW, disp_BHW, 0.0).max())
    wanted = math.ceil((farthest + SPARE) / net.multiple) * net.multiple
    return min(wanted, net.max_disp)


class Supervised:
    """Smooth-L1 of all outputs and cross-entropy over the bins. Stage 3 uses it with a clamp on pseudo-labels.

    ``fitted`` is the share of batches that are searched only as far as their truth goes, which most of them fill by
    less than half. What is farther than that is learned from the rest. Networks of one range are always searched whole.
    """

    def __init__(
        self,
        config: LossConfig,
        autocast: Callable[[], AbstractContextManager[object]],
        *,
        fitted: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.config = config
        self.autocast = autocast
        self.fitted, self.seed = fitted, seed

    def __call__(self, net: StereoNet, batch: Batch) -> StageOutput:
        mask = usable(batch, net.max_disp)
        range_px = net.max_disp
        if self.fitted and net.flexible_range:
            drawn = np.random.default_rng([self.seed, batch.positions[0]]).random()
            range_px = fitted_range(net, batch.disp_BHW, mask) if drawn < self.fitted else range_px
        with self.autocast():
            output = net.forward_train(batch.left_B3HW.float(), batch.right_B3HW.float(), range_px)
        terms = supervised_terms(output, batch.disp_BHW, mask, self.config)
        return StageOutput(terms, end_point_error(output.disparities[0], batch.disp_BHW, mask))
