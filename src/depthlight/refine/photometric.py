"""Losses of a disparity map that need no truth: how well it rebuilds the left view, and how smooth it is.

Shapes: B = 1 pair, C channels, H × W. Images are RGB in 0..1; disparity is px of the left view, x_right = x_left - d.
Sources: SSIM with L1, Godard et al. (arXiv 1609.03677, eq. 2) and its 3×3 windows; the smoothness is of second order,
so that slanted surfaces cost nothing, and saturates, so that true jumps are not pulled together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SSIM_SHARE = 0.85
_C1, _C2 = 0.01**2, 0.03**2
_FLAT = 1e-6  # variance (of values in 0..1) below which a channel tells nothing about gain
JUMP = 1.0  # px of curvature at which the smoothness is halfway to its limit
EDGE = 10.0  # how fast contrast (0..1) switches smoothness off


def warped_right(right_BCHW: Tensor, disparity_B1HW: Tensor) -> Tensor:
    """The right view as the left camera would see it: ``right[x - d]``, linear, its first column repeated outside."""
    width = right_BCHW.shape[-1]
    at_B1HW = torch.arange(width, dtype=disparity_B1HW.dtype, device=disparity_B1HW.device) - disparity_B1HW
    at_B1HW = at_B1HW.clamp(0, width - 1)
    low_B1HW = at_B1HW.detach().floor().clamp_max(max(width - 2, 0))
    share_B1HW = at_B1HW - low_B1HW
    index_BCHW = low_B1HW.long().expand_as(right_BCHW)
    one = right_BCHW.gather(-1, index_BCHW)
    other = right_BCHW.gather(-1, (index_BCHW + 1).clamp_max(width - 1))
    return one + share_B1HW * (other - one)


def dissimilarity(one_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
    """(B, 1, H, W): 0.85 · (1 - SSIM) / 2 + 0.15 · |difference|, mean over channels; 0 where the images are equal."""
    pad = F.pad(torch.cat([one_BCHW, other_BCHW], 1), (1, 1, 1, 1), mode="reflect")
    x, y = pad.chunk(2, 1)
    products = torch.cat([x, y, x * x, y * y, x * y], 1)
    mean_x, mean_y, xx, yy, xy = F.avg_pool2d(products, 3, 1).chunk(5, 1)
    numerator = (2 * mean_x * mean_y + _C1) * (2 * (xy - mean_x * mean_y) + _C2)
    denominator = (mean_x**2 + mean_y**2 + _C1) * (xx - mean_x**2 + yy - mean_y**2 + _C2)
    unlike = ((1 - numerator / denominator) / 2).clamp(0, 1)
    mixed = _SSIM_SHARE * unlike + (1 - _SSIM_SHARE) * (one_BCHW - other_BCHW).abs()
    return mixed.mean(1, keepdim=True)


def photometric(left_BCHW: Tensor, right_BCHW: Tensor, disparity_B1HW: Tensor, visible_B1HW: Tensor) -> Tensor:
    """Mean :func:`dissimilarity` of the left view and the warped right one over ``visible_B1HW`` (1 = seen by both)."""
    unlike = dissimilarity(left_BCHW, warped_right(right_BCHW, disparity_B1HW))
    return (unlike * visible_B1HW).sum() / visible_B1HW.sum().clamp_min(1)


def matched_colours(right_BCHW: Tensor, left_BCHW: Tensor, disparity_B1HW: Tensor, visible_B1HW: Tensor) -> Tensor:
    """The right view with the gain and offset per channel that bring it closest to the left one (least squares).

    Cameras differ in exposure and white balance; without this the difference would be explained by wrong disparities.
    Where nothing is visible, or a channel is flat, the right view stays as it is.
    """
    warped = warped_right(right_BCHW, disparity_B1HW)
    count = visible_B1HW.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    mean_l, mean_w = ((view * visible_B1HW).sum(dim=(2, 3), keepdim=True) / count for view in (left_BCHW, warped))
    centred = (warped - mean_w) * visible_B1HW
    variance = (centred * centred).sum(dim=(2, 3), keepdim=True) / count
    covariance = (centred * (left_BCHW - mean_l)).sum(dim=(2, 3), keepdim=True) / count
    usable = (variance > _FLAT) & (covariance > 0)
    gain = torch.where(usable, covariance / variance.clamp_min(_FLAT), 1)
    offset = torch.where(usable, mean_l - gain * mean_w, 0)
    return gain * right_BCHW + offset


class EdgeAwareSmoothness:
    """Mean saturated curvature of a disparity map of one photo, weighted by ``exp(-EDGE · contrast)``."""

    def __init__(self, image_BCHW: Tensor) -> None:
        step_x, step_y = ((image_BCHW.diff(dim=dim)).abs().mean(1, keepdim=True) for dim in (3, 2))
        self._weight_x = torch.exp(-EDGE * torch.maximum(step_x[..., 1:], step_x[..., :-1]))
        self._weight_y = torch.exp(-EDGE * torch.maximum(step_y[..., 1:, :], step_y[..., :-1, :]))

    def __call__(self, disparity_B1HW: Tensor) -> Tensor:
        bend_x, bend_y = (disparity_B1HW.diff(dim=dim).diff(dim=dim).abs() for dim in (3, 2))
        return _mean_saturated(bend_x, self._weight_x) + _mean_saturated(bend_y, self._weight_y)


def _mean_saturated(bend_B1HW: Tensor, weight_B1HW: Tensor) -> Tensor:
    return (weight_B1HW * bend_B1HW / (bend_B1HW + JUMP)).mean()
