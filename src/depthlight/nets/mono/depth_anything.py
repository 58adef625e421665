"""Depth Anything (V1 and V2, Small to Large, relative and metric) through transformers, split for refinement.

Yang et al., Depth Anything V2, NeurIPS 2024 (arXiv 2406.09414): a DINOv2 transformer gives four token maps, a DPT neck
and head turn them into relative inverse depth, or into metres for the metric checkpoints.

Shape legend: B batch, C token channels, H W input size (multiples of the patch, 14), h w = H/14, W/14. N = 1 + h·w
tokens, of which the first is the class token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import CheckpointError, InputError
from ...core.extras import require
from ..pretrained import load_transformers
from ..snapshots import Snapshot
from .base import MonoNet, Quantity, TokenMaps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DepthAnythingNet(MonoNet):
    """A ``DepthAnythingForDepthEstimation`` of transformers under our contract.

    ``encode`` gives the backbone's four feature maps (B, C, h, w), all of one size, earliest layer first, without the
    class token, which the neck does not read. ``encode`` and ``decode`` in a row give the whole network's answer to
    the bit. The longest side is the caller's choice; the network was trained at 518 px.

    Args:
        model: the network of transformers.

    Raises:
        CheckpointError: its configuration is of another kind.
    """

    family = "depth-anything"
    splits = True
    mean_311: Tensor
    std_311: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        config: Any = model.config
        if config.model_type != "depth_anything":
            raise CheckpointError(f"a {config.model_type} model", expected="a depth_anything model")
        self.model: Any = model
        self.multiple = int(config.patch_size)
        self.quantity: Quantity = "depth" if config.depth_estimation_type == "metric" else "inverse_depth"
        self.register_buffer("mean_311", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std_311", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def encode(self, image_B3HW: Tensor) -> TokenMaps:
        """Four token maps (B, C, h, w) of sRGB images in 0..1, earliest layer first.

        Raises:
            InputError: a side is no multiple of ``multiple``.
        """
        self.check_input(image_B3HW)
        height, width = (side // self.multiple for side in image_B3HW.shape[-2:])
        pixels_B3HW = (image_B3HW - self.mean_311) / self.std_311
        maps_BNC = self.model.backbone(pixels_B3HW.to(self.model.dtype)).feature_maps
        return [tokens_BNC[:, 1:].transpose(1, 2).unflatten(2, (height, width)) for tokens_BNC in maps_BNC]

    def decode(self, tokens: TokenMaps, size: tuple[int, int]) -> Tensor:
        """Relative inverse depth >= 0, or metres, (B, 1, H, W), from what ``encode`` gave.

        Raises:
            InputError: ``size`` is not the size that was encoded.
        """
        height, width = tokens[0].shape[-2:]
        if (height * self.multiple, width * self.multiple) != tuple(size):
            raise InputError(
                f"token maps of {height}x{width} were asked for {size[0]}x{size[1]} px",
                expected=f"{height * self.multiple}x{width * self.multiple}",
            )
        maps_BNC = [_with_class_token(map_BChw) for map_BChw in tokens]
        fused = self.model.neck(maps_BNC, height, width)
        raw_BHW: Tensor = self.model.head(fused, height, width)
        return raw_BHW.unsqueeze(1)

    def head_parameters(self) -> list[nn.Parameter]:
        """Neck and head: all that lies after the token maps."""
        return [*self.model.neck.parameters(), *self.model.head.parameters()]


def _with_class_token(map_BChw: Tensor) -> Tensor:
    """(B, 1 + h·w, C): the shape the neck takes; it drops the first token, so zeros do."""
    tokens_BNC = map_BChw.flatten(2).transpose(1, 2)
    return torch.cat([torch.zeros_like(tokens_BNC[:, :1]), tokens_BNC], 1)


def load_depth_anything(snapshot: Snapshot) -> DepthAnythingNet:
    """The network of a folder as transformers writes it (``config.json`` and safetensors), in float32.

    Raises:
        CheckpointError: the folder is damaged or of another kind.
    """
    factory = require("transformers", extra="refine").AutoModelForDepthEstimation
    return DepthAnythingNet(load_transformers(factory, snapshot.folder, source=snapshot.source))
