"""Wrong depth maps: what a prior is to pull away from.

A denoiser that has seen true pictures alone is content with a flat one: it is easy to denoise. So part of the noisy
pictures are lit by the normals of wrong maps, and the true picture is still what is to be found. The wrong maps have
the errors of depth networks, or are the answers of one: blurred, too flat or too steep, with bumps and dents that are
not there, or with something of another scene.

Shape legend: B images, H W size of the rendering.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.errors import InputError
from ..nets.ops import gaussian_blur
from ..refine.patches import OFFSET, depth_as_seen, seen_normals, standard_raw, with_slopes

_BLUR = 0.35  # shares of the wrong maps
_FOREIGN = 0.2
_RELIEF = 0.35
_SLOPES = 0.5
_BLUR_PX = (1.0, 12.0)
_RELIEF_PX = (1.0, 24.0)  # the width of its bumps
_RELIEF_STEEPNESS = (5e-4, 1e-2)  # their height, in shares of the depth, over their width
_SLOPE_FACTOR = (0.05, 4.0)
_OFFSET_FACTOR = (0.3, 3.0)  # of the offset that refinement gives the estimator's answers


class WrongDepth:
    """Makes them. ``estimator`` names a depth model of single photos, whose answers every other map begins with."""

    def __init__(self, estimator: str = "") -> None:
        self.net = None
        if estimator:
            from ..infer.mono import load_mono  # loads a network

            self.net = load_mono(estimator, device="cpu").net.eval().requires_grad_(False)
            if self.net.quantity != "inverse_depth":
                raise InputError(
                    f"prior.estimator {estimator} answers {self.net.quantity}", expected="relative inverse depth"
                )

    @torch.no_grad()
    def normals(self, photo_B3HW: Tensor, raw_B1HW: Tensor, generator: torch.Generator) -> Tensor:
        """Normals (B, 3, H, W) of one wrong map per image.

        Args:
            photo_B3HW: sRGB 0..1; what the estimator sees.
            raw_B1HW: the true map at the standard scale, NaN where it is not known.
            generator: on the CPU.
        """
        count = len(raw_B1HW)
        # estimator, blur and its width, foreign and its share, relief, its width and steepness, slopes and their
        # factor, the estimator's offset
        draw_B = torch.rand((count, 11), generator=generator).tolist()
        noise_B1HW = torch.randn(raw_B1HW.shape, generator=generator).to(raw_B1HW)
        known_B1HW = raw_B1HW.isfinite()
        filled_B1HW = torch.where(known_B1HW, raw_B1HW, 0.0)
        guess_B1HW = self._estimated(photo_B3HW)
        found = []
        for image, draw in enumerate(draw_B):
            raw, known = filled_B1HW[image : image + 1], known_B1HW[image : image + 1].to(raw_B1HW)
            estimated = guess_B1HW is not None and draw[0] < 0.5
            if guess_B1HW is not None and estimated:
                raw = guess_B1HW[image : image + 1] + OFFSET * _between(_OFFSET_FACTOR, draw[10])
                known = torch.ones_like(known)
            if draw[1] < _BLUR:
                sigma = _between(_BLUR_PX, draw[2])
                raw = gaussian_blur(raw * known, sigma) / gaussian_blur(known, sigma).clamp(min=1e-3)
            if draw[3] < _FOREIGN:
                other = (image + 1) % count
                share = 0.3 + 0.7 * draw[4]
                raw = (1 - share) * raw + share * filled_B1HW[other : other + 1]
            depth = depth_as_seen(raw)
            if draw[5] < _RELIEF:
                width = _between(_RELIEF_PX, draw[6])
                bumps = gaussian_blur(noise_B1HW[image : image + 1], width)
                depth = depth * (_between(_RELIEF_STEEPNESS, draw[7]) * width * bumps / bumps.std()).exp()
            normal = seen_normals(depth)
            untouched = not estimated and draw[1] >= _BLUR and draw[3] >= _FOREIGN and draw[5] >= _RELIEF
            if draw[8] < _SLOPES or untouched:
                normal = with_slopes(normal, _between(_SLOPE_FACTOR, draw[9]))
            found.append(normal)
        return torch.cat(found)

    def _estimated(self, photo_B3HW: Tensor) -> Tensor | None:
        if self.net is None:
            return None
        answer_B1HW = self.net.to(photo_B3HW.device)(photo_B3HW).float()
        # an answer of nothing but zeros has no scale
        return standard_raw(answer_B1HW.clamp(min=1e-6))


def _between(ends: tuple[float, float], draw: float) -> float:
    """Log-uniform."""
    return math.exp(math.log(ends[0]) + draw * math.log(ends[1] / ends[0]))
