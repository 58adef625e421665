"""Errors by image region: where a matcher is good and where it is not.

The six regions are those of OpenCV's stereo regression tests, after Scharstein & Szeliski, "A taxonomy and evaluation
of dense two-frame stereo correspondence algorithms" (IJCV 2002): all pixels, non-occluded, occluded, textured,
texture-less (squared horizontal gray-level gradient, averaged over 3×3, below 4), and near depth edges (closer than
5 px to a step of more than 2 px). Pixels without truth and a border of 10 px belong to none.

Shapes: H, W are the size of the left image.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..data.samples import StereoSample
from .metrics import StereoMetrics, stereo_metrics

REGIONS = ("all", "noc", "occ", "textured", "textureless", "edges")
BORDER = 10
TEXTURE_WINDOW, TEXTURE_LEAST = 3, 4.0
EDGE_STEP, EDGE_WINDOW = 2.0, 9


def region_masks(sample: StereoSample) -> dict[str, NDArray[np.bool_]]:
    """(H, W) masks of :data:`REGIONS`; ``noc`` and ``occ`` only where the sample says what both views see.

    Raises:
        InputError: the sample has no ground truth.
    """
    if sample.disparity_HW is None or sample.valid_HW is None:
        raise InputError(f"{sample.name} has no ground truth", expected="a disparity map")
    inner_HW = np.zeros(sample.valid_HW.shape, np.bool_)
    inner_HW[BORDER:-BORDER, BORDER:-BORDER] = True
    counted_HW = sample.valid_HW & inner_HW
    textureless_HW = _textureless(sample.left_HW3)
    masks = {
        "all": counted_HW,
        "textured": counted_HW & ~textureless_HW,
        "textureless": counted_HW & textureless_HW,
        "edges": counted_HW & _near_edges(sample.disparity_HW, sample.valid_HW),
    }
    if sample.visible_HW is not None:
        masks |= {"noc": counted_HW & sample.visible_HW, "occ": counted_HW & ~sample.visible_HW}
    return {region: masks[region] for region in REGIONS if region in masks}


def region_metrics(disparity_HW: NDArray[np.floating], sample: StereoSample) -> Mapping[str, StereoMetrics | None]:
    """The metrics of each region that :func:`region_masks` gives; ``None`` for a region without a pixel.

    Raises:
        InputError: no ground truth, or the shapes differ.
    """
    masks = region_masks(sample)
    truth_HW = sample.disparity_HW
    assert truth_HW is not None  # for the type checker: region_masks has refused it
    return {
        region: stereo_metrics(disparity_HW, truth_HW, mask_HW) if mask_HW.any() else None
        for region, mask_HW in masks.items()
    }


def _textureless(image_HW3: NDArray[np.uint8]) -> NDArray[np.bool_]:
    gray_HW = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient_HW = cv2.filter2D(gray_HW, -1, np.array([[-0.5, 0.0, 0.5]], np.float32), borderType=cv2.BORDER_REPLICATE)
    mean_HW = cv2.blur(gradient_HW**2, (TEXTURE_WINDOW, TEXTURE_WINDOW), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mean_HW < TEXTURE_LEAST)


def _near_edges(disparity_HW: NDArray[np.floating], valid_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Within the window of a pixel whose right or lower neighbour differs by more than the step; both need a truth."""
    step_HW = np.zeros(valid_HW.shape, np.uint8)
    across = (np.abs(np.diff(disparity_HW, axis=1)) > EDGE_STEP) & valid_HW[:, 1:] & valid_HW[:, :-1]
    down = (np.abs(np.diff(disparity_HW, axis=0)) > EDGE_STEP) & valid_HW[1:] & valid_HW[:-1]
    step_HW[:, 1:] |= across
    step_HW[:, :-1] |= across
    step_HW[1:] |= down
    step_HW[:-1] |= down
    return np.asarray(cv2.dilate(step_HW, np.ones((EDGE_WINDOW, EDGE_WINDOW), np.uint8)) > 0)
