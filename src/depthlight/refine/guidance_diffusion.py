"""Guidance by Stable Diffusion: what Re-Depth Anything does (arXiv 2512.17908), with its conventions.

Each re-lit photo is scaled onto a black square, encoded to a latent x (the gradient goes through the encoder), noised
to step t, and the UNet, without gradient, says which noise it sees. Score distillation pushes x to where the noise it
sees is the noise that was added:

    ε̂ = ε_txt + g (ε_txt − ε_neg),    ∂loss/∂x = w_t (ε̂ − ε) / N

Memory does not grow with the number of lights: the gradient of each photo is taken at once, and its graph freed.

Shape legend: B photos, L lights, 3 sRGB channels in 0..1, S side of the prior's square, C s s latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import InputError
from ..nets.prior.captioner import DEFAULT_CAPTIONER, caption
from ..nets.prior.stable_diffusion import StableDiffusion, find_stable_diffusion, letterbox, load_stable_diffusion
from .config import GuidanceConfig
from .guidance import Scene, described, sds_loss

NEGATIVE_PROMPT = ""
SCALE, T_LOW, T_HIGH, ANNEAL, WEIGHTING = 50.0, 0.02, 0.6, False, "uniform"  # the paper's
WEIGHTINGS: Mapping[str, Callable[[Tensor], Tensor]] = {  # of ᾱ_t
    "uniform": torch.ones_like,
    "sds": lambda alpha_bar: 1 - alpha_bar,
    "fantasia3d": lambda alpha_bar: alpha_bar.sqrt() * (1 - alpha_bar),
}


class DiffusionGuidance:
    """A :class:`~depthlight.refine.guidance.Guidance` by a latent diffusion model and a prompt.

    Args:
        prior: the model.
        config: scale, noise levels, weighting and prompt; what is None is the paper's: g = 50, steps 20..600 of 1000
            drawn evenly, weighting ``uniform``.
        prompt_source: where the prompt is from, for the record.

    Raises:
        InputError: the configuration has no prompt, or a weighting of the small priors.
    """

    name = "stable-diffusion"

    def __init__(self, prior: StableDiffusion, config: GuidanceConfig, *, prompt_source: str = "given") -> None:
        if config.prompt is None:
            raise InputError("this prior needs a prompt", hint="Give one, or let load_guidance caption the photo")
        self.prior = prior
        self.prompt = config.prompt
        self.prompt_source = prompt_source
        self.scale = SCALE if config.scale is None else config.scale
        self.weighting = config.weighting or WEIGHTING
        if self.weighting not in WEIGHTINGS:
            raise InputError(f"guidance.weighting is {self.weighting}", expected=f"one of {', '.join(WEIGHTINGS)}")
        self.anneal = ANNEAL if config.anneal is None else config.anneal
        last = len(prior.alpha_bar_T) - 1
        shares = (T_LOW if config.t_low is None else config.t_low, T_HIGH if config.t_high is None else config.t_high)
        if shares[0] > shares[1]:
            raise InputError(f"t_low {shares[0]} is above t_high {shares[1]}", hint="Set both")
        self.t_low, self.t_high = (min(last, round(share * (last + 1))) for share in shares)
        self._text_2KD = torch.cat([prior.embed(self.prompt), prior.embed(NEGATIVE_PROMPT)])

    def loss(self, scene: Scene, *, progress: float, generator: torch.Generator) -> Tensor:
        """Score distillation over all re-lit photos, a scalar; see the head of this module.

        The value is that of the formula. Its gradient is ready before it returns, so that the graph of one photo at a
        time is held; differentiating it twice gives nothing.

        Args:
            scene: only the re-lit photos are read.
            progress: 0..1; counts only with ``anneal``.
            generator: a CPU generator; of each photo in turn: step, encoder noise, noise.
        """
        relit_N3HW = scene.relit_BL3HW.flatten(0, 1)
        losses, gradients = [], []
        for image_3HW in relit_N3HW:
            loss, gradient_3HW = self._score(image_3HW, progress, generator)
            losses.append(loss)
            gradients.append(gradient_3HW)
        value = torch.stack(losses).mean()
        if not relit_N3HW.requires_grad:
            return value
        gradient_N3HW = torch.stack(gradients) / len(gradients)
        # adds 0 to the value and the gradient to the graph
        return value + ((relit_N3HW - relit_N3HW.detach()) * gradient_N3HW).sum()

    def _score(self, image_3HW: Tensor, progress: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss of one photo, and its gradient (3, H, W), both on the photo's device."""
        prior = self.prior
        step_1 = self._step(progress, generator)
        shape = prior.latent_shape(1)
        encoder_noise, noise = (torch.randn(shape, generator=generator).to(prior.device) for _ in range(2))
        with torch.enable_grad():
            image_13HW = image_3HW.detach().unsqueeze(0).requires_grad_()
            square_13SS = letterbox(image_13HW, prior.size).to(prior.device)
            latent_1Css = prior.encode(square_13SS, encoder_noise)
            predicted = self._predict(latent_1Css.detach(), noise, step_1)
            weight = WEIGHTINGS[self.weighting](prior.alpha_bar_T[step_1]).view(1, 1, 1, 1)
            loss = sds_loss(latent_1Css, predicted, noise, weight)
            (gradient_13HW,) = torch.autograd.grad(loss, image_13HW)
        return loss.detach().to(image_3HW.device), gradient_13HW[0]

    def level(self, progress: float) -> tuple[float, float] | None:
        """See :class:`~depthlight.refine.guidance.Guidance`."""
        if not self.anneal:
            return None
        step = self._annealed(progress)
        weight = float(WEIGHTINGS[self.weighting](self.prior.alpha_bar_T[step])) ** 2
        return step / len(self.prior.alpha_bar_T), weight

    def _annealed(self, progress: float) -> int:
        return round(self.t_high + (self.t_low - self.t_high) * min(1.0, max(0.0, progress)))

    def _step(self, progress: float, generator: torch.Generator) -> Tensor:
        """t (1,), between the two ends, both included."""
        drawn = torch.randint(self.t_low, self.t_high + 1, (1,), generator=generator)
        if self.anneal:
            drawn = torch.tensor([self._annealed(progress)])
        return drawn.to(self.prior.device)

    def _predict(self, latent_1Css: Tensor, noise_1Css: Tensor, step_1: Tensor) -> Tensor:
        """ε̂ = ε_txt + g (ε_txt − ε_neg), from one call of the UNet."""
        latent_2Css, noise_2Css, step_2 = (torch.cat([tensor, tensor]) for tensor in (latent_1Css, noise_1Css, step_1))
        predicted_2Css = self.prior.predict_noise(latent_2Css, noise_2Css, step_2, self._text_2KD)
        text_1Css, negative_1Css = predicted_2Css.chunk(2)
        return text_1Css + self.scale * (text_1Css - negative_1Css)

    @cached_property
    def _weights_sha256(self) -> str:
        return self.prior.snapshot.weights_sha256()

    def describe(self) -> dict[str, Any]:
        """Plain values for ``result.json``. The first call reads the weights for their hash."""
        prior = self.prior
        total = len(prior.alpha_bar_T)
        return described(
            self.name,
            weights_sha256=self._weights_sha256,
            scale=self.scale,
            t_high=self.t_high / total,
            t_low=self.t_low / total,
            anneal=self.anneal,
            weighting=self.weighting,
            prompt=self.prompt,
            model=prior.snapshot.source,
            revision=prior.snapshot.revision,
            weights_files=[name for name in prior.snapshot.chosen if name.endswith(".safetensors")],
            schedule_steps=total,
            prediction=prior.prediction,
            prompt_source=self.prompt_source,
            negative_prompt=NEGATIVE_PROMPT,
            size=prior.size,
            precision={"unet": prior.precision, "text_encoder": prior.precision, "vae": "fp32"},
        )


def load_guidance(
    name: str,
    config: GuidanceConfig,
    *,
    device: torch.device,
    precision: str = "fp32",
    photo_HW3: NDArray[np.uint8] | None = None,
) -> DiffusionGuidance:
    """Stable Diffusion as guidance.

    Args:
        name: ``sd-1.5``, a hub id, or a folder of diffusers' layout.
        config: its settings. Without a prompt (None; an empty one is a prompt) the photo is captioned first, by a model
            that is freed before this one is loaded. When that fails, the error says so; nothing stands in for it.
        device: where it runs.
        precision: fp32, bf16 or fp16 (not on a CPU).
        photo_HW3: the photo, RGB, to caption.

    Raises:
        CheckpointError: a model cannot be had or read.
        InputError: neither prompt nor photo; fp16 on a CPU.
    """
    find_stable_diffusion(name, device=device, precision=precision)  # before minutes go into a caption
    prompt_source = "given"
    if config.prompt is None:
        if photo_HW3 is None:
            raise InputError("this prior needs a prompt, or a photo to caption", hint="Give --prompt")
        captioner = config.captioner or DEFAULT_CAPTIONER
        config = replace(config, prompt=caption(photo_HW3, captioner, device=device))
        prompt_source = f"caption by {captioner}"
    prior = load_stable_diffusion(name, device=device, precision=precision)
    return DiffusionGuidance(prior, config, prompt_source=prompt_source)
