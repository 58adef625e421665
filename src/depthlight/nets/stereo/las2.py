"""Lite Any Stereo V2 in sizes S, M and L (arXiv 2606.24457): FasterNet features, FasterNet aggregation, no 3-D part.

Shape legend: B batch, C channels, H W input size, h w = H/4 W/4, D disparity bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.extras import require
from .parts import FeaturePyramid, LiteAnyStereo, Pyramid, StripAttention, check_blocks, conv3x3, deconv3x3

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class LAS2Config:
    """Shape of the network.

    ``blocks`` counts the FasterNet blocks at 1/4, 1/8 and 1/16 (the one that halves the size included),
    ``mlp_ratio`` is their widening.
    """

    blocks: tuple[int, int, int] = (4, 8, 16)
    mlp_ratio: int = 4
    max_disp: int = 192

    def __post_init__(self) -> None:
        check_blocks(self.blocks, self.max_disp)
        if self.mlp_ratio < 1:
            raise ConfigError(f"mlp_ratio is {self.mlp_ratio}", expected="at least 1")


class FasterNetPyramid(FeaturePyramid):
    """FasterNet-T0's four stages."""

    channels = (40, 80, 160, 320)

    def __init__(self) -> None:
        super().__init__()
        timm = require("timm", extra="torch", purpose="the backbone of Lite Any Stereo")
        self.backbone = timm.create_model("fasternet_t0", pretrained=False, features_only=True)
        self.add_top_down(self.channels)

    def taps(self, image_B3HW: Tensor) -> Pyramid:
        c2, c3, c4, c5 = self.backbone(image_B3HW)
        return c2, c3, c4, c5


class PartialConv(nn.Module):
    """3×3 convolution of the first quarter of the channels; the rest passes (arXiv 2303.03667)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = [channels // 4, channels - channels // 4]
        self.partial_conv3 = conv3x3(self.split[0], self.split[0])

    def forward(self, x: Tensor) -> Tensor:
        first, rest = torch.split(x, self.split, 1)
        return torch.cat([self.partial_conv3(first), rest], 1)


class PartialMLP(nn.Module):
    """x + MLP(partial(x)), the MLP of 1×1 convolutions."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.spatial_mixing = PartialConv(channels)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, ratio * channels, 1, bias=False),
            nn.BatchNorm2d(ratio * channels),
            nn.GELU(),
            nn.Conv2d(ratio * channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.spatial_mixing(x))  # type: ignore[no-any-return]


class FasterBlock(nn.Module):
    """One block at constant size."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.block = PartialMLP(channels, ratio)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class FasterDown(nn.Module):
    """Half the size, twice the channels, then a block."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(conv3x3(channels, 2 * channels, stride=2), nn.BatchNorm2d(2 * channels))
        self.block = PartialMLP(2 * channels, ratio)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.proj(x))  # type: ignore[no-any-return]


class FasterUNet(nn.Module):
    """2-D aggregation with disparity as channels, guided by left features at three scales."""

    def __init__(self, bins: int, feat: tuple[int, int, int], blocks: tuple[int, int, int], ratio: int) -> None:
        super().__init__()
        self.conv0 = _chain(bins, blocks[0], ratio)
        self.conv1 = FasterDown(bins, ratio)
        self.conv2 = _chain(2 * bins, blocks[1] - 1, ratio)
        self.conv3 = FasterDown(2 * bins, ratio)
        self.conv4 = _chain(4 * bins, blocks[2] - 1, ratio)
        self.conv5 = nn.Sequential(deconv3x3(4 * bins, 2 * bins), nn.BatchNorm2d(2 * bins))
        self.conv6 = nn.Sequential(deconv3x3(2 * bins, bins), nn.BatchNorm2d(bins))
        self.redir1 = FasterBlock(bins, ratio)
        self.redir2 = FasterBlock(2 * bins, ratio)
        self.att0 = StripAttention(bins, feat[0])
        self.att2 = StripAttention(2 * bins, feat[1])
        self.att4 = StripAttention(4 * bins, feat[2])

    def forward(self, cost_BDhw: Tensor, left: Pyramid) -> Tensor:
        x4 = self.att0(self.conv0(cost_BDhw), left[0])
        x8 = self.att2(self.conv2(self.conv1(x4)), left[1])
        x16 = self.att4(self.conv4(self.conv3(x8)), left[2])
        up8 = F.relu(self.conv5(x16) + self.redir2(x8))
        return F.relu(self.conv6(up8) + self.redir1(x4))


def _chain(channels: int, count: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(*(FasterBlock(channels, ratio) for _ in range(count)))


class LAS2Base(LiteAnyStereo):
    """What S, M, L and H share: features and aggregation. ``max_disp`` is fixed when built."""

    config_class: ClassVar[type[LAS2Config]]

    def __init__(self, config: LAS2Config | None = None) -> None:
        super().__init__()
        self.config = config or self.config_class()
        self.max_disp = self.config.max_disp
        c2, c3, c4, _ = FasterNetPyramid.channels
        self.fnet = FasterNetPyramid()
        self.cost_agg = FasterUNet(self.max_disp // 4, (c2, c3, c4), self.config.blocks, self.config.mlp_ratio)

    def normalise(self, image_B3HW: Tensor) -> Tensor:
        mean = image_B3HW.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
        std = image_B3HW.new_tensor(IMAGENET_STD).view(3, 1, 1)
        return (image_B3HW / 255 - mean) / std

    def aggregate(self, volume_BDhw: Tensor, left: Pyramid) -> Tensor:
        return self.cost_agg(volume_BDhw, left)  # type: ignore[no-any-return]


class LAS2(LAS2Base):
    """LAS2 without iterations."""

    def __init__(self, config: LAS2Config | None = None) -> None:
        super().__init__(config)
        self.add_refinement(FasterNetPyramid.channels[0])


@dataclass(frozen=True, kw_only=True)
class LAS2SConfig(LAS2Config):
    """Size S."""

    blocks: tuple[int, int, int] = (1, 2, 4)


class LAS2S(LAS2):
    """6.0 M parameters."""

    family: ClassVar[str] = "las2-s"
    config_class = LAS2SConfig


@dataclass(frozen=True, kw_only=True)
class LAS2MConfig(LAS2Config):
    """Size M."""


class LAS2M(LAS2):
    """10.4 M parameters."""

    family: ClassVar[str] = "las2-m"
    config_class = LAS2MConfig


@dataclass(frozen=True, kw_only=True)
class LAS2LConfig(LAS2Config):
    """Size L."""

    blocks: tuple[int, int, int] = (8, 16, 32)
    mlp_ratio: int = 8


class LAS2L(LAS2):
    """27.1 M parameters."""

    family: ClassVar[str] = "las2-l"
    config_class = LAS2LConfig
