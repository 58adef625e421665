"""Lite Any Stereo, first version (arXiv 2511.16555): MobileNetV2 features, a tiny 3-D stem, ConvNeXt aggregation.

Shape legend: B batch, C channels, H W input size, h w = H/4 W/4, D disparity bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ...core.extras import require
from ..ops import Conv3d
from .parts import FeaturePyramid, LiteAnyStereo, Pyramid, StripAttention, check_blocks, deconv3x3


@dataclass(frozen=True, kw_only=True)
class LAS1Config:
    """Shape of the network.

    ``blocks`` counts the ConvNeXt blocks at 1/4, 1/8 and 1/16; the convolution into a scale counts as one of it.
    """

    blocks: tuple[int, int, int] = (4, 8, 16)
    max_disp: int = 192

    def __post_init__(self) -> None:
        check_blocks(self.blocks, self.max_disp)


class MobileNetPyramid(FeaturePyramid):
    """MobileNetV2 up to its last 160 channels, under the official names."""

    channels = (24, 32, 96, 160)

    def __init__(self) -> None:
        super().__init__()
        timm = require("timm", extra="torch", purpose="the backbone of Lite Any Stereo")
        backbone = timm.create_model("mobilenetv2_100", pretrained=False)
        self.conv_stem, self.bn1 = backbone.conv_stem, backbone.bn1  # bn1 carries the ReLU6
        self.block0, self.block1, self.block2 = backbone.blocks[0], backbone.blocks[1], backbone.blocks[2]
        self.block3, self.block4 = backbone.blocks[3:5], backbone.blocks[5]
        self.add_top_down(self.channels)

    def taps(self, image_B3HW: Tensor) -> Pyramid:
        c2 = self.block1(self.block0(self.bn1(self.conv_stem(image_B3HW))))
        c3 = self.block2(c2)
        c4 = self.block3(c3)
        return c2, c3, c4, self.block4(c4)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7×7, norm, MLP of ratio 4, scaled residual (arXiv 2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(1e-6 * self.norm.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class ConvNeXtUNet(nn.Module):
    """2-D aggregation with disparity as channels, guided by left features at three scales."""

    def __init__(self, bins: int, feat: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv0 = _chain(bins, blocks[0])
        self.conv1 = _halve(bins)
        self.conv2 = _chain(2 * bins, blocks[1] - 1)
        self.conv3 = _halve(2 * bins)
        self.conv4 = _chain(4 * bins, blocks[2] - 1)
        self.upconv1 = nn.Sequential(deconv3x3(4 * bins, 2 * bins))
        self.upconv2 = nn.Sequential(deconv3x3(2 * bins, bins))
        self.redir1 = ConvNeXtBlock(bins)
        self.redir2 = ConvNeXtBlock(2 * bins)
        self.att4 = StripAttention(bins, feat[0])
        self.att8 = StripAttention(2 * bins, feat[1])
        self.att16 = StripAttention(4 * bins, feat[2])

    def forward(self, cost_BDhw: Tensor, left: Pyramid) -> Tensor:
        x4 = self.att4(self.conv0(cost_BDhw), left[0])
        x8 = self.att8(self.conv2(self.conv1(x4)), left[1])
        x16 = self.att16(self.conv4(self.conv3(x8)), left[2])
        up8 = F.relu(self.upconv1(x16) + self.redir2(x8))
        # the finest skip is the input, not the map after attention
        return F.relu(self.upconv2(up8) + self.redir1(cost_BDhw))


def _chain(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ConvNeXtBlock(channels) for _ in range(count)))


def _halve(channels: int) -> nn.Sequential:
    return nn.Sequential(ChannelNorm(channels, eps=1e-6), nn.Conv2d(channels, 2 * channels, 2, 2))


class Conv3dBlock(nn.Module):
    """3×3×3 convolution, batch norm, ReLU6."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = Conv3d(cin, cout, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm3d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.bn(self.conv(x)))


class LAS1(LiteAnyStereo):
    """Lite Any Stereo (7.6 M parameters). ``max_disp`` is fixed when built."""

    family: ClassVar[str] = "las1"

    def __init__(self, config: LAS1Config | None = None) -> None:
        super().__init__()
        self.config = config or LAS1Config()
        self.max_disp = self.config.max_disp
        c2, c3, c4, _ = MobileNetPyramid.channels
        self.fnet = MobileNetPyramid()
        self.cost_agg_2d = ConvNeXtUNet(self.max_disp // 4, (c2, c3, c4), self.config.blocks)
        self.cost_stem_3d = nn.Sequential(Conv3dBlock(1, 4), Conv3dBlock(4, 4), Conv3dBlock(4, 1))
        self.add_refinement(c2)

    def normalise(self, image_B3HW: Tensor) -> Tensor:
        return image_B3HW / 127.5 - 1

    def aggregate(self, volume_BDhw: Tensor, left: Pyramid) -> Tensor:
        return self.cost_agg_2d(self.cost_stem_3d(volume_BDhw[:, None])[:, 0], left)  # type: ignore[no-any-return]
