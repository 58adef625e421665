"""Geometric and photometric augmentation of stereo samples, with the truth kept exact.

Geometry (crop, scale, flips, right-view shift) works on whole source pixels, so that the truth only ever needs to be
scaled, offset or resampled inside one surface. Photometry differs between the views: nets trained without that take
short cuts (ITSA, arXiv 2201.02263). All randomness comes from the generator handed in.

Shape legend: H, W size of the crop; 3 RGB. Images uint8, disparity px of the crop, left view.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, InputError
from .samples import StereoSample

Image = NDArray[Any]  # uint8, (H, W, 3)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_NOISE_SIZE = 1 << 21


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What may happen to a sample; probabilities 0..1. :meth:`none` is a plain random crop, as in the LAS papers."""

    scale: tuple[float, float] = (0.85, 1.5)  # log-uniform enlargement
    vertical_flip: float = 0.5
    mirrored_swap: float = 0.5  # needs the right view's disparity
    shift: float = 0.15  # right view moved, which adds px to the disparity
    shift_px: int = 24
    vertical_jitter: float = 0.3
    vertical_jitter_px: float = 0.5
    photometric: float = 1.0  # strength of gain, gamma, white balance and offset; 0 switches them off
    asymmetric: bool = True  # the right view gets its own photometry on top
    gray: float = 0.25
    noise: float = 0.5
    noise_levels: float = 6.0
    blur: float = 0.2
    jpeg: float = 0.15  # lossy compression, of another quality in each view
    erase: float = 0.4  # rectangles of the right view painted over

    def __post_init__(self) -> None:
        for name in (
            "vertical_flip",
            "mirrored_swap",
            "shift",
            "vertical_jitter",
            "gray",
            "noise",
            "blur",
            "jpeg",
            "erase",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}", expected="a probability from 0 to 1")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"augment.scale is {self.scale}", expected="0 < smallest <= largest")
        if min(self.shift_px, self.vertical_jitter_px, self.photometric, self.noise_levels) < 0:
            raise ConfigError("augment: a strength is negative", expected="0 or more")

    @classmethod
    def none(cls) -> AugmentConfig:
        """A random crop and nothing else."""
        return cls(
            scale=(1.0, 1.0),
            vertical_flip=0.0,
            mirrored_swap=0.0,
            shift=0.0,
            vertical_jitter=0.0,
            photometric=0.0,
            gray=0.0,
            noise=0.0,
            blur=0.0,
            jpeg=0.0,
            erase=0.0,
        )


def augment(
    sample: StereoSample, config: AugmentConfig, rng: np.random.Generator, crop: tuple[int, int]
) -> StereoSample:
    """A crop of ``crop`` = (H, W) px with all of ``config`` applied: :func:`geometry`, then :func:`appearance`."""
    sample = geometry(sample, config, rng, crop)
    left, right = appearance(sample.left_HW3, sample.right_HW3, config, rng)
    return replace(sample, left_HW3=left, right_HW3=right)


def geometry(
    sample: StereoSample, config: AugmentConfig, rng: np.random.Generator, crop: tuple[int, int]
) -> StereoSample:
    """A clean crop: what moves the truth along with the views. Disparity is finite, and 0 where invalid.

    Samples smaller than the crop are enlarged until it fits, disparity with them. ``visible_HW`` and the right
    disparity are dropped. A sample without truth (unlabelled) stays without.
    """
    if config.mirrored_swap and sample.right_disparity_HW is not None and rng.random() < config.mirrored_swap:
        sample = mirrored_swap(sample)
    shift = int(rng.integers(1, config.shift_px + 1)) if config.shift_px and rng.random() < config.shift else 0
    scale = float(np.exp(rng.uniform(*np.log(config.scale))))
    sample = crop_scaled(sample, crop, scale, shift, rng)
    if rng.random() < config.vertical_flip:
        sample = _vertical_flip(sample)
    return replace(
        sample, left_HW3=np.ascontiguousarray(sample.left_HW3), right_HW3=np.ascontiguousarray(sample.right_HW3)
    )


def appearance(left: Image, right: Image, config: AugmentConfig, rng: np.random.Generator) -> tuple[Image, Image]:
    """What the cameras do to the views and the truth does not notice: misalignment, photometry, erased rectangles."""
    if config.vertical_jitter and rng.random() < config.vertical_jitter:
        right = _move_vertically(right, float(rng.uniform(-1, 1)) * config.vertical_jitter_px)
    left, right = photometric(left, right, config, rng)
    if rng.random() < config.erase:
        right = _erase(right, rng)
    return np.ascontiguousarray(left), np.ascontiguousarray(right)


def mirrored_swap(sample: StereoSample) -> StereoSample:
    """The scene in a mirror: the right view becomes the left, both flipped; the truth is the right view's, flipped."""
    if sample.right_disparity_HW is None:
        raise InputError(f"{sample.name}: no right disparity", expected="one, to exchange the views")
    truth = sample.right_disparity_HW[:, ::-1]
    return replace(
        sample,
        left_HW3=sample.right_HW3[:, ::-1],
        right_HW3=sample.left_HW3[:, ::-1],
        disparity_HW=truth,
        valid_HW=np.isfinite(truth) & (truth > 0),
        right_disparity_HW=None if sample.disparity_HW is None else sample.disparity_HW[:, ::-1],
        visible_HW=None,
    )


def crop_scaled(
    sample: StereoSample, crop: tuple[int, int], scale: float, shift: int, rng: np.random.Generator
) -> StereoSample:
    """A random window, resized to ``crop``; the right window lies ``shift`` source px further right.

    The window is a whole number of source pixels, so the horizontal factor is known exactly, and disparity becomes
    (d + shift) · factor. ``shift`` is reduced where the image is too narrow for it.
    """
    height, width = sample.left_HW3.shape[:2]
    scale = max(scale, crop[0] / height, crop[1] / width)
    rows, columns = min(round(crop[0] / scale), height), min(round(crop[1] / scale), width)
    shift = min(shift, width - columns)
    y = int(rng.integers(0, height - rows + 1))
    x = int(rng.integers(0, width - columns - shift + 1))
    window, moved = np.s_[y : y + rows, x : x + columns], np.s_[y : y + rows, x + shift : x + shift + columns]
    disparity, valid = None, None
    if sample.disparity_HW is not None:
        source = sample.disparity_HW[window]
        known = np.isfinite(source) if sample.valid_HW is None else sample.valid_HW[window] & np.isfinite(source)
        disparity, valid = resize_truth(np.where(known, source, 0).astype(np.float32), known, crop)
        disparity = np.where(valid, (disparity + shift) * np.float32(crop[1] / columns), np.float32(0))
    return replace(
        sample,
        left_HW3=resize(sample.left_HW3[window], crop),
        right_HW3=resize(sample.right_HW3[moved], crop),
        disparity_HW=disparity,
        valid_HW=valid,
        visible_HW=None,
        right_disparity_HW=None,
    )


def resize(image: Image, size: tuple[int, int]) -> Image:
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=cv2.INTER_LINEAR)


def resize_truth(
    disparity_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_], size: tuple[int, int], step: float = 0.5
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Linear inside a surface, nearest at edges and holes: no value between two surfaces is ever invented.

    A pixel is at an edge if one of the eight around it differs from it by ``step`` (px) or more.
    """
    if disparity_HW.shape == size:
        return disparity_HW, valid_HW
    to = size[::-1]
    mask = valid_HW.astype(np.uint8) * 255
    near = cv2.resize(disparity_HW, to, interpolation=cv2.INTER_NEAREST_EXACT)
    known = cv2.resize(mask, to, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    smooth = cv2.resize(disparity_HW, to, interpolation=cv2.INTER_LINEAR)
    around = np.ones((3, 3), np.uint8)
    jump = np.maximum(cv2.dilate(disparity_HW, around) - disparity_HW, disparity_HW - cv2.erode(disparity_HW, around))
    edge = cv2.resize(jump, to, interpolation=cv2.INTER_NEAREST_EXACT) >= step
    inside = (cv2.resize(mask, to, interpolation=cv2.INTER_LINEAR) == 255) & ~edge
    return np.where(inside, smooth, near), known


def _vertical_flip(sample: StereoSample) -> StereoSample:
    return replace(
        sample,
        left_HW3=np.ascontiguousarray(sample.left_HW3[::-1]),
        right_HW3=np.ascontiguousarray(sample.right_HW3[::-1]),
        disparity_HW=None if sample.disparity_HW is None else np.ascontiguousarray(sample.disparity_HW[::-1]),
        valid_HW=None if sample.valid_HW is None else np.ascontiguousarray(sample.valid_HW[::-1]),
    )


def _move_vertically(image: Image, pixels: float) -> Image:
    move = np.array([[1, 0, 0], [0, 1, pixels]], np.float32)
    return cv2.warpAffine(image, move, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _erase(image: Image, rng: np.random.Generator) -> Image:
    """One to three rectangles in the view's mean colour: matches that are not there (RAFT's eraser)."""
    image = np.array(image)
    height, width = image.shape[:2]
    colour = image[::8, ::8].reshape(-1, 3).mean(0)
    for _ in range(int(rng.integers(1, 4))):
        h, w = (int(rng.integers(max(side // 16, 1), side // 5 + 1)) for side in (height, width))
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        image[y : y + h, x : x + w] = colour
    return image


# ---------------------------------------------------------------------------------------------------- photometry


@dataclass(frozen=True)
class Look:
    """One camera's tone curve: 255 · offset + 255 · gain_c · (v / 255) ** gamma."""

    gain_3: NDArray[np.float64]
    gamma: float
    offset: float

    def table(self) -> Image:
        levels = (np.arange(256) / 255.0) ** self.gamma
        curve = 255 * (levels[:, None] * self.gain_3 + self.offset)
        return np.clip(np.rint(curve), 0, 255).astype(np.uint8)[None]


def random_look(rng: np.random.Generator, strength: float, base: Look | None = None) -> Look:
    """Gain 0.7–1.4, gamma 0.75–1.35, white balance ±8 %, offset ±10 levels at strength 1; multiplied onto ``base``."""
    gain = np.exp(strength * (rng.uniform(-0.35, 0.35) + rng.uniform(-0.08, 0.08, 3)))
    gamma = float(np.exp(strength * rng.uniform(-0.3, 0.3)))
    offset = float(strength * rng.uniform(-0.04, 0.04))
    if base is None:
        return Look(gain, gamma, offset)
    return Look(base.gain_3 * gain, base.gamma * gamma, base.offset + offset)


def photometric(left: Image, right: Image, config: AugmentConfig, rng: np.random.Generator) -> tuple[Image, Image]:
    """Tone curves, blur, noise, compression and gray; with ``asymmetric`` others in the right view, in 0.7 of cases."""
    apart = config.asymmetric and rng.random() < 0.7
    if config.photometric:
        look = random_look(rng, config.photometric)
        other = random_look(rng, 0.5 * config.photometric, look) if apart else look
        left, right = cv2.LUT(left, look.table()), cv2.LUT(right, other.table())
    if rng.random() < config.blur:
        sigma = float(rng.uniform(0.3, 1.5))
        which = int(rng.integers(3)) if apart else 2
        left = cv2.GaussianBlur(left, (5, 5), sigma) if which != 1 else left
        right = cv2.GaussianBlur(right, (5, 5), sigma) if which != 0 else right
    if rng.random() < config.noise:
        level = config.noise_levels * float(rng.random()) ** 2
        left = add_noise(left, level, rng)
        right = add_noise(right, level * float(rng.uniform(0.5, 1.5)) if apart else level, rng)
    if rng.random() < config.jpeg:
        quality = int(rng.integers(40, 96))
        left, right = compress(left, quality), compress(right, int(rng.integers(40, 96)) if apart else quality)
    if rng.random() < config.gray:  # last: a gray camera's noise is gray too
        left, right = to_gray(left), to_gray(right)
    return left, right


def strong_colour_jitter(left: Image, right: Image, rng: np.random.Generator) -> tuple[Image, Image]:
    """Stage 2's perturbation: brightness, contrast, saturation ±40 %, hue ±36°, gamma 0.7–1.5, blur of σ 0.1–2.

    The same for both views, with probability 0.2 drawn apart (LAS1 supplement and LAS2 main text).
    """
    seeds = rng.integers(1 << 62, size=2)
    other = seeds[1] if rng.random() < 0.2 else seeds[0]
    return colour_jitter(left, np.random.default_rng(seeds[0])), colour_jitter(right, np.random.default_rng(other))


def colour_jitter(image: Image, rng: np.random.Generator) -> Image:
    brightness, contrast, saturation = rng.uniform(0.6, 1.4, 3)
    hue = float(rng.uniform(-0.1, 0.1)) * 2 * np.pi
    middle = float(image[::8, ::8].mean())
    matrix = (brightness * contrast * _colour_matrix(float(saturation), hue)).astype(np.float32)
    offset = np.full((3, 1), middle * brightness * (1 - contrast), np.float32)
    image = np.clip(cv2.transform(image.astype(np.float32), np.hstack([matrix, offset])), 0, 255).astype(np.uint8)
    gamma = float(rng.uniform(0.7, 1.5))
    image = cv2.LUT(image, Look(np.ones(3), gamma, 0.0).table())
    sigma = float(rng.uniform(0.1, 2.0))
    return cv2.GaussianBlur(image, (5, 5), sigma) if rng.random() < 0.5 else image


def _colour_matrix(saturation: float, hue: float) -> NDArray[np.float64]:
    """RGB → RGB: saturation about luma, hue as a rotation about the gray axis (which keeps grays)."""
    saturate = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.cross(np.eye(3), axis)
    rotate = np.cos(hue) * np.eye(3) + np.sin(hue) * cross + (1 - np.cos(hue)) * np.outer(axis, axis)
    mixed: NDArray[np.float64] = rotate @ saturate
    return mixed


def to_gray(image: Image) -> Image:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)


def compress(image: Image, quality: int) -> Image:
    """To JPEG and back."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


@functools.cache
def _noise_bank() -> NDArray[np.float32]:
    """Unit normals made once: drawing them anew for every crop would cost more than everything else together."""
    return np.random.default_rng(20_240_229).standard_normal(_NOISE_SIZE, dtype=np.float32)


def add_noise(image: Image, levels: float, rng: np.random.Generator) -> Image:
    """Gaussian noise of ``levels`` standard deviation: a random stretch of the bank."""
    start = int(rng.integers(max(_NOISE_SIZE - image.size, 1)))
    noise = _noise_bank()[start : start + image.size]
    if noise.size < image.size:
        noise = np.resize(noise, image.size)
    noisy: Image = image + np.float32(levels) * noise.reshape(image.shape)
    np.clip(np.rint(noisy, out=noisy), 0, 255, out=noisy)
    return noisy.astype(np.uint8)
