"""Losses for depth that is only known up to scale and shift.

Shape legend: B batch, H W crop. Prediction and truth are inverse depth in any unit, float32 or float64. Everything
counts inside the mask only, which is multiplied, not indexed (DESIGN §4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import ConfigError

LEAST_SPREAD = 1e-3  # of the truth's largest value: flatter crops teach nothing but noise
LEAST_SHARE = 0.05  # of the pixels must have truth


@dataclass(frozen=True, kw_only=True)
class MonoLossConfig:
    """``gradient`` is the weight of the gradient term, ``scales`` their number (each half of the one before)."""

    gradient: float = 0.5
    scales: int = 4

    def __post_init__(self) -> None:
        if self.gradient < 0 or self.scales < 1:
            raise ConfigError("mono.loss: gradient must be 0 or more, scales at least 1")


def normalised(values_BHW: Tensor, mask_BHW: Tensor, least: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Values with median 0 and mean absolute deviation 1 inside the mask (MiDaS, arXiv 1907.01341, eq. 5-6).

    Returns:
        the normalised values (B, H, W) and the deviation (B,) before it was bounded below by ``least``.
    """
    flat = values_BHW.flatten(1)
    mask = mask_BHW.flatten(1)
    median = torch.nanmedian(flat.masked_fill(~mask, torch.nan), dim=1, keepdim=True).values.nan_to_num()
    count = mask.sum(1, keepdim=True).clamp(min=1)
    spread = ((flat - median).abs() * mask).sum(1, keepdim=True) / count
    return ((flat - median) / spread.clamp(min=least)).view_as(values_BHW), spread[:, 0]


def mono_terms(
    raw_BHW: Tensor, inverse_BHW: Tensor, mask_BHW: Tensor, config: MonoLossConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Loss terms per sample, each (B,), and the mean absolute residual (B,) that is shown.

    ``ssi``: mean absolute difference of the two normalised maps (MiDaS, arXiv 1907.01341 §5, without its trimming of
    the largest residuals: exact truth has no outliers, and near things in front of much background would be cut).
    ``gradient``: their difference's gradients over ``scales`` scales (MegaDepth, arXiv 1804.00607
    eq. 4). Samples with hardly any or hardly varying truth give 0.
    """
    truth, spread = normalised(inverse_BHW, mask_BHW)
    answer, _ = normalised(raw_BHW, mask_BHW, least=1e-4)
    largest = (inverse_BHW * mask_BHW).flatten(1).amax(1)
    usable = (spread > LEAST_SPREAD * largest) & (mask_BHW.flatten(1).float().mean(1) > LEAST_SHARE)
    difference = (answer - truth) * (mask_BHW & usable[:, None, None])
    residual = difference.abs().flatten(1).sum(1) / mask_BHW.flatten(1).sum(1).clamp(min=1)
    terms = {"ssi": residual}
    if config.gradient:
        terms["gradient"] = config.gradient * gradient_matching(difference, mask_BHW, config.scales)
    return terms, residual.detach()


def gradient_matching(difference_BHW: Tensor, mask_BHW: Tensor, scales: int) -> Tensor:
    """Mean absolute horizontal and vertical gradient of the difference, summed over scales, (B,).

    Every scale takes every second pixel of the one before; a gradient counts where both its pixels do.
    """
    total = difference_BHW.new_zeros(difference_BHW.shape[0])
    for scale in range(scales):
        step = 2**scale
        diff, mask = difference_BHW[:, ::step, ::step], mask_BHW[:, ::step, ::step]
        across = (diff[:, :, 1:] - diff[:, :, :-1]).abs() * (mask[:, :, 1:] & mask[:, :, :-1])
        down = (diff[:, 1:] - diff[:, :-1]).abs() * (mask[:, 1:] & mask[:, :-1])
        total = total + (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / mask.flatten(1).sum(1).clamp(min=1)
    return total
