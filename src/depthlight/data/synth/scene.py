"""What a scene family hands to the engine.

Shape legend: H, W image size. All arrays are C-contiguous float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]


@dataclass(frozen=True)
class RenderedPair:
    """A clean rendering, before the camera model: RGB 0..255 and the exact disparity (px, > 0) of both views.

    ``camera`` is what it was seen with where the scene has metres: focal length (px), row of the horizon (px) and
    baseline (m).
    """

    left_HW3: FloatImage
    right_HW3: FloatImage
    disparity_HW: FloatImage
    right_disparity_HW: FloatImage
    camera: tuple[float, float, float] | None = None


class TextureSource(Protocol):
    """Where surfaces get their look from (folder, scikit-image, procedural)."""

    def sample(self, rng: np.random.Generator, height: int, width: int) -> FloatImage:
        """A (height, width, 3) float32 RGB texture in 0..255, of any kind in the mixture."""
        ...

    def photo(self, rng: np.random.Generator) -> FloatImage:
        """A whole photograph (h, w, 3) float32 RGB 0..255 at its own size (for the photo-warp family)."""
        ...


class Family(Protocol):
    """One kind of scene. All randomness comes from ``rng``; the same state gives the same bytes."""

    def __call__(
        self, rng: np.random.Generator, height: int, width: int, max_disp: float, textures: TextureSource
    ) -> RenderedPair: ...
