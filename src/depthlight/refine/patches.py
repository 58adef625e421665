"""What the small prior sees: patches of re-lit images at two scales, with what it is told about them.

Training, the gate and the guidance all cut their patches here, so that the prior is asked what it was taught:

- Normals are a pinhole's (:func:`prior_normals`), whose focal length is the picture's longer side unless it is known.
  Inverse depth has no scale to it then, and a plane has one normal, whatever the offset: planes are most of what there
  is to see. (Under the paper's orthographic camera a floor grows steeper into the distance without bound, and flatness
  is rewarded where there is none.)
- Bumps are bumps (the ``surface`` convention), which matters to a prior that knows the light.
- The answers of depth networks know no offset, and theirs end at 0 where the truth does not: they are brought to one
  scale (:func:`standard_raw`), and :data:`OFFSET` is added.
- The rendering is :data:`RENDER` px on its short side. A *coarse* patch is the whole of it shrunk to :data:`PATCH` px
  on the short side, a *native* one is cut from it as it is.

Shape legend: B images, L lights, H W size of the rendering, N patches, P = PATCH. Images sRGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError
from ..nets.lighting import Lighting
from ..nets.prior.denoiser import Conditions
from .guidance import Scene
from .render import normals_pinhole

PATCH = 64
RENDER = 192
NEAR = 5.0  # the raw disparity that the nearest surfaces have, at the standard scale
OFFSET = 2.0  # of networks' answers at that scale: the best fit to held-apart scenes lies between 0 and 5
FOCAL = 1.0  # of the longer side, of a camera that nobody knows: 53 degrees
FILE_STEP = 1 / 256  # px, of the disparity files the engine writes
_HIGH = 0.98  # the quantile that stands for the nearest surfaces
_FARTHEST = 0.05  # raw disparity at the standard scale: a hundred times as far as the nearest surfaces


@dataclass(frozen=True)
class Patches:
    """Re-lit patches and what they were made from; ``light_N6`` and ``native_N`` as in :class:`Conditions`."""

    relit_N3PP: Tensor
    photo_N3PP: Tensor
    light_N6: Tensor
    native_N: Tensor

    def conditions(self) -> Conditions:
        """All there is to tell the prior; detached, in the network's number type."""
        every = torch.ones_like(self.native_N)
        return Conditions(self.photo_N3PP.detach(), self.light_N6, self.native_N, every, every)


def standard_raw(inverse_B1HW: Tensor, known_B1HW: Tensor | None = None) -> Tensor:
    """Relative inverse depth at the scale the prior knows: (B, 1, H, W), >= 0, 98 % of it up to :data:`NEAR`.

    Args:
        inverse_B1HW: inverse depth up to a positive scale, >= 0.
        known_B1HW: the pixels whose quantile counts; by default all.

    Raises:
        InputError: an image has no relief: its 98 % quantile is not above 0, or nothing of it is known.
    """
    images = list(inverse_B1HW.flatten(1))
    if known_B1HW is not None:
        images = [image[known] for image, known in zip(images, known_B1HW.flatten(1), strict=True)]
    high_B = _quantile(images, _HIGH)
    if not bool((high_B > 0).all()):
        raise InputError("a map of inverse depth is 0 nearly everywhere", expected="inverse depth above 0")
    return inverse_B1HW * (NEAR / high_B)[:, None, None, None]


def _quantile(images: Sequence[Tensor], share: float) -> Tensor:
    """Of each image's values, (B,); 0 where it has none."""
    return torch.stack(
        [
            values.kthvalue(min(len(values), 1 + int(share * len(values)))).values if len(values) else values.sum()
            for values in images
        ]
    )


def depth_as_seen(raw_B1HW: Tensor) -> Tensor:
    """Depth (B, 1, H, W), up to scale, of raw disparity at the standard scale; NaN stays NaN."""
    return 1 / raw_B1HW.clamp(min=_FARTHEST)


def seen_normals(depth_B1HW: Tensor) -> Tensor:
    """Normals (B, 3, H, W) of depth from a camera that nobody knows; (0, 0, −1) beside unknown depth."""
    height, width = depth_B1HW.shape[-2:]
    focal = FOCAL * max(height, width)
    return normals_pinhole(depth_B1HW, focal, focal, (width - 1) / 2, (height - 1) / 2)


def prior_normals(raw_B1HW: Tensor) -> Tensor:
    """Normals (B, 3, H, W) as the prior has seen them, of raw disparity at the standard scale."""
    return seen_normals(depth_as_seen(raw_B1HW))


def with_slopes(normal_B3HW: Tensor, factor: Tensor | float) -> Tensor:
    """Normals of the surface with every slope multiplied, by a number or (B, 1, 1, 1)."""
    return F.normalize(torch.cat([normal_B3HW[:, :2] * factor, normal_B3HW[:, 2:]], 1), dim=1)


def cut_patches(
    scene: Scene, native: tuple[bool, ...], generator: torch.Generator, *, together: bool = False
) -> Patches:
    """One patch of every image under every light, at random places; N = B·L, image by image.

    Args:
        scene: its lights may differ between images.
        native: for each light, whether its patches are cut as they are or from the image shrunk.
        generator: on the CPU.
        together: all lights of an image at one place.

    Raises:
        InputError: the rendering is smaller than a patch.
    """
    batch, lights, _, height, width = scene.relit_BL3HW.shape
    if len(native) != lights or min(height, width) < PATCH:
        raise InputError(
            f"a rendering of {height}x{width} with {lights} lights, of which {len(native)} have a scale",
            expected=f"at least {PATCH} px a side and one scale per light",
        )
    size = shrunk_size(height, width)
    photo_2 = (F.interpolate(scene.photo_B3HW, size, mode="area"), scene.photo_B3HW)
    small = [light for light in range(lights) if not native[light]]
    shrunk_BS3hw = F.interpolate(scene.relit_BL3HW[:, small].flatten(0, 1), size, mode="area") if small else None
    relit, photo = [], []
    places = torch.rand((batch, 1 if together else lights, 2), generator=generator).expand(-1, lights, -1).tolist()
    for image in range(batch):
        for light in range(lights):
            source = scene.relit_BL3HW[image, light]
            if shrunk_BS3hw is not None and not native[light]:
                source = shrunk_BS3hw[image * len(small) + small.index(light)]
            window = _window(places[image][light], source)
            relit.append(source[window])
            photo.append(photo_2[native[light]][image][window])
    return Patches(
        torch.stack(relit),
        torch.stack(photo),
        light_numbers(scene.lighting, batch).to(scene.photo_B3HW),
        torch.tensor(native, dtype=scene.photo_B3HW.dtype, device=scene.photo_B3HW.device).repeat(batch),
    )


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """The size of the whole image as coarse patches see it: PATCH px on the short side."""
    short = min(height, width)
    return max(PATCH, round(height * PATCH / short)), max(PATCH, round(width * PATCH / short))


def light_numbers(lighting: Lighting, batch: int) -> Tensor:
    """(B·L, 6): direction, diffuse and specular share, log2 of the shininess."""
    numbers = torch.cat(
        [
            lighting.direction_L3,
            torch.stack([lighting.diffuse_L, lighting.specular_L, lighting.shininess_L.log2()], -1),
        ],
        -1,
    )
    return (numbers if numbers.ndim == 3 else numbers.expand(batch, *numbers.shape)).reshape(-1, 6)


def smooth_steps(inverse_B1HW: Tensor, step: float) -> Tensor:
    """Inverse depth without the steps of a file's rounding, which far away would look like terraces.

    Three rounds of 3 x 3 means over neighbours 1, 2 and 4 px apart, of which those count that differ by less than three
    ``step`` (one step of the file): what is left alone is steeper than that, and edges.
    """
    height, width = inverse_B1HW.shape[-2:]
    for reach in (1, 2, 4):
        padded = F.pad(inverse_B1HW, (reach,) * 4, mode="replicate")
        total, weight = torch.zeros_like(inverse_B1HW), torch.zeros_like(inverse_B1HW)
        for y in (0, reach, 2 * reach):
            for x in (0, reach, 2 * reach):
                near = padded[..., y : y + height, x : x + width]
                counts = ((near - inverse_B1HW).abs() < 3 * step).to(near.dtype)
                total += near * counts
                weight += counts
        inverse_B1HW = total / weight
    return inverse_B1HW


def _window(place: list[float], source_3HW: Tensor) -> tuple[slice, slice, slice]:
    height, width = source_3HW.shape[-2:]
    top, left = int(place[0] * (height - PATCH + 1)), int(place[1] * (width - PATCH + 1))
    return slice(None), slice(top, top + PATCH), slice(left, left + PATCH)
