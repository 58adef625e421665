"""One disparity a pixel out of several searches of one pair.

Each candidate gets a score: the network's confidence, the likeness of the two views at its match (difference of
colours, and correlation of 5×5 px), and what speaks against it (an end of its window, a match outside the right view).
Scores are smoothed along the edges of the left image by a guided filter (He et al., PAMI 2013), and the best candidate
wins. There is no blending: a pixel's disparity is one that a search found.

Shape legend: H W image size, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]

# Chosen on three scenes of eval/wide_pairs.py, the weight of colour also on a real street: the views of real cameras
# differ in exposure and noise, those of the engine do not, and there 4 would be better.
WEIGHT_COLOUR, WEIGHT_PATTERN = 1.0, 0.5
AGAINST_END, AGAINST_OUTSIDE, AGAINST_COARSE = 4.0, 1.0, 0.3
MOST_DIFFERENCE = 30.0  # gray levels; beyond, a difference says no more
PATCH = 5  # px
RADIUS, EPSILON = 3, 1e-4  # of the guided filter: px, squared share of white
NOISE = 4.0  # variance in gray levels below which there is no pattern


@dataclass(frozen=True)
class Candidate:
    """A search's answer: disparity (H, W) px, confidence (H, W) 0..1, and where it is at an end of what it saw."""

    disparity_HW: Map
    confidence_HW: Map
    cut_off_HW: Mask | None = None  # None: it saw the whole range, at a coarser scale


def fuse(left_HW3: Image, right_HW3: Image, candidates: Sequence[Candidate]) -> tuple[Map, Map]:
    """The best candidate of every pixel: its disparity and its confidence, both (H, W)."""
    left, right = left_HW3.astype(np.float32), right_HW3.astype(np.float32)
    guide_HW = left.mean(2) / 255
    best_HW = np.full(guide_HW.shape, -np.inf, np.float32)
    disparity_HW, confidence_HW = np.zeros_like(best_HW), np.zeros_like(best_HW)
    for candidate in candidates:
        score_HW = _along_edges(guide_HW, _score(left, right, candidate))
        better_HW = score_HW > best_HW
        for kept, new in (
            (best_HW, score_HW),
            (disparity_HW, candidate.disparity_HW),
            (confidence_HW, candidate.confidence_HW),
        ):
            np.copyto(kept, new, where=better_HW)
    return disparity_HW, confidence_HW


def _score(left_HW3: Map, right_HW3: Map, candidate: Candidate) -> Map:
    height, width = candidate.disparity_HW.shape
    columns_HW = np.arange(width, dtype=np.float32)[None, :] - candidate.disparity_HW
    rows_HW = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
    warped = cv2.remap(right_HW3, columns_HW, rows_HW, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    match_HW3 = np.asarray(warped, np.float32)
    difference_HW = np.minimum(np.abs(left_HW3 - match_HW3).mean(2), MOST_DIFFERENCE) / np.float32(MOST_DIFFERENCE)
    score_HW = candidate.confidence_HW - WEIGHT_COLOUR * difference_HW
    score_HW += WEIGHT_PATTERN * _likeness(left_HW3, match_HW3)
    score_HW -= AGAINST_OUTSIDE * ((columns_HW < 0) | (columns_HW > width - 1))
    if candidate.cut_off_HW is None:
        score_HW -= AGAINST_COARSE
    else:
        score_HW -= AGAINST_END * candidate.cut_off_HW
    return np.asarray(score_HW, np.float32)


def _likeness(one_HW3: Map, other_HW3: Map) -> Map:
    """Normalised cross-correlation of patches, -1..1, 0 where there is no pattern."""
    mean_one, mean_other = _mean(one_HW3, PATCH), _mean(other_HW3, PATCH)
    together = _mean(one_HW3 * other_HW3, PATCH) - mean_one * mean_other
    alone = [
        np.maximum(_mean(image * image, PATCH) - mean * mean, 0) + NOISE
        for image, mean in ((one_HW3, mean_one), (other_HW3, mean_other))
    ]
    return np.asarray((together / np.sqrt(alone[0] * alone[1])).mean(2), np.float32)


def _along_edges(guide_HW: Map, values_HW: Map) -> Map:
    """Guided filter: averages that stop where the guide has an edge."""
    size = 2 * RADIUS + 1
    mean_guide, mean_values = _mean(guide_HW, size), _mean(values_HW, size)
    covariance = _mean(guide_HW * values_HW, size) - mean_guide * mean_values
    slope = covariance / (_mean(guide_HW * guide_HW, size) - mean_guide**2 + np.float32(EPSILON))
    return _mean(slope, size) * guide_HW + _mean(mean_values - slope * mean_guide, size)


def _mean(values: Map, size: int) -> Map:
    return np.asarray(cv2.blur(values, (size, size)), np.float32)
