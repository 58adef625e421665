"""The small prior: a UNet that denoises 64 x 64 patches of re-lit images, told the photo and the light or not.

Pixel space, dense 3 x 3 convolutions, GroupNorm, and one attention at the coarsest size. Most blocks sit at the coarse
sizes: shading is smooth, and a block at full size costs as much time as four at a quarter of it.

What the network is told is also what the picture was made of: it estimates the slopes behind the noisy picture, the
photo is re-lit by them in the told light, and the rest is learned as a correction. So it need not learn how to render,
and what it knows is shape. A map of trust says where that picture counts for more than the noisy one.

Shape legend: N patches, P patch side (a multiple of 8), C channels, E embedding. Images are sRGB in 0..1; the re-lit
image and its noisy version live in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError, InputError
from ..lighting import Lighting, relight
from .diffusion import alpha_sigma

LIGHT_NUMBERS = 6  # direction x y z, diffuse, specular, log2 shininess
_STEEPEST = 4.0  # sinh: slopes up to 27


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Sizes of the network. ``blocks`` are per level and direction; ``conditional`` adds the photo and the light."""

    conditional: bool = True
    channels: tuple[int, ...] = (32, 64, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 2, 4)
    embedding: int = 128

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.blocks) or len(self.channels) < 2 or min(self.blocks) < 1:
            raise ConfigError("channels and blocks", expected="one number of 1 or more for each of at least two levels")
        if any(channels % 8 for channels in self.channels) or self.embedding % 2:
            raise ConfigError("channels in multiples of 8 and an even embedding are needed")

    @classmethod
    def tiny(cls, *, conditional: bool = True) -> DenoiserConfig:
        """For tests: 40 K parameters."""
        return cls(conditional=conditional, channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1), embedding=16)


@dataclass(frozen=True)
class Conditions:
    """What the denoiser is told about each patch.

    ``light_N6``: unit direction towards the light (x right, y up, z towards the camera), diffuse and specular share,
    log2 of the shininess. ``native_N`` is 1 for a patch cut from the rendering as it is, 0 for the whole image shrunk.
    ``photo_on_N`` and ``light_on_N`` are 1, or 0 where that condition is withheld.
    """

    photo_N3PP: Tensor
    light_N6: Tensor
    native_N: Tensor
    photo_on_N: Tensor
    light_on_N: Tensor

    def withhold(self, photo_N: Tensor, light_N: Tensor) -> Conditions:
        """The same without the photo and the light where the masks (bool, (N,)) say so."""
        return replace(
            self, photo_on_N=self.photo_on_N * (~photo_N).float(), light_on_N=self.light_on_N * (~light_N).float()
        )

    def without(self, *, photo: bool, light: bool) -> Conditions:
        """The same with the photo, the light or both withheld everywhere."""
        every = torch.ones_like(self.native_N, dtype=torch.bool)
        return self.withhold(every & photo, every & light)

    def take(self, rows: Tensor) -> Conditions:
        """Those of the patches with these numbers; a number may occur more than once."""
        return Conditions(*(value[rows] for value in vars(self).values()))

    def to(self, device: torch.device) -> Conditions:
        """The same on ``device``."""
        return Conditions(*(value.to(device) for value in vars(self).values()))


class Denoiser(nn.Module):
    """Predicts v (see :mod:`.diffusion`) of a noisy re-lit patch."""

    family = "relight"

    def __init__(self, config: DenoiserConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DenoiserConfig()
        widths, embedding = config.channels, config.embedding
        self.conditional = config.conditional
        numbers = LIGHT_NUMBERS + 3 if config.conditional else 1
        self.time = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.told = nn.Sequential(nn.Linear(numbers, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.stem = nn.Conv2d(6 if config.conditional else 3, widths[0], 3, padding=1)
        self.down, self.up, self.rise = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, config.blocks, strict=True)):
            before = widths[max(level - 1, 0)]
            self.down.append(_level(before, width, count, embedding))
            self.up.append(_level(2 * width, width, count, embedding))
            self.rise.append(nn.Conv2d(width, before, 1) if level else nn.Identity())
        self.middle = nn.ModuleList([_Block(widths[-1], widths[-1], embedding), _Attention(widths[-1])])
        self.head = nn.Sequential(nn.GroupNorm(8, widths[0]), nn.SiLU())
        self.out = nn.Conv2d(widths[0], 7 if config.conditional else 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    @property
    def multiple(self) -> int:
        """Patch sides must be multiples of it."""
        return int(2 ** (len(self.config.channels) - 1))

    def forward(self, noisy_N3PP: Tensor, t_N: Tensor, conditions: Conditions) -> Tensor:
        """v, (N, 3, P, P).

        Args:
            noisy_N3PP: x_t.
            t_N: time in [0, 1].
            conditions: an unconditional network reads nothing but the scale from it.

        Raises:
            InputError: a patch side is no multiple of 8.
        """
        if any(side % self.multiple for side in noisy_N3PP.shape[-2:]):
            raise InputError(f"patches of {tuple(noisy_N3PP.shape)}", expected=f"sides in multiples of {self.multiple}")
        embedding = F.silu(self.time(_waves(t_N, self.config.embedding)) + self.told(self._numbers(conditions)))
        photo = (2 * conditions.photo_N3PP - 1) * conditions.photo_on_N[:, None, None, None]
        x = self.stem(torch.cat([noisy_N3PP, photo], 1) if self.conditional else noisy_N3PP)
        x = self.head(self._levels(x, embedding))
        out: Tensor = self.out(x)
        if not self.conditional:
            return out
        # Diffuse shading multiplies the photo: one channel of the answer is that factor.
        v = out[:, :3] + out[:, 3:4] * conditions.photo_N3PP * conditions.photo_on_N[:, None, None, None]
        alpha, sigma = alpha_sigma(t_N)
        known = (conditions.photo_on_N * conditions.light_on_N)[:, None, None, None]
        # v of the picture that the slopes give, times sigma²: with little noise, the noisy picture itself knows best,
        # unless it was lit by wrong normals
        trust_N1PP = sigma + out[:, 6:]
        with torch.autocast(out.device.type, enabled=False):  # highlights take powers: 16 bits are not enough
            picture_N3PP = self._picture(out[:, 4:6].to(conditions.photo_N3PP.dtype), conditions)
        return v + known * trust_N1PP * (alpha * noisy_N3PP - picture_N3PP)

    def _picture(self, slopes_N2PP: Tensor, told: Conditions) -> Tensor:
        """The photo in its light, with the estimated relief, in [-1, 1]."""
        slopes = slopes_N2PP.clamp(-_STEEPEST, _STEEPEST).sinh()  # gentle ones as they are, edges of depth within reach
        normal_N3PP = F.normalize(torch.cat([slopes, torch.ones_like(slopes[:, :1])], 1), dim=1)
        light_N16 = told.light_N6[:, None]
        lighting = Lighting(
            direction_L3=light_N16[..., :3],
            diffuse_L=light_N16[..., 3],
            specular_L=light_N16[..., 4],
            shininess_L=light_N16[..., 5].exp2(),
        )
        return 2 * relight(told.photo_N3PP, normal_N3PP, lighting)[:, 0] - 1

    def _numbers(self, told: Conditions) -> Tensor:
        if not self.conditional:
            return told.native_N[:, None]
        light = torch.cat([told.light_N6[:, :5], (told.light_N6[:, 5:] - 4.5) / 2], 1) * told.light_on_N[:, None]
        flags = torch.stack([told.light_on_N, told.photo_on_N, told.native_N], 1)
        return torch.cat([light, flags], 1)

    def _levels(self, x: Tensor, embedding_NE: Tensor) -> Tensor:
        beside = []
        for level, blocks in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if level else x
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, embedding_NE)
            beside.append(x)
        x = self.middle[1](self.middle[0](x, embedding_NE))
        for level in reversed(range(len(self.up))):
            x = torch.cat([x, beside[level]], 1)
            for block in self.up[level]:  # type: ignore[attr-defined]
                x = block(x, embedding_NE)
            x = F.interpolate(self.rise[level](x), scale_factor=2.0, mode="nearest") if level else x
        return x


def _level(inputs: int, width: int, count: int, embedding: int) -> nn.ModuleList:
    return nn.ModuleList([_Block(inputs if i == 0 else width, width, embedding) for i in range(count)])


def _groups(channels: int) -> int:
    return math.gcd(8, channels)


class _Block(nn.Module):
    """Norm, SiLU, convolution, twice, beside a skip; the embedding scales and shifts in between."""

    def __init__(self, inputs: int, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_groups(inputs), inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * width)
        self.norm2 = nn.GroupNorm(_groups(width), width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.skip: nn.Module = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x_NCPP: Tensor, embedding_NE: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x_NCPP)))
        scale, shift = self.modulate(embedding_NE)[:, :, None, None].chunk(2, 1)
        y = self.conv2(F.silu(torch.addcmul(shift, self.norm2(y), 1 + scale)))
        out: Tensor = self.skip(x_NCPP) + y
        return out


class _Attention(nn.Module):
    """Self-attention over all positions, four heads, beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(width), width)
        self.triple = nn.Conv2d(width, 3 * width, 1)
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x_NCPP: Tensor) -> Tensor:
        count, width, height, length = x_NCPP.shape
        triple = self.triple(self.norm(x_NCPP)).flatten(2).view(count, 3, 4, width // 4, height * length)
        query, key, value = triple.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        out: Tensor = x_NCPP + self.mix(mixed.reshape(count, width, height, length))
        return out


def _waves(t_N: Tensor, size: int) -> Tensor:
    """Sines and cosines of 1000 t with wavelengths from 2 pi to 2 pi 10^4 (Transformer's positions), (N, E)."""
    rates = torch.exp(torch.arange(size // 2, device=t_N.device, dtype=t_N.dtype) * (-math.log(1e4) / (size // 2)))
    angles = 1000 * t_N[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
