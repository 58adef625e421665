"""Building blocks the Lite Any Stereo networks share, and the frame they stand in.

Module names are those of the official checkpoints (arXiv 2511.16555, 2606.24457), so a state dict fits without an
adapter; that is where names such as ``block`` or ``att4`` come from.

Shape legend: B batch, C channels, H W input size, h w = H/4 W/4, D disparity bins; p2 p3 p4 c5 are the features at
1/4, 1/8, 1/16 and 1/32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError
from .. import ops
from .base import StereoNet, StereoOutput, StereoTrainOutput

Pyramid = tuple[Tensor, Tensor, Tensor, Tensor]
REFINE_CHANNELS = 16


def check_blocks(blocks: tuple[int, ...], max_disp: int) -> None:
    """Refuse an aggregation that cannot be built."""
    if len(blocks) != 3 or min(blocks) < 1:
        raise ConfigError(f"blocks is {blocks}", expected="three counts, each at least 1")
    if max_disp <= 0 or max_disp % 32:
        raise ConfigError(f"max_disp is {max_disp}", expected="a positive multiple of 32")


class ConvBlock(nn.Module):
    """Convolution without bias, then norm and activation where given."""

    def __init__(self, conv: nn.Module, norm: nn.Module | None = None, act: nn.Module | None = None) -> None:
        super().__init__()
        self.block = nn.Sequential(*(part for part in (conv, norm, act) if part is not None))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


def conv3x3(cin: int, cout: int, stride: int = 1, **options: Any) -> nn.Conv2d:
    """3×3 convolution without bias that keeps the size (or halves it)."""
    return nn.Conv2d(cin, cout, 3, stride, 1, bias=False, **options)


def deconv4x4(cin: int, cout: int, *, bias: bool = False) -> nn.ConvTranspose2d:
    """4×4 transposed convolution that doubles the size."""
    return nn.ConvTranspose2d(cin, cout, 4, 2, 1, bias=bias)


def deconv3x3(cin: int, cout: int) -> nn.ConvTranspose2d:
    """3×3 transposed convolution that doubles the size, without bias."""
    return nn.ConvTranspose2d(cin, cout, 3, 2, 1, output_padding=1, bias=False)


class FPNLayer(nn.Module):
    """Top-down step: double the coarse map, concatenate behind the finer one, mix."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.deconv = ConvBlock(deconv4x4(low, high), nn.BatchNorm2d(high), nn.LeakyReLU(0.2))
        self.conv = ConvBlock(conv3x3(2 * high, high), nn.BatchNorm2d(high), nn.LeakyReLU(0.2))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return self.conv(torch.cat([high, self.deconv(low)], 1))  # type: ignore[no-any-return]


class FeaturePyramid(nn.Module):
    """A backbone's four maps, merged top-down. Subclasses provide the backbone through :meth:`taps`."""

    def add_top_down(self, channels: tuple[int, int, int, int]) -> None:
        """Build the top-down path; called after the backbone, as in the official key order."""
        c2, c3, c4, c5 = channels
        self.fpn_layer4 = FPNLayer(c5, c4)
        self.fpn_layer3 = FPNLayer(c4, c3)
        self.fpn_layer2 = FPNLayer(c3, c2)
        self.out_conv = ConvBlock(conv3x3(c2, c2, padding_mode="replicate"), nn.InstanceNorm2d(c2))

    def taps(self, image_B3HW: Tensor) -> Pyramid:
        """The backbone's maps at 1/4, 1/8, 1/16 and 1/32."""
        raise NotImplementedError

    def forward(self, image_B3HW: Tensor) -> Pyramid:
        c2, c3, c4, c5 = self.taps(image_B3HW)
        p4 = self.fpn_layer4(c5, c4)
        p3 = self.fpn_layer3(p4, c3)
        p2 = self.fpn_layer2(p3, c2)
        return self.out_conv(p2), p3, p4, c5


class StripAttention(nn.Module):
    """Multiplies the cost by a map made from left features with long thin kernels (LightStereo, arXiv 2406.19833)."""

    def __init__(self, cost: int, feat: int) -> None:
        super().__init__()

        def strip(height: int, width: int) -> nn.Conv2d:
            return nn.Conv2d(cost, cost, (height, width), padding=(height // 2, width // 2), groups=cost)

        self.conv0 = nn.Conv2d(feat, cost, 1)
        self.conv0_1, self.conv0_2 = strip(1, 7), strip(7, 1)
        self.conv1_1, self.conv1_2 = strip(1, 11), strip(11, 1)
        self.conv2_1, self.conv2_2 = strip(1, 21), strip(21, 1)
        self.conv3 = nn.Conv2d(cost, cost, 1)

    def forward(self, cost: Tensor, feat: Tensor) -> Tensor:
        x = self.conv0(feat)
        x7 = self.conv0_2(self.conv0_1(x))
        x11 = self.conv1_2(self.conv1_1(x))
        x21 = self.conv2_2(self.conv2_1(x))
        return cost * self.conv3(x + x7 + x11 + x21)  # type: ignore[no-any-return]


def image_stem(norm: type[nn.BatchNorm2d] | type[nn.InstanceNorm2d]) -> nn.Sequential:
    """16 channels of the left image at half size, for the upsampling weights."""
    c = REFINE_CHANNELS
    return nn.Sequential(
        ConvBlock(conv3x3(3, c, stride=2), norm(c), nn.LeakyReLU()),
        ConvBlock(conv3x3(c, c), norm(c), nn.ReLU()),
    )


class LiteAnyStereo(StereoNet):
    """The frame of LAS1 and LAS2: correlation, aggregation with disparity as channels, soft argmin, 9-tap upsampling.

    ``forward_train`` gives two disparities: the convex one (the answer) and the quarter-size one bilinearly enlarged.
    ``features`` is (p2, p3, p4, c5) of the left view.
    """

    fnet: FeaturePyramid

    def add_refinement(self, channels: int) -> None:
        """Build the path from left features and image to the upsampling weights."""
        self.refine_1 = nn.Sequential(
            ConvBlock(conv3x3(channels, channels), nn.InstanceNorm2d(channels), nn.LeakyReLU()),
            ConvBlock(conv3x3(channels, channels), nn.InstanceNorm2d(channels), nn.ReLU()),
        )
        self.stem_2 = image_stem(nn.BatchNorm2d)
        self.refine_2 = FPNLayer(channels, REFINE_CHANNELS)
        self.refine_3 = ConvBlock(deconv4x4(REFINE_CHANNELS, 9))

    def normalise(self, image_B3HW: Tensor) -> Tensor:
        """RGB 0..255 as the backbone wants it."""
        raise NotImplementedError

    def aggregate(self, volume_BDhw: Tensor, left: Pyramid) -> Tensor:
        """Correlation and left features to scores per disparity bin (B, D, h, w)."""
        raise NotImplementedError

    def features(self, left_B3HW: Tensor, right_B3HW: Tensor) -> tuple[Tensor, Pyramid, Tensor]:
        """Normalised left image, left pyramid, right p2; both views go through the backbone as one batch."""
        images = self.normalise(torch.cat([left_B3HW, right_B3HW]))
        batch = left_B3HW.shape[0]
        p2, p3, p4, c5 = self.fnet(images)
        return images[:batch], (p2[:batch], p3[:batch], p4[:batch], c5[:batch]), p2[batch:]

    def scores(self, left: Pyramid, right_p2_BChw: Tensor) -> Tensor:
        """Scores per disparity bin before the softmax (B, D, h, w)."""
        volume_B1Dhw = ops.correlation_volume(left[0], right_p2_BChw, self.max_disp // 4)
        return self.aggregate(volume_B1Dhw[:, 0], left)

    def upsample(self, disp_B1hw: Tensor, image_B3HW: Tensor, p2_BChw: Tensor) -> Tensor:
        """Quarter-size disparity to full size, with weights from the left view."""
        weights_B9HW = self.refine_3(self.refine_2(self.refine_1(p2_BChw), self.stem_2(image_B3HW)))
        return ops.convex_upsample_full(disp_B1hw, weights_B9HW)

    def forward(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoOutput:
        self.check_inputs(left_B3HW, right_B3HW, max_disp)
        image, left, right_p2 = self.features(left_B3HW, right_B3HW)
        logits_BDhw = self.scores(left, right_p2)
        disp_B1hw = ops.soft_argmin(logits_BDhw)
        _, confidence_B1hw = ops.local_soft_argmax(logits_BDhw)
        return StereoOutput(self.upsample(disp_B1hw, image, left[0]), confidence_B1hw)

    def forward_train(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoTrainOutput:
        self.check_inputs(left_B3HW, right_B3HW, max_disp)
        image, left, right_p2 = self.features(left_B3HW, right_B3HW)
        logits_BDhw = self.scores(left, right_p2)
        disp_B1hw = ops.soft_argmin(logits_BDhw)
        full = self.upsample(disp_B1hw, image, left[0])
        return StereoTrainOutput((full, bilinear_upsample(disp_B1hw)), logits_BDhw, left)


def bilinear_upsample(disp_B1hw: Tensor) -> Tensor:
    """Quarter-size disparity enlarged plainly to full size, in full-size px."""
    return F.interpolate(4 * disp_B1hw, scale_factor=4, mode="bilinear", align_corners=False)
