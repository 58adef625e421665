"""What every stereo network promises, so that inference, export and training need to know only this.

Shape legend: B batch, C channels, H W input size (multiples of ``multiple``), h w = H/4 W/4, D = max_disp/4 bins.
Images are RGB float32 in 0..255. Disparity is in px of the input size, left view, positive: x_right = x_left - d.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import InputError


@dataclass(frozen=True)
class StereoOutput:
    """Inference result."""

    disparity_B1HW: Tensor  # float32, px
    confidence_B1hw: Tensor  # float32, 0..1: probability mass near the chosen disparity, at quarter size


@dataclass(frozen=True)
class StereoTrainOutput:
    """What the losses see.

    ``disparities`` are (B, 1, H, W) in px; the first is the network's answer, the weights of the others are the loss's
    business and their order is stated by the network. ``logits_BDhw`` are scores over the D quarter-size disparity
    bins (bin k = 4k px) before the softmax. ``features`` is the left view's pyramid for stage 2's feature term.
    """

    disparities: tuple[Tensor, ...]
    logits_BDhw: Tensor
    features: tuple[Tensor, ...] = field(default=())


class StereoNet(nn.Module):
    """Base of all stereo networks.

    ``forward`` is inference, ``forward_train`` gives the loss its inputs. ``max_disp`` is a run-time argument where
    ``flexible_range`` says so; elsewhere any other value than the one built for is refused.
    """

    family: ClassVar[str]
    multiple: ClassVar[int] = 32
    flexible_range: ClassVar[bool] = False

    max_disp: int = 192

    def forward(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoOutput:
        raise NotImplementedError

    def forward_train(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoTrainOutput:
        raise NotImplementedError

    def for_export(self) -> StereoNet:
        """What is exported: this network, or a copy that computes the same with less work and cannot be trained."""
        return self

    def check_inputs(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None) -> int:
        """The range to use; refuses shapes and ranges the network cannot take, naming what it can."""
        shape = tuple(left_B3HW.shape)
        if left_B3HW.shape != right_B3HW.shape or len(shape) != 4 or shape[1] != 3:
            raise InputError(
                f"left is {shape} and right is {tuple(right_B3HW.shape)}",
                expected="two (B, 3, H, W) tensors of one shape",
            )
        if shape[2] % self.multiple or shape[3] % self.multiple:
            raise InputError(
                f"input is {shape[2]}x{shape[3]}",
                expected=f"height and width in multiples of {self.multiple}",
                hint="depthlight.load(...).predict pads for you",
            )
        wanted = self.max_disp if max_disp is None else max_disp
        if not self.flexible_range and wanted != self.max_disp:
            raise InputError(f"{self.family} was built for a range of {self.max_disp} px, not {wanted}")
        if wanted <= 0 or wanted % self.multiple:
            raise InputError(f"disparity range is {wanted}", expected=f"a positive multiple of {self.multiple}")
        return wanted


def parameter_count(net: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in net.parameters())


def check_finite(net: nn.Module) -> str | None:
    """Name of the first parameter or buffer that holds NaN or infinity, or None."""
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None
