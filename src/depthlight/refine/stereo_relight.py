"""Re-lighting as a term of a stereo refinement: disparity is inverse depth, and a prior judges the left view re-lit.

Shapes: B = 1 pair, L lights, H × W the pair without padding, h × w the size of the rendering.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nets.lighting import Lighting, relight
from .guidance import Guidance, Scene
from .loop import fitted_size
from .patches import RENDER, prior_normals, standard_raw

LONGEST = 2 * RENDER


class StereoRelighting:
    """The left view under random lights, by the normals of its disparity.

    Args:
        guidance: the prior.
        left_B3HW: (1, 3, H, W) sRGB in 0..1.
        start_BHW: (1, H, W) the first answer, px; it settles the scale at which the prior sees depth.
        lights: per step.
        seed: of lights and noise.

    Raises:
        InputError: the first answer has no relief.
    """

    def __init__(
        self, guidance: Guidance, left_B3HW: Tensor, start_BHW: Tensor, *, lights: int = 2, seed: int = 0
    ) -> None:
        height, width = left_B3HW.shape[-2:]
        self._guidance, self._lights = guidance, lights
        self._size = fitted_size(height, width, LONGEST, shortest=RENDER)
        self._photo_B3hw = F.interpolate(left_B3HW, size=self._size, mode="area")
        start_B1hw = self._shrunk(start_BHW)
        self._unit = float(start_B1hw.max() / standard_raw(start_B1hw).max())
        self.generator = torch.Generator().manual_seed(seed)

    def _shrunk(self, disparity_BHW: Tensor) -> Tensor:
        return F.interpolate(disparity_BHW[:, None], size=self._size, mode="area")

    def loss(self, disparity_BHW: Tensor, *, progress: float) -> Tensor:
        """A scalar; ``disparity_BHW`` is (1, H, W) px, ``progress`` 0..1 as in :class:`~.guidance.Guidance`."""
        normal_B3hw = prior_normals(self._shrunk(disparity_BHW) / self._unit)
        lighting = Lighting.sample(self._lights, self.generator).to(normal_B3hw)
        relit_BL3hw = relight(self._photo_B3hw, normal_B3hw, lighting)
        scene = Scene(self._photo_B3hw, relit_BL3hw, lighting)
        return self._guidance.loss(scene, progress=progress, generator=self.generator)
