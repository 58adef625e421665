"""Sheets of what the re-lighting prior imagines, beside the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.loader import Samples
from ..io.pictures import write_image
from ..nets.lighting import Lighting, relight
from ..nets.prior.denoiser import Conditions, Denoiser
from ..nets.prior.diffusion import sample
from ..refine.guidance import Scene
from ..refine.patches import PATCH, Patches, cut_patches, prior_normals
from .relight_gate import whole_image

_GAP = 2
_COLUMNS = 8
_CHUNK = 16  # samples at a time


def draw_sheet(
    net: Denoiser,
    scenes: Samples,
    path: Path,
    *,
    count: int = 64,
    steps: int = 40,
    seed: int = 0,
    device: torch.device | None = None,
) -> None:
    """Write a PNG of ``count`` samples, eight to a row, each below its photo and light and above its truth.

    The light is shown as a sphere lit by it. Samples of an unconditional prior have neither photo, light nor truth and
    stand alone. Coarse and native patches alternate.
    """
    device = device or torch.device("cpu")
    generator = torch.Generator().manual_seed(seed)
    patches = [_patch(scenes, index, count, generator) for index in range(count)]
    noise_N3PP = torch.randn((count, 3, PATCH, PATCH), generator=generator)
    drawn = []
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        told = _joined(patches[rows]).conditions().to(device)
        drawn.append(imagine(net, told, noise_N3PP[rows].to(device), steps).cpu())
    samples_N3PP = torch.cat(drawn)
    columns = []
    for patch, found_3PP in zip(patches, samples_N3PP, strict=True):
        cell = [patch.photo_N3PP[0], sphere(patch.light_N6[0]), found_3PP, patch.relit_N3PP[0]]
        columns.append(cell if net.conditional else [found_3PP])
    write_image(path, _grid(columns))


@torch.no_grad()
def imagine(net: Denoiser, told: Conditions, noise_N3PP: Tensor, steps: int) -> Tensor:
    """Samples of the prior, (N, 3, P, P), sRGB 0..1."""
    return ((sample(lambda x, t: net(x, t, told), noise_N3PP, steps) + 1) / 2).clamp(0, 1)


def sphere(light_6: Tensor, size: int = PATCH) -> Tensor:
    """A gray ball under a light (numbers as in ``Conditions.light_N6``), (3, size, size), sRGB 0..1."""
    along = torch.linspace(-1.1, 1.1, size)
    x, y = along[None, :].expand(size, size), -along[:, None].expand(size, size)
    inside = (x.square() + y.square()) < 1
    z = (1 - x.square() - y.square()).clamp(min=0).sqrt()
    normal_13PP = torch.where(inside, torch.stack([x, y, z]), torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1))[None]
    direction, weights, shininess = light_6[:3][None], light_6[3:5][None], 2.0 ** light_6[5:]
    lighting = Lighting(
        direction_L3=direction, diffuse_L=weights[:, 0], specular_L=weights[:, 1], shininess_L=shininess
    )
    return relight(torch.full((1, 3, size, size), 0.7), normal_13PP, lighting)[0, 0]


def _patch(scenes: Samples, index: int, count: int, generator: torch.Generator) -> Patches:
    """One patch of the index-th of ``count`` images spread over the scenes."""
    photo, raw = whole_image(scenes[index * len(scenes) // count])
    lighting = Lighting.sample(1, generator)
    scene = Scene(photo, relight(photo, prior_normals(raw), lighting), lighting)
    return cut_patches(scene, (index % 2 == 1,), generator)


def _joined(patches: list[Patches]) -> Patches:
    return Patches(*(torch.cat([getattr(p, name) for p in patches]) for name in vars(patches[0])))


def _grid(cells: list[list[Tensor]]) -> NDArray[np.uint8]:
    """Columns of pictures, eight to a row of the sheet."""
    height = len(cells[0]) * (PATCH + _GAP) + 2 * _GAP
    rows = -(-len(cells) // _COLUMNS)
    page = np.full((rows * height, min(len(cells), _COLUMNS) * (PATCH + _GAP) + _GAP, 3), 255, np.uint8)
    for index, column in enumerate(cells):
        top, left = (index // _COLUMNS) * height + _GAP, (index % _COLUMNS) * (PATCH + _GAP) + _GAP
        for picture in column:
            values = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            page[top : top + PATCH, left : left + PATCH] = values
            top += PATCH + _GAP
    return page
