"""What graphs are checked and calibrated on: pairs with real texture that every installation can make again.

Noise is no test: it hides drift that real texture shows, and inputs in 0..1 hide a lost normalisation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.extras import have, require
from ..data.synth.engine import plain_pairs

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
GATE_SEED, CALIBRATION_SEED, JUDGE_SEED = 101, 102, 103  # of pairs that gate, settle or calibrate, and judge int8
GATE_SIZE = (480, 736)
PAIR_SIZE = (256, 512)  # of the others


def gate_pair() -> tuple[str, Pair]:
    """A pair of at least 480×736 px, and what it is.

    scikit-image's motorcycle, a real pair, where it is installed (``depthlight[demo]``); else a layered scene of the
    procedural engine with its own patterns.
    """
    if have("skimage"):
        left, right, _ = require("skimage.data", extra="demo").stereo_motorcycle()
        return "scikit-image's motorcycle", (left, right)
    sample = plain_pairs(1, seed=GATE_SEED, size=GATE_SIZE)[0]
    return f"engine pair, layered, seed {GATE_SEED}, built-in patterns", (sample.left_HW3, sample.right_HW3)


def as_input(image_HW3: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """(1, 3, height, width) float32 from the top left, the image repeated in mirror images where it is too small."""
    bottom, right = max(0, height - image_HW3.shape[0]), max(0, width - image_HW3.shape[1])
    filled = np.pad(image_HW3, ((0, bottom), (0, right), (0, 0)), mode="symmetric")[:height, :width]
    return np.ascontiguousarray(filled.transpose(2, 0, 1)[None].astype(np.float32))
