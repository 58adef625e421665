"""Training losses. Every one is returned per sample; averaging is the trainer's business, and visible there.

Shape legend: B batch, H W crop, h w = H/4 W/4, D disparity bins (bin k stands for 4k px), C channels.
Masks multiply, never index: ``x[mask]`` costs a fifth of a second a step on two CPU cores (DESIGN §4). The truth must
therefore be finite everywhere, also where the mask is 0. Loss math runs in the precision of its inputs (float32 in
training, float64 in gradcheck).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.errors import ConfigError
from .stereo.base import StereoTrainOutput

BIN = 4  # px per disparity bin, and per side of the cell a bin's column stands for
CENTRE = 1  # the pixel of a cell that its truth is taken from: bilinear enlargement puts the value at 1.5, so 1 or 2

Target = Literal["linear", "laplace", "adaptive"]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms; a term with weight 0 is not computed."""

    full: float = 1.0  # smooth-L1 of the answer at full resolution
    coarse: float = 0.3  # the same of the network's coarser answers; of H's iterations gamma ** distance instead
    gamma: float = 0.9
    bins: float = 1.0  # cross-entropy over the disparity bins
    target: Target = "linear"
    width: float = 0.8  # of the Laplacian targets, in bins
    beta: float = 1.0  # px below which smooth-L1 is quadratic: a small one keeps pulling where errors are small
    clamp: float = 0.0  # largest smooth-L1 of a pixel, 0 = none (LAS2's stage 3 uses 10)
    feature: float = 1.0  # stage 2: 1 - cosine of student's and teacher's features
    truth: float = 0.0  # stage 2: weight of the supervised loss beside the teacher's

    def __post_init__(self) -> None:
        for name in ("full", "coarse", "bins", "clamp", "feature", "truth"):
            if getattr(self, name) < 0:
                raise ConfigError(f"loss.{name} is {getattr(self, name)}", expected="0 or more")
        if not 0 < self.gamma <= 1 or min(self.width, self.beta) <= 0:
            raise ConfigError("loss: gamma must lie in (0, 1], width and beta above 0")


def masked_mean(values_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Mean over the mask, per sample: (B,). A sample with an empty mask gives 0."""
    mask = mask_BHW.to(values_BHW.dtype)
    return (values_BHW * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)


def smooth_l1(disp_BHW: Tensor, truth_BHW: Tensor, mask_BHW: Tensor, clamp: float = 0.0, beta: float = 1.0) -> Tensor:
    """Smooth-L1, each pixel held at ``clamp`` if that is > 0 (LAS2 eq. of stage 3); (B,). ``beta`` in px."""
    loss = F.smooth_l1_loss(disp_BHW, truth_BHW, reduction="none", beta=beta)
    return masked_mean(loss.clamp_max(clamp) if clamp else loss, mask_BHW)


def sequence_weights(count: int, config: LossConfig) -> tuple[float, ...]:
    """Weights of a network's disparities, the answer first.

    Two outputs (answer and bilinear quarter-size answer): full and coarse. More (H: last iteration first, the initial
    one last): gamma ** distance for the iterations and 1 for the initial answer.
    """
    if count <= 2:
        return (config.full, config.coarse)[:count]
    return (*(config.full * config.gamma**i for i in range(count - 1)), config.full)


def disparity_terms(
    disparities: Sequence[Tensor], truth_BHW: Tensor, mask_BHW: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """``full`` and (if the network gives more than one disparity) ``coarse``, weighted; each (B,)."""
    weights = sequence_weights(len(disparities), config)
    terms = [
        weight * smooth_l1(disp[:, 0].to(truth_BHW.dtype), truth_BHW, mask_BHW, config.clamp, config.beta)
        for disp, weight in zip(disparities, weights, strict=True)
        if weight
    ]
    named = {"full": terms[0]} if terms else {}
    if len(terms) > 1:
        named["coarse"] = torch.stack(terms[1:]).sum(0)
    return named


def bin_cross_entropy(logits_BDhw: Tensor, truth_BHW: Tensor, mask_BHW: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy between the bins' softmax and a target around the truth at the centre of each 4×4 cell; (B,).

    Targets: ``linear`` shares between the two neighbouring bins; ``laplace`` is a discretised Laplacian of
    ``width`` bins; ``adaptive`` a mixture of two where the pixel's surroundings hold two surfaces
    (:func:`adaptive_target`). Pixels beyond the last bin are left out.
    """
    bins = logits_BDhw.shape[1]
    log_p = F.log_softmax(logits_BDhw, 1)
    truth_Bhw = _centres(truth_BHW) / BIN
    mask_Bhw = _centres(mask_BHW) & (truth_Bhw >= 0) & (truth_Bhw <= bins - 1)
    if config.target == "linear":
        return masked_mean(_linear_cross_entropy(log_p, truth_Bhw), mask_Bhw)
    if config.target == "laplace":
        target_BDhw = laplace_target(truth_Bhw, bins, config.width)
    else:
        target_BDhw = adaptive_target(truth_BHW, mask_BHW, bins, config.width)
    return masked_mean(-(target_BDhw * log_p).sum(1), mask_Bhw)


def _centres(map_BHW: Tensor) -> Tensor:
    """The pixel at the centre of each cell; (B, h, w)."""
    return map_BHW[:, CENTRE::BIN, CENTRE::BIN]


def _linear_cross_entropy(log_p_BDhw: Tensor, truth_Bhw: Tensor) -> Tensor:
    """-Σ target·log p for the two-bin target, by look-up instead of a dense target; (B, h, w)."""
    bins = log_p_BDhw.shape[1]
    truth = truth_Bhw.clamp(0, bins - 1)
    low = truth.floor().clamp_max(bins - 2)
    share = truth - low
    index = low.nan_to_num().long()[:, None]  # a NaN stays one in share, and is named; as an index it would crash
    below = log_p_BDhw.gather(1, index)[:, 0]
    above = log_p_BDhw.gather(1, index + 1)[:, 0]
    return -((1 - share) * below + share * above)


def laplace_target(centre_Bhw: Tensor, bins: int, width: float) -> Tensor:
    """exp(-|k - centre| / width), normalised over the bins k; (B, D, h, w)."""
    k_D = torch.arange(bins, dtype=centre_Bhw.dtype, device=centre_Bhw.device)
    return torch.softmax(-(k_D[:, None, None] - centre_Bhw[:, None]).abs() / width, 1)


def adaptive_target(truth_BHW: Tensor, mask_BHW: Tensor, bins: int, width: float, own: float = 0.8) -> Tensor:
    """Multi-modal target after arXiv 2306.15612, with two surfaces at most; (B, D, h, w).

    The 9×9 px around each cell's centre are split by whether they lie within one bin of the pixel. The pixel's own
    surface weighs ``own`` + (1 - own)·(its share), the rest (1 - own)·(their share), each a Laplacian at its mean.
    """
    dtype = truth_BHW.dtype
    around = (4 - CENTRE, BIN - 3 + CENTRE) * 2  # so that window i is centred on pixel BIN·i + CENTRE
    windows = F.unfold(F.pad(truth_BHW[:, None], around), 9, stride=BIN)
    known = F.unfold(F.pad(mask_BHW[:, None].to(dtype), around), 9, stride=BIN)
    centre = _centres(truth_BHW)
    near = known * ((windows - centre.flatten(1)[:, None]).abs() <= BIN).to(dtype)
    far = known - near
    shape = centre.shape
    modes = []
    for part in (near, far):
        count = part.sum(1)
        mean = ((part * windows).sum(1) / count.clamp_min(1)).view(shape) / BIN
        modes.append((count.view(shape), laplace_target(mean, bins, width)))
    total = (modes[0][0] + modes[1][0]).clamp_min(1)
    weight_far = ((1 - own) * modes[1][0] / total)[:, None]
    return (1 - weight_far) * modes[0][1] + weight_far * modes[1][1]


def supervised_terms(
    output: StereoTrainOutput, truth_BHW: Tensor, mask_BHW: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """Stages 1 and 3: the weighted terms, each (B,); their sum is the loss."""
    terms = disparity_terms(output.disparities, truth_BHW, mask_BHW, config)
    if config.bins:
        terms["bins"] = config.bins * bin_cross_entropy(
            output.logits_BDhw.to(truth_BHW.dtype), truth_BHW, mask_BHW, config
        )
    return terms


def feature_cosine(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """LAS1's stage-2 term, 1 - mean over positions of cos(F, F'), averaged over the levels of the pyramid; (B,)."""
    if len(student) != len(teacher) or not student:
        raise ConfigError(
            f"{len(student)} student and {len(teacher)} teacher features", expected="as many, at least one"
        )
    levels = [
        1 - F.cosine_similarity(ours, theirs.detach(), dim=1, eps=1e-6).flatten(1).mean(1)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(levels).mean(0)


def left_right_mask(disp_BHW: Tensor, right_disp_BHW: Tensor, threshold: float = 1.0) -> Tensor:
    """LAS2's M_LR, (B, H, W) bool: |D_L(x) - D_R(x - D_L)| < ``threshold`` px; false if the match leaves the image."""
    width = disp_BHW.shape[-1]
    x = torch.arange(width, dtype=disp_BHW.dtype, device=disp_BHW.device) - disp_BHW
    low = x.floor().clamp(0, width - 1)
    share = (x - low).clamp(0, 1)
    index = low.long()
    right = (
        right_disp_BHW.gather(-1, index) * (1 - share)
        + right_disp_BHW.gather(-1, (index + 1).clamp_max(width - 1)) * share
    )
    return ((disp_BHW - right).abs() < threshold) & (x >= 0)


def edge_mask(disp_BHW: Tensor, image_B3HW: Tensor, quantile: float = 0.9) -> Tensor:
    """LAS2's M_edge: false where disparity jumps (|∇D| above its quantile) and the picture does not; eroded by 3×3.

    Returns (B, H, W) bool.
    """
    jump = _gradient(disp_BHW)
    contrast = _gradient(image_B3HW.float().mean(1))
    false_edge = (jump > _quantile(jump, quantile)) & (contrast <= _quantile(contrast, quantile))
    return F.max_pool2d(false_edge[:, None].float(), 3, 1, 1)[:, 0] == 0


def _gradient(map_BHW: Tensor) -> Tensor:
    """|∇| by central differences, (B, H, W)."""
    dy, dx = torch.gradient(map_BHW, dim=(1, 2))
    return torch.sqrt(dx * dx + dy * dy)


def _quantile(map_BHW: Tensor, q: float) -> Tensor:
    """Per sample, (B, 1, 1); by k-th value because torch.quantile refuses large maps."""
    flat = map_BHW.flatten(1)
    k = min(int(q * flat.shape[1]) + 1, flat.shape[1])
    return flat.kthvalue(k, dim=1).values[:, None, None]
