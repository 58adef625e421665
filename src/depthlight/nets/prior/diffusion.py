"""Diffusion in continuous time for the small prior: schedule, conversions, sampling.

The image x in [-1, 1] becomes x_t = alpha(t) x + sigma(t) noise, t in [0, 1], with the cosine schedule
alpha = cos(pi t / 2), sigma = sin(pi t / 2) (Nichol & Dhariwal, arXiv 2102.09672, in its continuous form). It was made
for images of 64 x 64, the size of our patches, and needs no shift there (arXiv 2301.11093, section 2.3). The network
predicts v = alpha noise - sigma x (Salimans & Ho, arXiv 2202.00512): guidance reads the estimate of x at large t, where
a prediction of the noise would have to be divided by an alpha near 0.

Shape legend: N patches, 3 channels, P patch side. t is (N,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]  # x_t, t -> v


def alpha_sigma(t_N: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the image and of the noise at time ``t``, each (N, 1, 1, 1); alpha² + sigma² = 1."""
    angle = (t_N * (math.pi / 2))[:, None, None, None]
    return angle.cos(), angle.sin()


def add_noise(x_N3PP: Tensor, noise_N3PP: Tensor, t_N: Tensor) -> Tensor:
    """x_t."""
    alpha, sigma = alpha_sigma(t_N)
    return alpha * x_N3PP + sigma * noise_N3PP


def velocity(x_N3PP: Tensor, noise_N3PP: Tensor, t_N: Tensor) -> Tensor:
    """v, what the network learns to predict."""
    alpha, sigma = alpha_sigma(t_N)
    return alpha * noise_N3PP - sigma * x_N3PP


def image_of(noisy_N3PP: Tensor, v_N3PP: Tensor, t_N: Tensor) -> Tensor:
    """The estimate of x that a prediction of v stands for."""
    alpha, sigma = alpha_sigma(t_N)
    return alpha * noisy_N3PP - sigma * v_N3PP


def noise_of(noisy_N3PP: Tensor, v_N3PP: Tensor, t_N: Tensor) -> Tensor:
    """The estimate of the noise that a prediction of v stands for."""
    alpha, sigma = alpha_sigma(t_N)
    return sigma * noisy_N3PP + alpha * v_N3PP


@torch.no_grad()
def sample(predict: Predict, noise_N3PP: Tensor, steps: int = 50) -> Tensor:
    """Deterministic sampling (DDIM, arXiv 2010.02502, eta = 0) from pure noise; x is kept in [-1, 1].

    Args:
        predict: v for (x_t, t), with its conditions bound.
        noise_N3PP: standard normal.
        steps: evaluations of the network.
    """
    times = torch.linspace(1.0, 0.0, steps + 1, dtype=noise_N3PP.dtype).tolist()
    x = noise_N3PP
    for now, then in pairwise(times):
        t_N = torch.full((len(x),), now, dtype=x.dtype, device=x.device)
        image = image_of(x, predict(x, t_N), t_N).clamp(-1, 1)
        alpha, sigma = alpha_sigma(t_N)
        noise = (x - alpha * image) / sigma
        x = add_noise(image, noise, torch.full_like(t_N, then))
    return x
