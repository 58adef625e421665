"""Lite Any Stereo V2, size H (arXiv 2606.24457): size M followed by a few recurrent updates at quarter size.

Shape legend: B batch, G correlation groups, C channels, H W input size, h w = H/4 W/4, D disparity bins, v columns of
the right view, K look-up offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError
from .. import ops
from .base import StereoOutput, StereoTrainOutput
from .las2 import FasterBlock, FasterNetPyramid, LAS2Base, LAS2Config
from .parts import REFINE_CHANNELS, ConvBlock, Pyramid, bilinear_upsample, conv3x3, deconv4x4, image_stem

GROUPS = 8
RADIUS = 4
LEVELS = 2
HIDDEN = 64


@dataclass(frozen=True, kw_only=True)
class LAS2HConfig(LAS2Config):
    """Shape of the network; ``iterations`` is the number of updates."""

    iterations: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1:
            raise ConfigError(f"iterations is {self.iterations}", expected="at least 1")


class Lookup:
    """Matching costs round a disparity: group-wise volume and all pairs at two levels each (IGEV, arXiv 2303.06615)."""

    def __init__(self, volume_BGDhw: Tensor, left_BChw: Tensor, right_BChw: Tensor) -> None:
        left, right = ops.at_least_float32(left_BChw), ops.at_least_float32(right_BChw)
        pairs_Bhvw = right.permute(0, 2, 3, 1) @ left.permute(0, 2, 1, 3) / left.shape[1]
        self.columns_w = torch.arange(left.shape[-1], device=left.device).to(left.dtype)
        self.levels = [(volume_BGDhw, pairs_Bhvw.transpose(1, 2).unsqueeze(1))]
        for _ in range(LEVELS - 1):
            volume, pairs = self.levels[-1]
            self.levels.append((_halve_bins(volume), _halve_bins(pairs)))

    def __call__(self, disp_B1hw: Tensor) -> Tensor:
        """Costs at d + k, k = −4…4, on each level: (B, levels · (G + 1) · 9, h, w)."""
        found = []
        for level, (volume_BGDhw, pairs_B1vhw) in enumerate(self.levels):
            d = disp_B1hw / 2**level
            found.append(sample_window(volume_BGDhw, d))
            found.append(sample_window(pairs_B1vhw, self.columns_w / 2**level - d))
        return torch.cat(found, 1)


def _halve_bins(volume_BGDhw: Tensor) -> Tensor:
    """Mean of each two neighbouring bins; an odd last one is dropped."""
    even = volume_BGDhw.shape[2] // 2 * 2
    return (volume_BGDhw[:, :, 0:even:2] + volume_BGDhw[:, :, 1:even:2]) / 2


def sample_window(volume_BGDhw: Tensor, centre_B1hw: Tensor, radius: int = RADIUS) -> Tensor:
    """Linear samples of each pixel's column of bins at ``centre + k``, k = −radius…radius; zero outside.

    All offsets share one fraction, so 2·radius + 2 whole bins are gathered and neighbours blended.

    Returns:
        (B, G·K, h, w), group-major.
    """
    batch, groups, bins, height, width = volume_BGDhw.shape
    base_B1hw = centre_B1hw.floor()
    offsets_K = torch.arange(-radius, radius + 2, device=centre_B1hw.device).view(-1, 1, 1)
    # far outside is outside: the clamp only keeps the conversion to integers defined
    index_BKhw = base_B1hw.clamp(-radius - 2, bins + radius + 1).long() + offsets_K
    inside_BKhw = (index_BKhw >= 0) & (index_BKhw < bins)
    index_BGKhw = index_BKhw.clamp(0, bins - 1).unsqueeze(1).expand(-1, groups, -1, -1, -1)
    found_BGKhw = volume_BGDhw.gather(2, index_BGKhw) * inside_BKhw.unsqueeze(1).to(volume_BGDhw.dtype)
    fraction = (centre_B1hw - base_B1hw).unsqueeze(1)
    blended = found_BGKhw[:, :, :-1] * (1 - fraction) + found_BGKhw[:, :, 1:] * fraction
    return blended.reshape(batch, groups * (2 * radius + 1), height, width)


class ContextNet(nn.Module):
    """Initial hidden state and constant input of the recurrent unit, from left features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden_conv = nn.Conv2d(channels, HIDDEN, 3, padding=1)
        self.input_conv = nn.Conv2d(channels, HIDDEN, 3, padding=1)

    def forward(self, p2_BChw: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(self.hidden_conv(p2_BChw)), F.relu(self.input_conv(p2_BChw))


class ChannelAttention(nn.Module):
    """A weight per channel from its global mean and maximum (CBAM, arXiv 1807.06521)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(HIDDEN, HIDDEN // 16, 1, bias=False), nn.ReLU(), nn.Conv2d(HIDDEN // 16, HIDDEN, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)) + self.fc(x.amax((2, 3), keepdim=True)))


class SpatialAttention(nn.Module):
    """A weight per pixel from the mean and maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class MotionEncoder(nn.Module):
    """Looked-up costs and the current disparity as 64 channels, the last of them the disparity itself."""

    def __init__(self, costs: int) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(costs, 128, 1)
        self.convc2 = nn.Conv2d(128, 128, 3, padding=1)
        self.convd1 = nn.Conv2d(1, 32, 7, padding=3)
        self.convd2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv = nn.Conv2d(128 + 32, HIDDEN - 1, 1)

    def forward(self, disp_B1hw: Tensor, costs: Tensor) -> Tensor:
        c = F.relu(self.convc2(F.relu(self.convc1(costs))))
        d = F.relu(self.convd2(F.relu(self.convd1(disp_B1hw))))
        return torch.cat([F.relu(self.conv(torch.cat([c, d], 1))), disp_B1hw], 1)


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit whose gates see a mixed copy of state and input."""

    def __init__(self, inputs: int, kernel: int) -> None:
        super().__init__()
        self.convz, self.convr, self.convq = (
            nn.Conv2d(HIDDEN + inputs, HIDDEN, kernel, padding=kernel // 2) for _ in range(3)
        )

    def forward(self, h: Tensor, x: Tensor, hx: Tensor) -> Tensor:
        z, r = torch.sigmoid(self.convz(hx)), torch.sigmoid(self.convr(hx))
        q = torch.tanh(self.convq(torch.cat([r * h, x], 1)))
        return (1 - z) * h + z * q


class SelectiveGRU(nn.Module):
    """A narrow and a wide unit, blended by the attention map (Selective-Stereo, arXiv 2403.00486)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.ReLU())
        self.conv1 = nn.Sequential(nn.Conv2d(inputs + HIDDEN, inputs + HIDDEN, 3, padding=1), nn.ReLU())
        self.small_gru = ConvGRU(inputs, 1)
        self.large_gru = ConvGRU(inputs, 3)

    def forward(self, attention: Tensor, h: Tensor, x: Tensor) -> Tensor:
        x = self.conv0(x)
        hx = self.conv1(torch.cat([x, h], 1))
        return attention * self.small_gru(h, x, hx) + (1 - attention) * self.large_gru(h, x, hx)  # type: ignore[no-any-return]


class DisparityHead(nn.Module):
    """The change of disparity that the hidden state asks for."""

    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.ReLU(),
            FasterBlock(HIDDEN, ratio),
            FasterBlock(HIDDEN, ratio),
            nn.Conv2d(HIDDEN, 1, 3, padding=1),
        )

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(h)  # type: ignore[no-any-return]


class UpdateBlock(nn.Module):
    """One recurrent update."""

    def __init__(self, ratio: int) -> None:
        super().__init__()
        self.encoder = MotionEncoder(LEVELS * (GROUPS + 1) * (2 * RADIUS + 1))
        self.gru04 = SelectiveGRU(2 * HIDDEN)
        self.disp_head = DisparityHead(ratio)
        self.mask = nn.Sequential(
            nn.Conv2d(HIDDEN, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, REFINE_CHANNELS, 3, padding=1), nn.ReLU()
        )

    def forward(
        self, h: Tensor, context: Tensor, attention: Tensor, costs: Tensor, disp_B1hw: Tensor
    ) -> tuple[Tensor, Tensor]:
        motion = self.encoder(disp_B1hw, costs)
        h = self.gru04(attention, h, torch.cat([context, motion], 1))
        return h, ops.at_least_float32(self.disp_head(h))


class SpxUp(nn.Module):
    """Doubles the mask features and joins the image stem."""

    def __init__(self) -> None:
        super().__init__()
        c = REFINE_CHANNELS
        self.conv1 = ConvBlock(deconv4x4(c, c), act=nn.LeakyReLU())
        self.conv2 = ConvBlock(conv3x3(2 * c, 2 * c), act=nn.LeakyReLU())

    def forward(self, mask: Tensor, stem: Tensor) -> Tensor:
        return self.conv2(torch.cat([self.conv1(mask), stem], 1))  # type: ignore[no-any-return]


class LAS2H(LAS2Base):
    """11.6 M parameters, four updates.

    ``forward_train`` gives, in this order: the updates at full size, last (the answer) to first, then the initial
    disparity bilinearly enlarged. Logits and confidence are those of the initial disparity.
    """

    family: ClassVar[str] = "las2-h"
    config_class = LAS2HConfig
    config: LAS2HConfig

    def __init__(self, config: LAS2HConfig | None = None) -> None:
        super().__init__(config)
        self.stem_2 = image_stem(nn.InstanceNorm2d)
        self.spx_2_gru = SpxUp()
        self.spx_gru = deconv4x4(2 * REFINE_CHANNELS, 9, bias=True)
        self.cnet = ContextNet(FasterNetPyramid.channels[0])
        self.cam = ChannelAttention()
        self.sam = SpatialAttention()
        self.update_block = UpdateBlock(self.config.mlp_ratio)

    def forward(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoOutput:
        self.check_inputs(left_B3HW, right_B3HW, max_disp)
        image, left, right_p2 = self.features(left_B3HW, right_B3HW)
        logits_BDhw, updates = self._iterate(left, right_p2)
        disp_B1hw, h = updates[-1]
        _, confidence_B1hw = ops.local_soft_argmax(logits_BDhw)
        return StereoOutput(self._upsample(disp_B1hw, h, self.stem_2(image)), confidence_B1hw)

    def forward_train(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoTrainOutput:
        self.check_inputs(left_B3HW, right_B3HW, max_disp)
        image, left, right_p2 = self.features(left_B3HW, right_B3HW)
        logits_BDhw, updates = self._iterate(left, right_p2)
        stem = self.stem_2(image)
        full = [self._upsample(disp_B1hw, h, stem) for disp_B1hw, h in reversed(updates)]
        initial = bilinear_upsample(ops.soft_argmin(logits_BDhw))
        return StereoTrainOutput((*full, initial), logits_BDhw, left)

    def _iterate(self, left: Pyramid, right_p2: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Scores of the initial disparity, and (quarter-size disparity, hidden state) after each update."""
        volume_BGDhw = ops.correlation_volume(left[0], right_p2, self.max_disp // 4, GROUPS)
        logits_BDhw = self.aggregate(volume_BGDhw.mean(1), left)
        lookup = Lookup(volume_BGDhw, left[0], right_p2)
        h, context = self.cnet(left[0])
        context = context * self.cam(context)
        attention = self.sam(context)
        disp_B1hw = ops.soft_argmin(logits_BDhw)
        updates = []
        for _ in range(self.config.iterations):
            disp_B1hw = disp_B1hw.detach()  # each update learns from its own error only, as in RAFT
            h, delta_B1hw = self.update_block(h, context, attention, lookup(disp_B1hw), disp_B1hw)
            disp_B1hw = disp_B1hw + delta_B1hw
            updates.append((disp_B1hw, h))
        return logits_BDhw, updates

    def _upsample(self, disp_B1hw: Tensor, h: Tensor, stem: Tensor) -> Tensor:
        mask = 0.25 * self.update_block.mask(h)
        return ops.convex_upsample_full(disp_B1hw, self.spx_gru(self.spx_2_gru(mask, stem)))
