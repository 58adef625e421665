"""A texture on a plane that recedes towards a horizon, without aliasing.

Shape legend: h, w size of the texture; 3 = RGB.
"""

from __future__ import annotations

import cv2
import numpy as np

from .scene import FloatImage


def project(
    texture_hw3: FloatImage, rows: int, columns: int, horizon: float, sign: int, centre: float, rng: np.random.Generator
) -> FloatImage:
    """A plane receding towards row ``horizon`` (rows grow nearer downwards for ``sign`` 1, upwards for −1).

    Each band of rows samples the level of the texture's pyramid that fits its density, so that far ground is smooth
    and not aliased.
    """
    levels = [np.ascontiguousarray(texture_hw3)]
    while min(levels[-1].shape[:2]) > 4:
        levels.append(np.asarray(cv2.pyrDown(levels[-1]), np.float32))
    t = np.arange(rows, dtype=np.float32) - np.float32(horizon if sign > 0 else -horizon)
    t = np.clip(t if sign > 0 else -t, 0.7, None)
    nearest = float(t.max())
    density = nearest * np.float32(rng.uniform(0.5, 1.6))
    focal = np.float32(rng.uniform(0.6, 1.2) * max(rows, columns))
    along, across = density * focal / t**2, density / t
    level = np.clip(np.log2(np.maximum(across, 0.5 * along)), 0, len(levels) - 1).astype(np.int32)
    x = (np.arange(columns, dtype=np.float32) - np.float32(centre))[None, :]
    shift = rng.uniform(0, 512, 2).astype(np.float32)
    out = np.empty((rows, columns, 3), np.float32)
    for k in np.unique(level):
        band = level == k
        scale = np.float32(0.5**k)
        high, wide = levels[k].shape[:2]
        u = _folded((x * across[band][:, None] + shift[0]) * scale, wide)
        v = _folded((density * focal / t[band] + shift[1]) * scale, high)
        v = np.repeat(v[:, None], columns, axis=1)
        out[band] = cv2.remap(levels[k], u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out


def _folded(position: FloatImage, size: int) -> FloatImage:
    """Positions mirrored into 0..size−1 (OpenCV's own reflection takes a step per period, which is slow far out)."""
    last = np.float32(size - 1)
    return np.asarray(last - np.abs(np.mod(position, 2 * last) - last), np.float32)
