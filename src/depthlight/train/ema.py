"""Exponential moving average of the weights: what is evaluated and shipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Average of all floating-point parameters and buffers, with the decay growing from 0.1 as (1 + n) / (10 + n)."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take one step towards ``net``."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        ours, theirs = [], []
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                ours.append(self.values[name])
                theirs.append(tensor)
            else:
                self.values[name].copy_(tensor)
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    def state(self) -> dict[str, Tensor | int]:
        return {**self.values, "_updates": self.updates}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["_updates"])
        for name, tensor in self.values.items():
            value = state[name]
            if isinstance(value, Tensor):
                tensor.copy_(value)
