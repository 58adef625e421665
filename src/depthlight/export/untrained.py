"""A network nobody has trained, fit to compare runtimes on.

PyTorch's default initialisation, with statistics of BatchNorm that belong to it. Weights filled by a formula, or fresh
ones with the neutral statistics, let activations grow from layer to layer until rounding in float32 alone fails a gate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..data.samples import StereoSample
from ..data.synth.engine import plain_pairs
from ..nets.stereo import build
from ..nets.stereo.base import StereoNet
from .pairs import CALIBRATION_SEED, as_input

SEED = 0
PAIRS = 8
SETTLE_SIZE = (192, 384)  # height, width


def untrained(family: str) -> StereoNet:
    """The network of ``family`` as PyTorch initialises it from a fixed seed, its BatchNorms settled on eight pairs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        net = build(family)
    settle(net, plain_pairs(PAIRS, seed=CALIBRATION_SEED, size=SETTLE_SIZE))
    return net


def settle(net: StereoNet, samples: Sequence[StereoSample]) -> None:
    """Set the running statistics of every BatchNorm to those of ``samples``, in place; evaluation mode after.

    The pairs (of one size) go through as one batch: their spread belongs to the statistics.
    """
    norms = [module for module in net.eval().modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the statistics of the one batch, as they are
        norm.train()
    left, right = (
        torch.from_numpy(np.concatenate([as_input(view, *view.shape[:2]) for view in views]))
        for views in ([sample.left_HW3 for sample in samples], [sample.right_HW3 for sample in samples])
    )
    with torch.no_grad():
        net(left, right)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()
