"""Single images with their depth: the left views of scene folders, augmentation that keeps the truth exact, batches.

The truth is *inverse depth* up to a positive scale: the disparity of a scene. A sky at 0 is valid truth. Shape legend:
B batch, H W crop, 3 RGB. Images uint8.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import ConfigError, ImageError, InputError
from ..io.disparity_files import read_disparity
from ..io.images import read_image
from ..io.names import visible_folders
from .augment import add_noise, colour_jitter, compress, random_look, resize, resize_truth, to_gray
from .loader import BadSample, BatchFacts, Samples, StreamPlan, moved, stack_images, stack_maps, stream
from .readers.base import check_size
from .sampling import MixtureSampler
from .scenes import VIEW_SUFFIXES

SURFACE_STEPS = 128  # a jump of more than this part of the nearest inverse depth is an edge


@dataclass(frozen=True)
class MonoSample:
    """An image and its inverse depth (float32, >= 0, up to a positive scale), meaningful where ``valid_HW``."""

    image_HW3: NDArray[np.uint8]
    inverse_HW: NDArray[np.float32]
    valid_HW: NDArray[np.bool_]
    name: str
    path: Path | None = None


class MonoScenes:
    """The left views of scene folders with their disparity (see :mod:`depthlight.data.scenes`).

    Args:
        root: the folder that holds the scenes.
        names: the scenes to take; by default all folders with a left image, sorted by name.

    Raises:
        InputError: the folder is missing or holds no scene.
    """

    def __init__(self, root: str | os.PathLike[str], names: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        self.name = self.root.resolve().name
        if not self.root.is_dir():
            raise InputError(f"{self.root} is not a folder", expected="a folder of scene folders", path=str(self.root))
        found = (folder.name for folder in visible_folders(self.root) if _left(folder))
        self._names = tuple(found) if names is None else tuple(names)
        if not self._names:
            raise InputError(f"{self.root} holds no scene", expected="<scene>/left.png with disp.png", path=str(root))

    def __len__(self) -> int:
        return len(self._names)

    def sample_name(self, index: int) -> str:
        """The scene's name, without reading it."""
        return self._names[index]

    def __getitem__(self, index: int) -> MonoSample:
        """Read a scene.

        Raises:
            DepthlightError: a file is missing, damaged or of another size than the image; names its path.
        """
        name = self._names[index]
        folder = self.root / name
        image = _left(folder)
        if image is None:
            raise ImageError(f"{folder} holds no left image", expected="left.png, .jpg, .jpeg or .webp")
        image_HW3 = read_image(image)
        truth = read_disparity(folder / "disp.png")
        check_size(folder / "disp.png", truth.disparity_HW.shape, image_HW3.shape[:2])
        return MonoSample(image_HW3, truth.disparity_HW, truth.valid_HW, name, folder)


def _left(folder: Path) -> Path | None:
    return next((path for suffix in VIEW_SUFFIXES if (path := folder / f"left{suffix}").is_file()), None)


# ---------------------------------------------------------------------------------------------------- augmentation


@dataclass(frozen=True, kw_only=True)
class MonoAugmentConfig:
    """What may happen to an image with depth; probabilities 0..1. There is no vertical flip: photos have an up."""

    zoom: tuple[float, float] = (0.6, 1.4)  # log-uniform enlargement; never smaller than what fills the crop
    mirror: float = 0.5
    photometric: float = 1.0  # strength of gain, gamma, white balance and offset; 0 switches them off
    colour: float = 0.2  # strong brightness, contrast, saturation, hue (stage 2's of stereo)
    gray: float = 0.1
    noise: float = 0.4
    noise_levels: float = 8.0
    blur: float = 0.2
    jpeg: float = 0.2

    def __post_init__(self) -> None:
        for name in ("mirror", "colour", "gray", "noise", "blur", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"mono.augment.{name} is {getattr(self, name)}", expected="a probability from 0 to 1")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ConfigError(f"mono.augment.zoom is {self.zoom}", expected="0 < smallest <= largest")
        if min(self.photometric, self.noise_levels) < 0:
            raise ConfigError("mono.augment: a strength is negative", expected="0 or more")

    @classmethod
    def none(cls) -> MonoAugmentConfig:
        """A random crop and nothing else."""
        return cls(zoom=(1.0, 1.0), mirror=0, photometric=0, colour=0, gray=0, noise=0, blur=0, jpeg=0)


def mono_geometry(
    sample: MonoSample, config: MonoAugmentConfig, rng: np.random.Generator, crop: tuple[int, int]
) -> MonoSample:
    """A clean crop of ``crop`` = (H, W) px, perhaps mirrored. Inverse depth is 0 where it is not valid.

    Zooming does not change the truth: it is only known up to a scale.
    """
    height, width = sample.image_HW3.shape[:2]
    zoom = max(float(np.exp(rng.uniform(*np.log(config.zoom)))), crop[0] / height, crop[1] / width)
    rows, columns = min(round(crop[0] / zoom), height), min(round(crop[1] / zoom), width)
    y, x = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    window = np.s_[y : y + rows, x : x + columns]
    known = sample.valid_HW[window] & np.isfinite(sample.inverse_HW[window])
    source = np.where(known, sample.inverse_HW[window], 0).astype(np.float32)
    inverse, valid = resize_truth(source, known, crop, step=float(source.max()) / SURFACE_STEPS)
    image = resize(sample.image_HW3[window], crop)
    if rng.random() < config.mirror:
        image, inverse, valid = image[:, ::-1], inverse[:, ::-1], valid[:, ::-1]
    return replace(
        sample,
        image_HW3=np.ascontiguousarray(image),
        inverse_HW=np.ascontiguousarray(np.where(valid, inverse, np.float32(0))),
        valid_HW=np.ascontiguousarray(valid),
    )


def mono_appearance(image: NDArray[Any], config: MonoAugmentConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera does to an image and the truth does not notice."""
    if config.photometric:
        image = cv2.LUT(image, random_look(rng, config.photometric).table())
    if rng.random() < config.colour:
        image = colour_jitter(image, rng)
    if rng.random() < config.blur:
        image = cv2.GaussianBlur(image, (5, 5), float(rng.uniform(0.3, 1.5)))
    if rng.random() < config.noise:
        image = add_noise(image, config.noise_levels * float(rng.random()) ** 2, rng)
    if rng.random() < config.jpeg:
        image = compress(image, int(rng.integers(40, 96)))
    if rng.random() < config.gray:
        image = to_gray(image)
    return np.ascontiguousarray(image)


# ---------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True)
class MonoBatch:
    """What a training step sees; ``inverse_BHW`` counts where ``mask_BHW``. The rest as in ``loader.Batch``."""

    image_B3HW: Tensor  # uint8
    inverse_BHW: Tensor  # float32
    mask_BHW: Tensor  # bool
    names: tuple[str, ...]
    positions: tuple[int, ...]
    nominal: int
    bad: tuple[BadSample, ...] = ()
    cpu_seconds: float = 0.0

    def to(self, device: torch.device) -> MonoBatch:
        """The same batch with its tensors on ``device``."""
        return moved(self, device)


@dataclass(frozen=True)
class MonoRecipe:
    """How samples are prepared and put together. A crop with truth above 0 on less than ``least`` of it is refused."""

    augment: MonoAugmentConfig
    crop: tuple[int, int]
    least: float = 0.0

    def prepare(self, sample: MonoSample, rng: np.random.Generator) -> MonoSample:
        sample = mono_geometry(sample, self.augment, rng, self.crop)
        share = np.count_nonzero(sample.inverse_HW) / sample.inverse_HW.size
        if share < self.least:
            raise InputError(f"{sample.name} has depth on {share:.1%} of a crop", expected=f"{self.least:.0%} or more")
        return replace(sample, image_HW3=mono_appearance(sample.image_HW3, self.augment, rng))

    def collate(self, samples: list[MonoSample], facts: BatchFacts) -> MonoBatch:
        return MonoBatch(
            image_B3HW=stack_images([s.image_HW3 for s in samples], self.crop),
            inverse_BHW=stack_maps([s.inverse_HW for s in samples], self.crop, np.float32),
            mask_BHW=stack_maps([s.valid_HW for s in samples], self.crop, np.bool_),
            **vars(facts),
        )


def mono_batches(
    datasets: Sequence[Samples], sampler: MixtureSampler, recipe: MonoRecipe, plan: StreamPlan, start: int = 0
) -> Iterator[MonoBatch]:
    """Endless batches of augmented images from position ``start`` on; see :func:`depthlight.data.loader.stream`."""
    return stream(datasets, sampler, recipe.prepare, recipe.collate, plan, start)
