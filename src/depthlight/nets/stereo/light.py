"""``light``: our own stereo network, built to learn from few samples.

Three choices make it learn from a thousandth of the usual data (docs/explanation/light.md):

- the matching cost is a group-wise correlation of L2-normalised features, so brightness and contrast cancel early;
- the aggregation is a small 3-D hourglass, which treats every disparity alike, so what is learned at 10 px holds at
  100 px, and the range stays a run-time argument;
- the left image steers the aggregation through a sigmoid gate at each scale and draws the edges in the convex
  upsampling, the only place where 2-D detail enters.

There is no InstanceNorm: nothing depends on the statistics of the whole picture, so padding and tiling change nothing
far from their borders.

Shape legend: B batch, C channels, H W input size, h w = H/4 W/4, D disparity bins = max_disp/4, G correlation groups.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import ConfigError
from ..ops import (
    Conv3d,
    at_least_float32,
    conv3d,
    convex_upsample_quarter,
    correlation_volume,
    local_soft_argmax,
    soft_argmin,
)
from .base import StereoNet, StereoOutput, StereoTrainOutput


@dataclass(frozen=True, kw_only=True)
class LightConfig:
    """Widths of the network.

    ``pyramid`` are the feature channels at 1/2, 1/4, 1/8, 1/16, 1/32 of the input; ``match`` channels in ``groups``
    groups are correlated; ``volume`` are the channels of the 3-D hourglass at 1/4, 1/8, 1/16, 1/32 (of height, width
    and disparity bins alike); ``upsample`` is the hidden width of the convex upsampling. ``thin`` leaves out the
    convolution of the volume at 1/4, whose channels are then the groups themselves, and the second one at 1/8, adds the
    hourglass's skips instead of concatenating them, and leaves the volume by kernels of one bin. ``deeper`` counts the
    residual blocks at 1/32 and, on the way up, at 1/16, which carry disparities far into surfaces that match nothing.
    """

    pyramid: tuple[int, int, int, int, int] = (24, 32, 64, 96, 128)
    match: int = 64
    groups: int = 8
    volume: tuple[int, int, int, int] = (8, 16, 32, 48)
    upsample: int = 48
    thin: bool = False
    deeper: tuple[int, int] = (3, 1)
    max_disp: int = 192

    def __post_init__(self) -> None:
        if self.thin and self.volume[0] != self.groups:
            raise ConfigError(f"volume begins with {self.volume[0]}", expected=f"groups ({self.groups}): it is thin")
        if min(self.deeper) < 0:
            raise ConfigError(f"deeper is {self.deeper}", expected="two counts, 0 or more")
        if self.match % self.groups:
            raise ConfigError(f"match is {self.match}", expected=f"a multiple of groups ({self.groups})")
        if self.max_disp <= 0 or self.max_disp % 32:
            raise ConfigError(f"max_disp is {self.max_disp}", expected="a positive multiple of 32")


@dataclass(frozen=True, kw_only=True)
class LightSConfig(LightConfig):
    """Size S: 6.4 GMACs at 384×1248 and 0.67 M parameters, where the default has 23.8 and 2.02.

    Thinned where the time goes and not where the learning comes from. At 1/4 a convolution of the volume fills half or
    less of the processor's lanes and moves the most memory: there is none but the last one, which sees one bin at a
    time, and there are half as many groups. The hourglass has one convolution less at 1/8, and its skips are added,
    which halves the largest one; it has no residual blocks. The rest is saved in the features at 1/4 and 1/8, which
    both views pay for; widths are multiples of 16, the lanes.
    """

    pyramid: tuple[int, int, int, int, int] = (16, 16, 32, 64, 96)
    match: int = 32
    groups: int = 4
    volume: tuple[int, int, int, int] = (4, 16, 24, 32)
    upsample: int = 24
    thin: bool = True
    deeper: tuple[int, int] = (0, 0)


def _conv2d(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def _conv3d(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv3d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm3d(cout), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3x3 convolutions round an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv2d(channels, channels)
        self.project = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.project(self.conv(x)))


class TopDown(nn.Module):
    """One step of the feature pyramid: the coarse map, enlarged by nearest neighbour, merged into the fine one."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(coarse, fine, 1, bias=False)
        self.merge = _conv2d(2 * fine, fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        enlarged = F.interpolate(self.project(coarse), scale_factor=2, mode="nearest")
        return self.merge(torch.cat([enlarged, fine], 1))  # type: ignore[no-any-return]


class Features(nn.Module):
    """Dense 3x3 residual pyramid with a top-down path; returns maps at 1/4, 1/8, 1/16, 1/32.

    Dense rather than depthwise convolutions: on CPUs they run about five times faster per multiplication in training.
    """

    def __init__(self, channels: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        c2, c4, c8, c16, c32 = channels
        self.stem = _conv2d(3, c2, 2)
        self.down4 = nn.Sequential(_conv2d(c2, c4, 2), Residual(c4))
        self.down8 = nn.Sequential(_conv2d(c4, c8, 2), Residual(c8), Residual(c8))
        self.down16 = nn.Sequential(_conv2d(c8, c16, 2), Residual(c16), Residual(c16))
        self.down32 = nn.Sequential(_conv2d(c16, c32, 2), Residual(c32))
        self.up16 = TopDown(c32, c16)
        self.up8 = TopDown(c16, c8)
        self.up4 = TopDown(c8, c4)

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x4 = self.down4(self.stem(image_B3HW))
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x32 = self.down32(x16)
        x16 = self.up16(x32, x16)
        x8 = self.up8(x16, x8)
        x4 = self.up4(x8, x4)
        return x4, x8, x16, x32


class Gate(nn.Module):
    """The left view's features as a sigmoid gate on the volume's channels, the same for all disparities."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(features, channels, 1)

    def forward(self, volume_BCDhw: Tensor, feat_BChw: Tensor) -> Tensor:
        return volume_BCDhw * torch.sigmoid(self.project(feat_BChw))[:, :, None]


class Residual3d(nn.Module):
    """Two 3-D convolutions round an identity, gated by the left features; begins as the identity."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv = _conv3d(channels, channels)
        norm = nn.BatchNorm3d(channels)
        nn.init.zeros_(norm.weight)
        self.project = nn.Sequential(Conv3d(channels, channels, 3, 1, 1, bias=False), norm)
        self.gate = Gate(features, channels)

    def forward(self, x_BCDhw: Tensor, feat_BChw: Tensor) -> Tensor:
        return F.relu(x_BCDhw + self.gate(self.project(self.conv(x_BCDhw)), feat_BChw))


class Hourglass(nn.Module):
    """3-D aggregation over four scales, gated by the left features on the way down; returns logits over disparity."""

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        v4, v8, v16, v32 = config.volume
        self.thin = config.thin
        joined = 1 if config.thin else 2
        self.enter = nn.Identity() if config.thin else _conv3d(config.groups, v4)
        self.down8 = nn.Sequential(_conv3d(v4, v8, 2), *([] if config.thin else [_conv3d(v8, v8)]))
        self.down16 = nn.Sequential(_conv3d(v8, v16, 2), _conv3d(v16, v16))
        self.down32 = nn.Sequential(_conv3d(v16, v32, 2), _conv3d(v32, v32))
        self.gates = nn.ModuleList(Gate(f, v) for f, v in zip(config.pyramid[1:], config.volume, strict=True))
        self.deeper32 = nn.ModuleList(Residual3d(v32, config.pyramid[4]) for _ in range(config.deeper[0]))
        self.deeper16 = nn.ModuleList(Residual3d(v16, config.pyramid[3]) for _ in range(config.deeper[1]))
        self.up16 = nn.ConvTranspose3d(v32, v16, 2, 2)
        self.merge16 = _conv3d(joined * v16, v16)
        self.up8 = nn.ConvTranspose3d(v16, v8, 2, 2)
        self.merge8 = _conv3d(joined * v8, v8)
        self.up4 = nn.ConvTranspose3d(v8, v4, 2, 2, bias=not config.thin)
        if config.thin:
            self.leave = Conv3d(v4, 1, (1, 3, 3), 1, (0, 1, 1), bias=False)
            self.beside = Conv3d(v4, 1, 1)  # of the fine map
        else:
            self.leave = Conv3d(2 * v4, 1, 3, 1, 1)
        self.folded_exit: FoldedExit | None = None  # only in an exported copy

    def forward(self, volume_BGDhw: Tensor, features: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        f4, f8, f16, f32 = features
        v4 = self.gates[0](self.enter(volume_BGDhw), f4)
        v8 = self.gates[1](self.down8(v4), f8)
        v16 = self.gates[2](self.down16(v8), f16)
        v32 = self.gates[3](self.down32(v16), f32)
        for block in self.deeper32:
            v32 = block(v32, f32)
        y16 = self.merge16(self._join(self.up16(v32), v16))
        for block in self.deeper16:
            y16 = block(y16, f16)
        y8 = self.merge8(self._join(self.up8(y16), v8))
        if self.folded_exit is not None:
            return self.folded_exit(y8, v4)  # type: ignore[no-any-return]
        return self._exit(y8, v4)

    def _join(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return coarse + fine if self.thin else torch.cat([coarse, fine], 1)

    def _exit(self, coarse_BCdij: Tensor, fine_BCDhw: Tensor) -> Tensor:
        """``up4``, the fine map beside it and ``leave``, with less work (see :func:`exit_kernels`).

        The fine half of ``leave`` is a 2-D convolution to three maps per bin, added one bin apart: a 3-D convolution to
        one channel fills one of sixteen vector lanes, this three. Together they take a quarter off these layers' time
        in training.
        """
        cells, edges = exit_kernels(self.up4, self.leave)
        around = (cells.shape[2] // 2, 1, 1)
        filled = conv3d(coarse_BCdij, cells, padding=around)
        if self.thin:
            return _cells_in_place(filled) + self.beside(fine_BCDhw)[:, 0]  # type: ignore[no-any-return]
        filled = filled + conv3d(torch.ones_like(coarse_BCdij[:1, :1]), edges, padding=around)
        batch, channels, bins, height, width = fine_BCDhw.shape
        slices = fine_BCDhw.permute(0, 2, 1, 3, 4).reshape(batch * bins, channels, height, width)
        kernel = self.leave.weight[0, -channels:].transpose(0, 1)
        taps = F.conv2d(slices, kernel, padding=1).view(batch, bins, 3, height, width)
        taps = F.pad(taps, (0, 0, 0, 0, 0, 0, 1, 1))
        assert self.leave.bias is not None
        return _cells_in_place(filled) + taps[:, :-2, 0] + taps[:, 1:-1, 1] + taps[:, 2:, 2] + self.leave.bias


def exit_kernels(up: nn.ConvTranspose3d, leave: nn.Conv3d) -> tuple[Tensor, Tensor]:
    """``up`` (stride 2) and the coarse part of ``leave`` as one kernel, (8, C, K, 3, 3): the eight cells of each voxel.

    Nothing between the two is nonlinear, so the wide map at 1/4 need not be made. K is the depth of ``leave``, 3 or 1.
    The second kernel, (8, 1, K, 3, 3), is for a map of ones: it brings the bias of ``up``, which the border lacks.
    """
    coarse, fine = up.weight.shape[:2]
    bias = torch.zeros_like(up.weight[0, :, 0, 0, 0]) if up.bias is None else up.bias
    depth = leave.weight.shape[2]
    with torch.autocast(up.weight.device.type, enabled=False):
        spread = torch.cat([up.weight, bias.view(1, -1, 1, 1, 1).expand(1, -1, 2, 2, 2)])
        identity = torch.eye(coarse + 1, dtype=spread.dtype, device=spread.device)
        impulses = F.pad(identity[:, :, None, None, None], (1,) * 6)
        wide = F.conv_transpose3d(impulses, spread, stride=2)
        replies = F.conv3d(wide, leave.weight[:, :fine], padding=(depth // 2, 1, 1))
        # (input, voxel, cell) per axis: a convolution looks from the cell, so the voxels' order is reversed
        replies = replies.view(coarse + 1, 3, 2, 3, 2, 3, 2).flip(1, 3, 5).permute(2, 4, 6, 0, 1, 3, 5)
        kernel = replies.reshape(8, coarse + 1, 3, 3, 3)
        kernel = kernel[:, :, 1:2] if depth == 1 else kernel
    return kernel[:, :coarse], kernel[:, coarse:]


def _cells_in_place(cells_B8dij: Tensor) -> Tensor:
    """The eight cells of each voxel, side by side: (B, 2d, 2i, 2j)."""
    batch, _, bins, height, width = cells_B8dij.shape
    cells = cells_B8dij.view(batch, 2, 2, 2, bins, height, width).permute(0, 4, 1, 5, 2, 6, 3)
    return cells.reshape(batch, 2 * bins, 2 * height, 2 * width)


class FoldedExit(nn.Module):
    """The exit of an :class:`Hourglass` for graphs: kernels computed once, and operators that runtimes do well."""

    def __init__(self, hourglass: Hourglass) -> None:
        super().__init__()
        up, leave = hourglass.up4, hourglass.leave
        fine = up.weight.shape[1]
        with torch.no_grad():
            cells, edges = exit_kernels(up, leave)
            self.cells = _frozen(cells)
            self.edges = None if up.bias is None else _frozen(edges)
            self.beside: nn.Module
            if hourglass.thin:
                self.beside = copy.deepcopy(hourglass.beside)
            else:
                taps = _frozen(leave.weight[0, fine:].transpose(0, 1)[:, :, None])
                self.beside = nn.Sequential(taps, _frozen(torch.eye(3).view(1, 3, 3, 1, 1).to(taps.weight), leave.bias))

    def forward(self, coarse_BCdij: Tensor, fine_BCDhw: Tensor) -> Tensor:
        cells_B8dij: Tensor = self.cells(coarse_BCdij)
        if self.edges is not None:
            cells_B8dij = cells_B8dij + self.edges(torch.ones_like(coarse_BCdij[:, :1]))
        return _cells_in_place(cells_B8dij) + self.beside(fine_BCDhw)[:, 0]  # type: ignore[no-any-return]


def _frozen(weight: Tensor, bias: Tensor | None = None) -> nn.Conv3d:
    """A convolution with these weights, of the same size in and out."""
    cout, cin, *kernel = weight.shape
    conv = nn.Conv3d(cin, cout, kernel, padding=[side // 2 for side in kernel], bias=bias is not None).to(weight)  # type: ignore[arg-type]
    conv.weight.copy_(weight)
    if bias is not None and conv.bias is not None:
        conv.bias.copy_(bias)
    return conv


class Light(StereoNet):
    """The network; see the head of this file.

    Training outputs: (convex full-size disparity, bilinear full-size disparity from the global expectation).
    """

    family: ClassVar[str] = "light"
    config_class: ClassVar[type[LightConfig]] = LightConfig
    flexible_range: ClassVar[bool] = True

    def __init__(self, config: LightConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or self.config_class()
        self.max_disp = config.max_disp
        c4 = config.pyramid[1]
        self.features = Features(config.pyramid)
        self.match = nn.Sequential(_conv2d(c4, config.match), nn.Conv2d(config.match, config.match, 1))
        self.aggregate = Hourglass(config)
        self.upsample = nn.Sequential(_conv2d(c4, config.upsample), nn.Conv2d(config.upsample, 9 * 16, 1))

    def forward(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoOutput:
        logits_BDhw, left = self._logits(left_B3HW, right_B3HW, max_disp)
        bins_B1hw, mass_B1hw = local_soft_argmax(logits_BDhw)
        return StereoOutput(self._enlarge(bins_B1hw, left[0]), mass_B1hw)

    def forward_train(self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None = None) -> StereoTrainOutput:
        logits_BDhw, left = self._logits(left_B3HW, right_B3HW, max_disp)
        sharp_B1hw, _ = local_soft_argmax(logits_BDhw)
        bilinear = F.interpolate(4 * soft_argmin(logits_BDhw), scale_factor=4, mode="bilinear")
        return StereoTrainOutput((self._enlarge(sharp_B1hw, left[0]), bilinear), logits_BDhw, left)

    def for_export(self) -> Light:
        """A copy with the last layers of the aggregation folded into one another."""
        twin = copy.deepcopy(self)
        twin.aggregate.folded_exit = FoldedExit(twin.aggregate)
        return twin

    def _logits(
        self, left_B3HW: Tensor, right_B3HW: Tensor, max_disp: int | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Scores over the disparity bins (float32) and the left view's pyramid."""
        bins = self.check_inputs(left_B3HW, right_B3HW, max_disp) // 4
        batch = left_B3HW.shape[0]
        both = torch.cat([left_B3HW, right_B3HW]) / 127.5 - 1
        pyramid = self.features(both.contiguous(memory_format=torch.channels_last))
        match = self.match(pyramid[0])
        volume_BGDhw = correlation_volume(
            self._normalise(match[:batch]), self._normalise(match[batch:]), bins, self.config.groups
        )
        left = tuple(level[:batch] for level in pyramid)
        volume_BGDhw = volume_BGDhw.contiguous(memory_format=torch.channels_last_3d)
        return at_least_float32(self.aggregate(volume_BGDhw, left)), left

    def _normalise(self, feat_BChw: Tensor) -> Tensor:
        """Each group of channels to length sqrt(C/G), so that the mean product over a group is a cosine."""
        batch, channels, height, width = feat_BChw.shape
        groups = self.config.groups
        feat = at_least_float32(feat_BChw).reshape(batch * groups, channels // groups, height, width)
        # not F.normalize: its norm over a short, strided axis costs three times the rest
        length = feat.square().mean(1, keepdim=True).clamp_min(1e-24).rsqrt()
        return (feat * length).reshape(batch, channels, height, width)

    def _enlarge(self, bins_B1hw: Tensor, feat_BChw: Tensor) -> Tensor:
        """Quarter-size bins to full-size px, by weights drawn from the left features."""
        return convex_upsample_quarter(bins_B1hw, self.upsample(feat_BChw), 4)


class LightS(Light):
    """The small size, for processors that shall keep up with a camera."""

    family: ClassVar[str] = "light-s"
    config_class = LightSConfig
