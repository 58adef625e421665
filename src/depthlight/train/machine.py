"""Making one machine fast: allocator, threads, memory layout. Measured in DESIGN §4."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "bf16", "fp32"]


def set_threads(threads: int) -> None:
    """Fix the number of torch threads; 0 leaves torch's choice. More than one only pays on an idle machine."""
    if threads:
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


def convolution_layout(net: nn.Module) -> None:
    """Put each convolution's weight in the channels-last layout of its rank (the whole module at once refuses 5-D)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.to(memory_format=torch.channels_last_3d)


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` is CUDA where there is one; each rank of a machine takes its own card."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return torch.device("cuda", local_rank)
    return torch.device(name)


def resolve_precision(amp: Precision, device: str) -> Precision:
    """``auto`` as ``bf16`` or ``fp32``: whichever this machine convolves faster.

    Having bf16 instructions says little: of two CPUs with AVX512-BF16, one ran dense convolutions twice as fast in bf16
    as in fp32 and the other half as fast. So it is timed, once, when a run begins; the run's configuration keeps the
    answer.
    """
    if amp != "auto":
        return amp
    if pick_device(device).type != "cpu":
        return "bf16"
    return "bf16" if _convolution_seconds(torch.bfloat16) < 0.9 * _convolution_seconds(torch.float32) else "fp32"


@torch.no_grad()
def _convolution_seconds(dtype: torch.dtype) -> float:
    """CPU time of a dense 3x3 convolution as the networks have many of; the best of five."""
    x = torch.randn(4, 64, 48, 96).to(dtype=dtype, memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3).to(dtype=dtype, memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        nn.functional.conv2d(x, weight, padding=1)
        best = min(best, time.process_time() - started)
    return best


def autocast(device: torch.device, amp: str) -> contextlib.AbstractContextManager[object]:
    """bf16 autocast, or nothing for fp32. No loss scaling is needed: bf16 has fp32's range."""
    if amp == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
