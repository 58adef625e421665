"""Our own small single-image network (family ``mono``): relative inverse depth >= 0 at a few million parameters.

An EfficientNet-lite0 encoder (from ImageNet weights, :mod:`.imagenet`), two attention blocks over its coarsest map for
the view of the whole image, and a light DPT-like decoder (arXiv 2103.13413) of dense 3x3 convolutions.

``encode`` gives four token maps at strides 4, 8, 16, 32, finest first, of about unit variance. ``decode`` has no
normalisation over the image, so it commutes with cropping up to its receptive field.

Shape legend: B batch, C channels, H W input size (multiples of 32), h w a token map, N = h·w.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import ConfigError
from ...core.extras import require
from .base import MonoNet, TokenMaps

MEAN, SPREAD = 127 / 255, 128 / 255  # EfficientNet-lite's normalisation, (x255 - 127) / 128


@dataclass(frozen=True, kw_only=True)
class MonoSmallConfig:
    """``widths`` are the channels of the token maps at strides 4, 8, 16, 32, ``blocks`` the residual units of the
    decoder there; ``context`` attention blocks of ``heads`` heads run at stride 32; ``last`` channels at stride 2.
    ``working`` is the longest side (px) that images are brought to for prediction: near what it was trained on."""

    backbone: str = "efficientnet_lite0"
    widths: tuple[int, int, int, int] = (48, 64, 96, 160)
    blocks: tuple[int, int, int, int] = (1, 1, 2, 2)
    context: int = 2
    heads: int = 4
    last: int = 24
    working: int = 384

    def __post_init__(self) -> None:
        if min(*self.widths, self.heads, self.last) < 1 or min(*self.blocks, self.context) < 0:
            raise ConfigError("mono network: widths, heads, last must be at least 1, blocks and context 0 or more")
        if self.working < MonoNet.multiple:
            raise ConfigError(f"mono network: working is {self.working}", expected=f"at least {MonoNet.multiple} px")
        if self.widths[3] % self.heads:
            raise ConfigError(f"{self.widths[3]} channels over {self.heads} heads", expected="a multiple")
        if not self.backbone.startswith("efficientnet_lite"):
            raise ConfigError(f"mono network: backbone is {self.backbone!r}", expected="an efficientnet_lite of timm")


class MonoSmall(MonoNet):
    """The network: 4.9 M parameters; ``encode`` and ``decode`` take 0.65 GMACs each at 256×320 (default sizes)."""

    family = "mono"

    def __init__(self, config: MonoSmallConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MonoSmallConfig()
        self.working = config.working
        self.encoder = make_encoder(config.backbone)
        channels: list[int] = self.encoder.feature_info.channels()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i + 2, o, 1, bias=False), nn.BatchNorm2d(o))
            for i, o in zip(channels, config.widths, strict=True)
        )
        self.context = nn.Sequential(*(Attention(config.widths[3], config.heads) for _ in range(config.context)))
        self.decoder = Decoder(config)

    def encode(self, image_B3HW: Tensor) -> TokenMaps:
        self.check_input(image_B3HW)
        maps = self.encoder((image_B3HW - MEAN) / SPREAD)
        tokens = [lateral(torch.cat([m, coordinates(m)], 1)) for lateral, m in zip(self.lateral, maps, strict=True)]
        return [*tokens[:3], self.context(tokens[3])]

    def decode(self, tokens: TokenMaps, size: tuple[int, int]) -> Tensor:
        raw: Tensor = self.decoder(tokens, size)
        return raw

    def freeze_early(self, blocks: int) -> None:
        """Keep the encoder's stem and first ``blocks`` stages as they are: they see edges, and cost most to train."""
        for part in (self.encoder.conv_stem, self.encoder.bn1, *self.encoder.blocks[:blocks]):
            part.requires_grad_(blocks == 0)

    def train(self, mode: bool = True) -> MonoSmall:
        """As always, but what is frozen also keeps its BatchNorm statistics."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.decoder.parameters())


def make_encoder(backbone: str) -> Any:
    """The timm encoder with random weights, giving maps at strides 4, 8, 16, 32.

    Raises:
        MissingExtraError: timm is not installed.
    """
    timm = require("timm", extra="torch", purpose="the encoder of the mono network is timm's")
    return timm.create_model(backbone, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))


def coordinates(feat_BChw: Tensor) -> Tensor:
    """Row and column of each pixel in -1..1, (B, 2, h, w): photos have a ground and a sky."""
    batch, _, height, width = feat_BChw.shape
    y = torch.linspace(-1, 1, height, device=feat_BChw.device, dtype=feat_BChw.dtype)
    x = torch.linspace(-1, 1, width, device=feat_BChw.device, dtype=feat_BChw.dtype)
    grid = torch.stack([y[:, None].expand(height, width), x[None].expand(height, width)])
    return grid.expand(batch, 2, height, width)


class Attention(nn.Module):
    """A pre-norm transformer block over all pixels of a small map, with a depthwise convolution for the places."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, feat_BChw: Tensor) -> Tensor:
        batch, width, height, columns = feat_BChw.shape
        x = (feat_BChw + self.place(feat_BChw)).flatten(2).transpose(1, 2)  # (B, N, C)
        mixed = self.mix(self.norm(x)).view(batch, -1, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        x = x + self.join(seen.transpose(1, 2).reshape(batch, -1, width))
        x = x + self.mlp(x)
        out_BChw: Tensor = x.transpose(1, 2).reshape(batch, width, height, columns)
        return out_BChw


class Unit(nn.Module):
    """Residual unit: two dense 3x3 convolutions, ReLU before each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class Decoder(nn.Module):
    """Token maps to relative inverse depth, from the coarsest to stride 2, then enlarged to the input size."""

    def __init__(self, config: MonoSmallConfig) -> None:
        super().__init__()
        widths = config.widths
        self.units = nn.ModuleList(
            nn.Sequential(*(Unit(width) for _ in range(count)))
            for width, count in zip(widths, config.blocks, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(widths[0], config.last, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(
            nn.Conv2d(config.last, config.last, 3, padding=1), nn.ReLU(), nn.Conv2d(config.last, 1, 1)
        )

    def forward(self, tokens: TokenMaps, size: tuple[int, int]) -> Tensor:
        x = self.units[3](tokens[3])
        for level in (2, 1, 0):
            x = enlarge(self.down[level](x), tokens[level].shape[-2:]) + tokens[level]
            x = self.units[level](x)
        x = enlarge(self.head(x), (size[0] // 2, size[1] // 2))
        # Softplus: >= 0 like ReLU, and nothing that is far can die.
        return enlarge(F.softplus(self.last(x)).float(), size)


def enlarge(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear, corners of pixels aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
