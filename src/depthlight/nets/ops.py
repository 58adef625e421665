"""Operations shared by the stereo networks: 3-D convolution, correlation volume, soft argmin, convex upsampling.

Each operation that matters for speed has a plain reference twin (``*_reference``) that says what it computes; tests
hold the two together. The fast ones use standard operators with dynamic sizes, so they export to ONNX. Everything is
computed in float32 at least, also under autocast.

Shape legend: B batch, C channels, G groups, D disparity bins, h w small size, H W = f·h f·w full size;
in the correlation also N = B·G, t tiles of x columns, v columns of the right map.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ConfigError

Border = Literal["zeros", "replicate"]
_SMALL_VOLUME = 20_480  # N·C·D·H up to which torch does not take oneDNN


def at_least_float32(x: Tensor) -> Tensor:
    """Half precisions become float32, float32 and float64 stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def is_exporting() -> bool:
    """Whether the caller is being traced for ONNX, ``torch.export`` or ``torch.compile``."""
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()


def conv3d(
    x_NCDHW: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple[int, int, int] = (0, 0, 0),
) -> Tensor:
    """:func:`torch.nn.functional.conv3d`, kept off two paths of torch's (2.14) on a CPU by exchanging depth and width.

    Where N is 1 and C·D·H at most 20,480, torch leaves oneDNN for code that is five times slower, in both directions.
    And where D is 2, oneDNN's bfloat16 gradient of the weight reads memory that nobody wrote: it is wrong or NaN.
    """
    count, channels, depth, height, width = x_NCDHW.shape
    seen, exchanged = channels * depth * height, channels * width * height
    slow = count == 1 and seen <= _SMALL_VOLUME < exchanged
    wrong = depth == 2 != width and torch.is_grad_enabled()
    if is_exporting() or x_NCDHW.device.type != "cpu" or not (slow or wrong):
        return F.conv3d(x_NCDHW, weight, bias, stride, padding)
    turned = x_NCDHW.transpose(2, 4).contiguous(memory_format=torch.channels_last_3d)
    out = F.conv3d(turned, weight.transpose(2, 4), bias, stride[::-1], padding[::-1]).transpose(2, 4)
    kept = torch.contiguous_format if x_NCDHW.is_contiguous() else torch.channels_last_3d
    return out.contiguous(memory_format=kept)


class Conv3d(nn.Conv3d):
    """``torch.nn.Conv3d`` by :func:`conv3d`; zeros beyond the border, one group, no dilation."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride, padding = self.stride, self.padding
        assert len(stride) == len(padding) == 3 and not isinstance(padding, str)
        return conv3d(input, weight, bias, stride, padding)


def correlation_volume(left_BChw: Tensor, right_BChw: Tensor, bins: int, groups: int = 1) -> Tensor:
    """Group-wise correlation of two feature maps over disparity.

    Args:
        left_BChw: left features; C a multiple of ``groups``.
        right_BChw: right features, same shape.
        bins: number of disparities D, in px of the feature map.
        groups: G; channels are split into G consecutive groups.

    Returns:
        (B, G, D, h, w), float32 or wider: the mean over the group's channels of ``left[w] · right[w − d]``, zero where
        w − d < 0 (GwcNet, arXiv 1903.04025, eq. 2).

    Raises:
        ConfigError: C is not a multiple of ``groups``.
    """
    left_NChw, right_NChw = _grouped(left_BChw, groups), _grouped(right_BChw, groups)
    # a tracer would record the autocast switch as an operation of its own
    full_precision = nullcontext() if is_exporting() else torch.autocast(left_BChw.device.type, enabled=False)
    with full_precision:
        volume_NDhw = _correlation_by_tiles(left_NChw, right_NChw, bins)
    return volume_NDhw.reshape(-1, groups, *volume_NDhw.shape[1:])


def correlation_volume_reference(left_BChw: Tensor, right_BChw: Tensor, bins: int, groups: int = 1) -> Tensor:
    """Plain twin of :func:`correlation_volume`: one disparity after the other into zeros."""
    left_NChw, right_NChw = _grouped(left_BChw, groups), _grouped(right_BChw, groups)
    count, _, height, width = left_NChw.shape
    volume_NDhw = left_NChw.new_zeros(count, bins, height, width)
    for d in range(min(bins, width)):
        volume_NDhw[:, d, :, d:] = (left_NChw[..., d:] * right_NChw[..., : width - d]).mean(1)
    return volume_NDhw.reshape(-1, groups, *volume_NDhw.shape[1:])


def _grouped(feat_BChw: Tensor, groups: int) -> Tensor:
    """(B, C, h, w) → (N = B·G, C/G, h, w)."""
    channels = feat_BChw.shape[1]
    if channels % groups:
        raise ConfigError(f"{channels} channels do not split into {groups} groups")
    return at_least_float32(feat_BChw).reshape(-1, channels // groups, *feat_BChw.shape[2:])


def _correlation_by_tiles(left_NChw: Tensor, right_NChw: Tensor, bins: int) -> Tensor:
    """Column pairs as matrix products, one per row and tile of D columns, of which a band of diagonals is the volume.

    The tiles keep the matrices near twice the volume's size for images of any width.
    """
    count, channels, height, width = left_NChw.shape
    tiles = (width + bins - 1) // bins
    spare = tiles * bins - width
    left_NChtx = F.pad(left_NChw / channels, (0, spare)).reshape(count, channels, height, tiles, bins)
    right_NChtx = F.pad(right_NChw, (bins, spare)).reshape(count, channels, height, tiles + 1, bins)
    # a tile's columns meet those of their own tile and the D − 1 before it
    right_NChtv = torch.cat([right_NChtx[:, :, :, :-1, 1:], right_NChtx[:, :, :, 1:]], -1)
    pairs_Nhtxv = left_NChtx.permute(0, 2, 3, 4, 1) @ right_NChtv.permute(0, 2, 3, 1, 4)
    band_NhwD = _diagonals(pairs_Nhtxv, bins).reshape(count, height, tiles * bins, bins)[:, :, :width]
    return band_NhwD.permute(0, 3, 1, 2).flip(1)


def _diagonals(pairs_Nhtxv: Tensor, bins: int) -> Tensor:
    """``out[..., x, k] = pairs[..., x, x + k]`` for k < D."""
    count, height, tiles, columns, others = pairs_Nhtxv.shape
    if is_exporting():  # rows made one longer, so that each begins one further on
        flat = F.pad(pairs_Nhtxv.reshape(count, height, tiles, columns * others), (0, columns))
        return flat.reshape(count, height, tiles, columns, others + 1)[..., :bins]
    n, h, t, x, _ = pairs_Nhtxv.stride()
    return pairs_Nhtxv.as_strided((count, height, tiles, columns, bins), (n, h, t, x + 1, 1))


def soft_argmin(logits_BDhw: Tensor) -> Tensor:
    """Expected bin under the softmax over D (GC-Net, arXiv 1703.04309, eq. 1): (B, 1, h, w), in bins, 0..D−1."""
    prob_BDhw = _softmax(at_least_float32(logits_BDhw))
    return (prob_BDhw * _bin_index(prob_BDhw)).sum(1, keepdim=True)


def local_soft_argmax(logits_BDhw: Tensor, radius: int = 2) -> tuple[Tensor, Tensor]:
    """Expected bin within ±``radius`` bins of the most likely one, and the probability mass there.

    Returns:
        value_B1hw in bins, 0..D−1; mass_B1hw in (0, 1], which serves as confidence.
    """
    prob_BDhw = _softmax(at_least_float32(logits_BDhw))
    index_D11 = _bin_index(prob_BDhw)
    mode_B1hw = prob_BDhw.argmax(1, keepdim=True).to(prob_BDhw.dtype)
    near_BDhw = prob_BDhw * ((index_D11 - mode_B1hw).abs() <= radius).to(prob_BDhw.dtype)
    mass_B1hw = near_BDhw.sum(1, keepdim=True)  # at least 1/D, so the division is safe
    return (near_BDhw * index_D11).sum(1, keepdim=True) / mass_B1hw, mass_B1hw.clamp(max=1.0)


def _softmax(x: Tensor) -> Tensor:
    """Softmax over axis 1. In a graph by hand: onnxruntime's own, on any axis but the last, takes five times longer."""
    if not is_exporting():
        return x.softmax(1)
    raised = (x - x.amax(1, keepdim=True)).exp()
    return raised / raised.sum(1, keepdim=True)


def _bin_index(prob_BDhw: Tensor) -> Tensor:
    return torch.arange(prob_BDhw.shape[1], dtype=prob_BDhw.dtype, device=prob_BDhw.device).view(-1, 1, 1)


def convex_upsample_full(disp_B1hw: Tensor, logits_B9HW: Tensor, factor: int = 4, border: Border = "zeros") -> Tensor:
    """Convex upsampling with weights at full size, as Lite Any Stereo does.

    Args:
        disp_B1hw: disparity in px of the small size.
        logits_B9HW: scores of the 3×3 neighbours (row-major) for each full-size pixel, before the softmax.
        factor: f.
        border: what lies outside the small map.

    Returns:
        (B, 1, H, W), px of the full size: for each pixel the weighted mean of f·disparity over the neighbours.
    """
    batch, _, height, width = disp_B1hw.shape
    near_B9hw = _neighbours(factor * at_least_float32(disp_B1hw), border)
    weights_B9HW = _softmax(at_least_float32(logits_B9HW))
    weights_B9hfwf = weights_B9HW.reshape(batch, 9, height, factor, width, factor)
    full_Bhfwf = (weights_B9hfwf * near_B9hw[:, :, :, None, :, None]).sum(1)
    return full_Bhfwf.reshape(batch, 1, factor * height, factor * width)


def convex_upsample_full_reference(
    disp_B1hw: Tensor, logits_B9HW: Tensor, factor: int = 4, border: Border = "zeros"
) -> Tensor:
    """Plain twin of :func:`convex_upsample_full`."""
    batch, _, height, width = disp_B1hw.shape
    disp_B1hw = _pad(factor * at_least_float32(disp_B1hw), border)
    near_B9hw = F.unfold(disp_B1hw, 3).view(batch, 9, height, width)
    near_B9HW = F.interpolate(near_B9hw, scale_factor=factor, mode="nearest")
    return (at_least_float32(logits_B9HW).softmax(1) * near_B9HW).sum(1, keepdim=True)


def convex_upsample_quarter(
    disp_B1hw: Tensor, logits_BKhw: Tensor, factor: int = 4, border: Border = "replicate"
) -> Tensor:
    """Convex upsampling with weights at small size, as RAFT does (arXiv 2003.12039, section 3.3).

    Args:
        disp_B1hw: disparity in px of the small size.
        logits_BKhw: K = 9·f·f scores, in the order (neighbour, row in cell, column in cell), before the softmax.
        factor: f.
        border: what lies outside the small map.

    Returns:
        (B, 1, H, W), px of the full size: for each pixel the weighted mean of f·disparity over the 3×3 neighbours.
    """
    batch, _, height, width = disp_B1hw.shape
    near_B9hw = _neighbours(factor * at_least_float32(disp_B1hw), border)
    weights_B9Fhw = _softmax(at_least_float32(logits_BKhw).reshape(batch, 9, factor * factor, height, width))
    return F.pixel_shuffle((weights_B9Fhw * near_B9hw.unsqueeze(2)).sum(1), factor)


def convex_upsample_quarter_reference(
    disp_B1hw: Tensor, logits_BKhw: Tensor, factor: int = 4, border: Border = "replicate"
) -> Tensor:
    """Plain twin of :func:`convex_upsample_quarter`."""
    batch, _, height, width = disp_B1hw.shape
    weights = at_least_float32(logits_BKhw).view(batch, 9, factor, factor, height, width).softmax(1)
    near = F.unfold(_pad(factor * at_least_float32(disp_B1hw), border), 3).view(batch, 9, 1, 1, height, width)
    cells_Bffhw = (weights * near).sum(1)
    return cells_Bffhw.permute(0, 3, 1, 4, 2).reshape(batch, 1, factor * height, factor * width)


def gaussian_blur(values_B1HW: Tensor, sigma: float) -> Tensor:
    """The maps, each averaged by a Gaussian of ``sigma`` px; beyond the border the last row or column goes on."""
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2)).to(values_B1HW)
    taps = taps / taps.sum()
    padded = F.pad(values_B1HW, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))


def _neighbours(x_B1hw: Tensor, border: Border) -> Tensor:
    """The 3×3 neighbourhood as 9 channels, row-major: shifted views of the padded map."""
    padded = _pad(x_B1hw, border)
    # the ends are counted from the back, so that dynamic sizes export as constants
    return torch.cat([padded[..., y : y - 2 or None, x : x - 2 or None] for y in range(3) for x in range(3)], 1)


def _pad(x_B1hw: Tensor, border: Border) -> Tensor:
    return F.pad(x_B1hw, (1, 1, 1, 1), mode="constant" if border == "zeros" else border)
