"""What a prior must offer to guide a refinement, and the loss by which denoisers do.

Shapes: B batch, L lights, 3 sRGB channels in 0..1, H × W px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ..core.errors import InputError

if TYPE_CHECKING:
    from ..nets.lighting import Lighting


@dataclass(frozen=True)
class Scene:
    """A photo and what it would look like under other lights, if the depth were true.

    Attributes:
        photo_B3HW: the photo at the size of the rendering, sRGB in 0..1, without gradient.
        relit_BL3HW: the photo under each light, sRGB in 0..1; its gradient leads back to the depth.
        lighting: the L lights.
    """

    photo_B3HW: Tensor
    relit_BL3HW: Tensor
    lighting: Lighting


class Guidance(Protocol):
    """A prior that scores re-lit photos.

    Its answer depends on nothing but its fixed weights and settings, the arguments and what it draws from
    ``generator`` (a CPU generator): a refinement that was killed is resumed to the same bits from these alone.
    """

    @property
    def name(self) -> str:
        """As results state it."""
        ...

    def loss(self, scene: Scene, *, progress: float, generator: torch.Generator) -> Tensor:
        """A scalar whose gradient with respect to ``scene.relit_BL3HW`` is the direction to go against.

        Args:
            scene: one draw of lights.
            progress: 0 at the first step up to 1 at the last, for annealing noise levels.
            generator: the only source of randomness.
        """
        ...

    def level(self, progress: float) -> tuple[float, float] | None:
        """Where the run's progress settles the noise level: that level t, and what it weighs in :meth:`loss`.

        None where levels are drawn: the losses of two steps can then be compared on average.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Plain values for ``result.json``: name, hash of the weights, guidance scale in both conventions, noise
        levels, weighting, prompt."""
        ...


def described(
    name: str,
    *,
    weights_sha256: str,
    scale: float,
    t_high: float,
    t_low: float,
    anneal: bool,
    weighting: str,
    prompt: str | None,
    **more: Any,
) -> dict[str, Any]:
    """What every prior says of itself in ``result.json``, and ``more`` that is its own.

    Args:
        scale: g of ``eps = eps_told + g (eps_told - eps_less)``; both conventions are written.
        t_high, t_low: noise levels, shares of the prior's schedule (0..1).
    """
    return {
        "name": name,
        "weights_sha256": weights_sha256,
        "guidance_scale": {
            "g": scale,
            "convention": "eps = eps_told + g (eps_told - eps_less), the paper's",
            "usual": scale + 1,
            "usual_convention": "eps = eps_less + s (eps_told - eps_less)",
        },
        "t_high": t_high,
        "t_low": t_low,
        "anneal": anneal,
        "weighting": weighting,
        "prompt": prompt,
        **more,
    }


def sds_loss(x: Tensor, predicted: Tensor, noise: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Score distillation: ``0.5 · mean((x − stopgrad(x − w (ε̂ − ε)))²)`` (DreamFusion; Re-Depth Anything's form).

    Its gradient with respect to ``x`` is ``w (ε̂ − ε) / N`` with N the number of elements of ``x``; ``predicted`` and
    ``noise`` get none.

    Args:
        x: what was noised, any shape: latents, or pixels.
        predicted: ε̂, the noise the denoiser found, of x's shape.
        noise: ε, the noise that was added, of x's shape.
        weight: w, a number or a tensor that broadcasts to x's shape.

    Raises:
        InputError: the three differ in shape.
    """
    if not x.shape == predicted.shape == noise.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, predicted, noise))
        raise InputError(f"score distillation of shapes {shapes}", expected="one shape")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    target = (x - weight * (predicted.to(x.dtype) - noise.to(x.dtype))).detach()
    return 0.5 * (x - target).square().mean()
