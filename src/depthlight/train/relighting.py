"""What the prior learns from: photos with exact disparity become re-lit patches, noise is added, v is to be found.

Everything is rendered here, in the training step: a rendering costs a twentieth of what the network does with it, and
an image is read once for all its patches.

Shape legend: B images, L patches per image, N = B·L, H W crop, P patch side.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..data.mono import MonoBatch
from ..nets.lighting import Lighting, relight
from ..nets.prior.denoiser import Conditions, Denoiser
from ..nets.prior.diffusion import add_noise, alpha_sigma, image_of, velocity
from ..refine.guidance import Scene
from ..refine.patches import FILE_STEP, Patches, cut_patches, prior_normals, smooth_steps, standard_raw
from .prior_config import PriorConfig
from .task import StageOutput
from .wrong_depth import WrongDepth

_LEAST_VARIANCE = 0.2  # of the noise, by which the errors of wrong pictures are weighted


def render_patches(
    batch: MonoBatch, config: PriorConfig, generator: torch.Generator, wrong: WrongDepth | None = None
) -> tuple[Patches, Tensor]:
    """Patches of the images under random lights, (N = B·L) image by image; NaN where the disparity is not known.

    Returns:
        The patches, lit by true normals, and the pictures that are to be noised (N, 3, P, P): the same, or lit by the
        normals of ``wrong`` maps.
    """
    photo_B3HW = batch.image_B3HW.float() / 255
    count = len(photo_B3HW)
    known_B1HW = batch.mask_BHW[:, None]
    inverse_B1HW = smooth_steps(batch.inverse_BHW[:, None], FILE_STEP)
    raw_B1HW = torch.where(known_B1HW, standard_raw(inverse_B1HW, known_B1HW), torch.nan)
    normal_B3HW = prior_normals(raw_B1HW)
    native = (False,) * config.coarse + (True,) * config.native
    lighting = Lighting.sample(len(native), generator, batch=count).to(photo_B3HW)
    lit = [normal_B3HW]
    if wrong is not None:
        lit.append(wrong.normals(photo_B3HW, raw_B1HW, generator))
    places = generator.get_state()
    cut = []
    for normals in lit:
        generator.set_state(places)  # the same places for both
        cut.append(_cut(photo_B3HW, normals, lighting, native, generator))
    return cut[0], cut[-1].relit_N3PP


def _cut(
    photo_B3HW: Tensor,
    normal_B3HW: Tensor,
    lighting: Lighting,
    native: tuple[bool, ...],
    generator: torch.Generator,
) -> Patches:
    relit_BL3HW = relight(photo_B3HW, normal_B3HW, lighting)
    unknown_B13HW = (normal_B3HW[:, None, 2:] <= -1).expand(-1, 1, 3, -1, -1)  # what faces the camera is above it
    return cut_patches(
        Scene(photo_B3HW, relit_BL3HW.masked_fill(unknown_B13HW, torch.nan), lighting), native, generator
    )


def withheld(told: Conditions, config: PriorConfig, generator: torch.Generator) -> Conditions:
    """Condition drop-out: some patches are told nothing, some the photo alone."""
    draw_N = torch.rand(len(told.native_N), generator=generator).to(told.native_N)
    nothing_N = draw_N < config.drop_all
    return told.withhold(nothing_N, draw_N < config.drop_all + config.drop_light)


def random_times(count: int, generator: torch.Generator) -> Tensor:
    """Times (N,) in [0, 1], one in each of N equal parts, in random order: the loss varies least that way."""
    order = torch.randperm(count, generator=generator)
    return (order + torch.rand(count, generator=generator)) / count


def denoising_errors(
    net: Denoiser,
    relit_N3PP: Tensor,
    t_N: Tensor,
    noise_N3PP: Tensor,
    told: Conditions,
    shown_N3PP: Tensor | None = None,
    wrong_N: Tensor | None = None,
) -> Tensor:
    """Mean squared error of v over the known pixels, and the mean squared error of the estimated image; (2, N).

    Where ``wrong_N`` (bool), the noisy picture is made of ``shown_N3PP``, and the image to be found stays
    ``relit_N3PP``. v would have to be as far from the usual as the two are apart over sigma, so the first error is that
    of the image over sigma² there, and over no less than 0.2.
    """
    known_N3PP = relit_N3PP.isfinite()
    x_N3PP = torch.where(known_N3PP, 2 * relit_N3PP - 1, 0.0)
    start_N3PP = x_N3PP
    if shown_N3PP is not None and wrong_N is not None:
        shown_N3PP = torch.where(shown_N3PP.isfinite() & known_N3PP, 2 * shown_N3PP - 1, x_N3PP)
        start_N3PP = torch.where(wrong_N[:, None, None, None], shown_N3PP, x_N3PP)
    noisy_N3PP = add_noise(start_N3PP, noise_N3PP, t_N)
    found_N3PP = net(noisy_N3PP, t_N, told)
    image_N3PP = image_of(noisy_N3PP, found_N3PP, t_N)
    weight_N = known_N3PP.sum((1, 2, 3)).clamp(min=1)
    image_error_N = ((image_N3PP - x_N3PP).square() * known_N3PP).sum((1, 2, 3)) / weight_N
    error_N = ((found_N3PP - velocity(x_N3PP, noise_N3PP, t_N)).square() * known_N3PP).sum((1, 2, 3)) / weight_N
    if wrong_N is not None:
        sigma_N = alpha_sigma(t_N)[1][:, 0, 0, 0]
        error_N = torch.where(wrong_N, image_error_N / sigma_N.square().clamp(min=_LEAST_VARIANCE), error_N)
    return torch.stack([error_N, image_error_N.detach()])


class Denoising:
    """The loss of the task ``prior``: mean squared error of v, uniform over t; coarse and native patches apart."""

    def __init__(self, config: PriorConfig, seed: int, autocast: Callable[[], AbstractContextManager[object]]) -> None:
        self.config, self.seed, self.autocast = config, seed, autocast
        self.wrong = WrongDepth(config.estimator) if config.wrong else None

    def __call__(self, net: Denoiser, batch: MonoBatch) -> StageOutput:
        generator = batch_generator(self.seed, batch.positions)
        patches, shown_N3PP = render_patches(batch, self.config, generator, self.wrong)
        device = patches.relit_N3PP.device
        t_N = random_times(len(patches.native_N), generator).to(device)
        noise_N3PP = torch.randn(patches.relit_N3PP.shape, generator=generator).to(device)
        told = withheld(patches.conditions(), self.config, generator)
        wrong_N = None
        if self.wrong is not None:  # who is told too little cannot know
            wrong_N = (torch.rand(t_N.shape, generator=generator).to(device) < self.config.wrong) & (
                told.light_on_N > 0
            )
        with self.autocast():
            error_N, image_error_N = denoising_errors(
                net, patches.relit_N3PP, t_N, noise_N3PP, told, shown_N3PP, wrong_N
            )
        error_BL = error_N.float().unflatten(0, (len(batch.names), -1))
        share = error_BL.shape[1]
        terms = {"coarse": error_BL[:, : self.config.coarse].sum(1) / share}
        terms["native"] = error_BL[:, self.config.coarse :].sum(1) / share
        levels_B = 127.5 * image_error_N.float().unflatten(0, (len(batch.names), -1)).mean(1).sqrt()
        return StageOutput(terms, levels_B)


def batch_generator(seed: int, positions: tuple[int, ...]) -> torch.Generator:
    """Randomness that follows from the run's seed and the batch's place in the data alone."""
    number = (seed * 1_000_003 + positions[0] * 7_919 + 17) % 2**63
    return torch.Generator().manual_seed(number)
