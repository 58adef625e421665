"""What a stereo refinement stays close to: the confident middle of a few cheap passes of the same network. No torch.

Shapes: H × W the pair, N passes. Disparity in px of the left view at input size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.signals import StopRequestedError
from ..infer.checks import left_right_agree
from ..infer.passes import middle, passes
from ..infer.prediction import StereoMatcher, StereoPrediction
from .stereo_config import StereoRefineConfig

Image = NDArray[np.uint8]
FloatMap = NDArray[np.float32]


@dataclass(frozen=True)
class Teacher:
    """All (H, W) float32: px, and shares in 0..1.

    ``disparity`` is the middle of the passes, ``agreement`` 1 where they agree, ``visible`` 1 where left and right view
    of the plain pass agree and 0 elsewhere. ``passes`` counts them.
    """

    disparity: FloatMap
    agreement: FloatMap
    visible: FloatMap
    passes: int


def teach(
    matcher: StereoMatcher,
    left_HW3: Image,
    right_HW3: Image,
    plain: StereoPrediction,
    config: StereoRefineConfig,
    *,
    should_stop: Callable[[], object] | None = None,
) -> Teacher:
    """Run the passes of the configuration and take their middle.

    Args:
        matcher: a network with a flexible range, where a pass is enlarged.
        left_HW3, right_HW3: the pair, RGB uint8.
        plain: the plain answer, with the right view's disparity.
        config: ``scales``, ``largest``, ``agreement``, ``visible``.
        should_stop: asked before every pass; a true answer raises StopRequestedError.

    Raises:
        LimitError: an enlarged pass needs more memory than is free.
        StopRequestedError: ``should_stop`` said so.
    """

    def check() -> None:
        if should_stop and should_stop():
            raise StopRequestedError

    scales = config.scales if config.closeness else ()
    found = list(passes(matcher, left_HW3, right_HW3, plain, scales=scales, largest=config.largest, check=check))
    middle_HW, spread_HW = middle(found)
    visible_HW = np.ones_like(middle_HW)
    if plain.disparity_right is not None:
        visible_HW = left_right_agree(middle_HW, plain.disparity_right, config.visible).astype(np.float32)
    agreement_HW = np.exp(-spread_HW / np.float32(config.agreement))
    return Teacher(middle_HW, np.asarray(agreement_HW, np.float32), visible_HW, len(found))
