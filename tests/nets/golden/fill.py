"""Deterministic weights and images behind the golden outputs of the official Lite Any Stereo code.

The golden files hold what the official networks answer, in float64, when every tensor of their state dict is
``weight(key, shape)`` and the pair is ``pair(height, width)``.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def weight(key: str, shape: tuple[int, ...]) -> NDArray[np.float32 | np.int64]:
    """The tensor at ``key``: drawn by a generator seeded with the key, scaled by the kind of tensor."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    noise = np.random.Generator(np.random.Philox(zlib.crc32(key.encode()))).standard_normal(shape).astype(np.float32)
    if key.endswith("running_var"):
        return (1 + 0.1 * np.abs(noise)).astype(np.float32)
    if key.endswith(("running_mean", "bias")):
        return (0.1 * noise).astype(np.float32)
    if key.endswith("gamma"):
        return (0.5 + 0.1 * noise).astype(np.float32)
    if len(shape) == 1:
        return (1 + 0.1 * noise).astype(np.float32)
    return (noise * np.sqrt(2.0 / int(np.prod(shape[1:])))).astype(np.float32)


def image(seed: int, height: int, width: int) -> Array:
    """A smooth RGB texture, (3, height, width) in 0..255: twelve waves a channel, stretched to the full range."""
    rng = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    channels = []
    for _ in range(3):
        waves = np.zeros((height, width))
        for _ in range(12):
            fx, fy = rng.uniform(0.005, 0.15), rng.uniform(0.005, 0.15)
            phase, gain = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1)
            waves += gain * np.sin(2 * np.pi * (fx * x + fy * y) + phase)
        channels.append((waves - waves.min()) / (waves.max() - waves.min()) * 255)
    return np.stack(channels).astype(np.float32)


def pair(height: int, width: int) -> tuple[Array, Array]:
    """Left and right view: the right one is the left moved by 12 px, with a tenth of another texture."""
    left = image(1, height, width)
    right = (0.9 * np.roll(left, -12, axis=2) + 0.1 * image(2, height, width)).astype(np.float32)
    return left, right
