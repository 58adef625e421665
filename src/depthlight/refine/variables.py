"""What a refinement optimises: token maps, the head's weights, the scale offset, or the raw map itself.

Shapes: B = 1 photo, h × w working size. Raw maps are relative inverse depth, >= 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError, InputError
from ..nets.mono.base import MonoNet, TokenMaps
from .config import RefineConfig


class Variables:
    """Fresh variables of one restart; made inside :func:`borrowed_head`, whose weights they may change.

    Attributes:
        groups: name → tensors that are optimised.
        optimizer: AdamW over them, each group at its own rate.
    """

    def __init__(self, net: MonoNet, tokens: TokenMaps, start_B1hw: Tensor, config: RefineConfig) -> None:
        self._net, self._tokens, self._config = net, tokens, config
        self._size = (start_B1hw.shape[-2], start_B1hw.shape[-1])
        self._chosen = _coarse_enough(tokens, self._size, config) if "tokens" in config.optimise else []
        self.offset = nn.Parameter(start_B1hw.new_zeros(()))
        self._maps = [self._leaf(tokens[index]) for index in self._chosen]
        self._depth = nn.Parameter(start_B1hw.clone())
        found: dict[str, list[Tensor]] = {
            "tokens": list(self._maps),
            "head": list(net.head_parameters()),
            "offset": [self.offset],
            "depth": [self._depth],
        }
        self.groups = {name: found[name] for name in config.optimise}
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "lr": getattr(config, f"lr_{name}")} for name, group in self.groups.items()],
            weight_decay=config.weight_decay,
        )

    def _leaf(self, token: Tensor) -> nn.Parameter:
        return nn.Parameter(torch.zeros_like(token) if self._config.residual else token.clone())

    def raw(self) -> Tensor:
        """The raw map (1, 1, h, w) that the variables stand for."""
        if "depth" in self.groups:
            return self._depth.clamp(min=0)
        tokens = list(self._tokens)
        for index, values in zip(self._chosen, self._maps, strict=True):
            tokens[index] = tokens[index] + values if self._config.residual else values
        return self._net.decode(tokens, self._size)

    def step(self) -> None:
        """Update by the gradients there are; a variable without one is given zeros, so that all count alike."""
        for group in self.groups.values():
            for variable in group:
                if variable.grad is None:
                    variable.grad = torch.zeros_like(variable)
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs of them."""
        values = {name: [tensor.detach().clone() for tensor in group] for name, group in self.groups.items()}
        return {"values": values, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take up :meth:`state`."""
        for name, group in self.groups.items():
            for tensor, value in zip(group, state["values"][name], strict=True):
                tensor.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])


def _coarse_enough(tokens: TokenMaps, size: tuple[int, int], config: RefineConfig) -> list[int]:
    """Indices of the token maps whose stride is at least ``min_stride``."""
    chosen = [i for i, token in enumerate(tokens) if max(size) >= config.min_stride * max(token.shape[-2:])]
    if not chosen:
        strides = ", ".join(f"{max(size) / max(token.shape[-2:]):.3g}" for token in tokens)
        raise ConfigError(f"min_stride is {config.min_stride}", expected=f"at most the largest of {strides}")
    return chosen


def need_refinable(net: MonoNet) -> None:
    """Refuse networks whose answer cannot be refined.

    Raises:
        InputError: the network cannot be split, or answers with metric depth.
    """
    if not net.splits or net.quantity != "inverse_depth":
        problem = "does not give relative inverse depth" if net.splits else "cannot be split into encoder and head"
        raise InputError(
            f"refinement cannot work on this network: it {problem}",
            hint="Take mono.synth-v1 or one of depth-anything-v2-small, -base, -large",
        )


@contextmanager
def borrowed_head(net: MonoNet, *, trained: bool) -> Iterator[list[Tensor]]:
    """Lend the network: frozen but for the head if it is ``trained``, in evaluation mode; given back as it was.

    Yields copies of the head's first weights, which every restart begins with.

    Raises:
        InputError: see :func:`need_refinable`.
    """
    need_refinable(net)
    training = {module: module.training for module in net.modules()}
    needed = {parameter: parameter.requires_grad for parameter in net.parameters()}
    head = net.head_parameters()
    first = [parameter.detach().clone() for parameter in head] if trained else []
    try:
        net.eval().requires_grad_(False)
        for parameter in head if trained else ():
            parameter.requires_grad_(True)
        yield first
    finally:
        give_back(net, first)
        for module, mode in training.items():
            module.training = mode
        for parameter, wanted in needed.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None


@torch.no_grad()
def give_back(net: MonoNet, first: list[Tensor]) -> None:
    """Put the head's first weights back, and drop gradients."""
    for parameter, value in zip(net.head_parameters(), first, strict=False):
        parameter.copy_(value)
        parameter.grad = None
