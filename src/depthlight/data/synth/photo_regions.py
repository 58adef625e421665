"""Cutting a photograph into nested regions whose borders follow its colour edges.

Watershed superpixels are merged on their adjacency graph by the predicate of Felzenszwalb and Huttenlocher ("Efficient
Graph-Based Image Segmentation", IJCV 2004), twice: first into parts, then the parts into objects.

Shape legend: H, W image size; N nodes of a graph; E its edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import FloatImage

LabelMap = NDArray[np.int32]


@dataclass(frozen=True)
class Segmentation:
    """Parts and the objects they make up.

    ``part_HW`` holds part indices 0..n_parts-1; ``object_of_part_N`` the object of each part, 0..n_objects-1.
    """

    part_HW: LabelMap
    object_of_part_N: NDArray[np.int64]

    @property
    def object_map(self) -> LabelMap:
        """(H, W): the object index of every pixel."""
        return self.object_of_part_N.astype(np.int32)[self.part_HW]


def segment(photo_HW3: FloatImage, detail: float, cell: int = 11) -> Segmentation:
    """Segment an RGB photo (0..255).

    Args:
        photo_HW3: float32 RGB.
        detail: how fine; 1 gives some 10-40 objects on a photo of 300x700 px, smaller values fewer.
        cell: spacing of the watershed seeds in px, hence the smallest part; at most the photo's shorter side.
    """
    smooth_HW3 = np.asarray(cv2.medianBlur(np.clip(photo_HW3, 0, 255).astype(np.uint8), 5), np.uint8)
    lab_HW3 = np.asarray(cv2.cvtColor(smooth_HW3.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), np.float32)
    superpixel_HW = _superpixels(smooth_HW3, lab_HW3, cell)
    part_of_superpixel = _merge(superpixel_HW, lab_HW3, 25.0 / detail, 6 * cell * cell)
    part_HW = part_of_superpixel.astype(np.int32)[superpixel_HW]
    object_of_part = _merge(part_HW, lab_HW3, 60.0 / detail, 30 * cell * cell)
    return Segmentation(part_HW, object_of_part)


def _superpixels(smooth_HW3: NDArray[np.uint8], lab_HW3: FloatImage, cell: int) -> LabelMap:
    """Watershed from a grid of seeds, each moved to the flattest pixel of its cell; labels 0..N-1, no borders left."""
    H, W = smooth_HW3.shape[:2]
    light_HW = lab_HW3[..., 0]
    slope_HW = np.abs(cv2.Sobel(light_HW, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(light_HW, cv2.CV_32F, 0, 1))
    rows, columns = H // cell, W // cell
    cells = slope_HW[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
    flattest = cells.transpose(0, 2, 1, 3).reshape(rows, columns, cell * cell).argmin(axis=2)
    seed_y = np.arange(rows)[:, None] * cell + flattest // cell
    seed_x = np.arange(columns)[None, :] * cell + flattest % cell
    # One pixel of margin: watershed makes the outermost pixels a border, and a seed there would be lost.
    margin = 1
    markers_HW = np.zeros((H + 2 * margin, W + 2 * margin), np.int32)
    markers_HW[seed_y + margin, seed_x + margin] = np.arange(1, rows * columns + 1).reshape(rows, columns)
    padded_HW3 = cv2.copyMakeBorder(smooth_HW3, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    cv2.watershed(padded_HW3, markers_HW)
    labels_HW = np.ascontiguousarray(markers_HW[margin:-margin, margin:-margin])
    return _without_borders(labels_HW, lab_HW3) - 1


def _without_borders(markers_HW: LabelMap, lab_HW3: FloatImage) -> LabelMap:
    """Give each border pixel (-1) to the neighbour it resembles most, until none is left."""
    labels_HW = markers_HW.copy()
    while (open_HW := labels_HW < 1).any():
        y, x = np.nonzero(open_HW)
        best = np.full(y.size, np.inf, np.float32)
        choice = np.full(y.size, -1, np.int32)
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            yn = np.clip(y + dy, 0, labels_HW.shape[0] - 1)
            xn = np.clip(x + dx, 0, labels_HW.shape[1] - 1)
            difference = np.abs(lab_HW3[y, x] - lab_HW3[yn, xn]).sum(axis=1)
            better = (labels_HW[yn, xn] > 0) & (difference < best)
            best[better] = difference[better]
            choice[better] = labels_HW[yn, xn][better]
        labels_HW[y, x] = choice
    return labels_HW


def _merge(label_HW: LabelMap, lab_HW3: FloatImage, tolerance: float, min_area: int) -> NDArray[np.int64]:
    """Merge touching regions of like colour; returns the new label 0..n-1 of every old one.

    Two groups join when the edge between them is no stronger than the strongest inside either, plus ``tolerance``
    spread over the group's size (in units of ``min_area``); groups under ``min_area`` px join their likest neighbour.
    """
    count = int(label_HW.max()) + 1
    flat = label_HW.ravel()
    area_N = np.bincount(flat, minlength=count).astype(np.float64)
    mean_N3 = np.stack([np.bincount(flat, lab_HW3[..., c].ravel(), count) for c in range(3)], 1) / area_N[:, None]
    first_E, second_E, contrast_E = _borders(label_HW, lab_HW3, count)
    weight_E = 0.6 * np.linalg.norm(mean_N3[first_E] - mean_N3[second_E], axis=1) + 0.4 * contrast_E
    order_E = np.argsort(weight_E, kind="stable")
    forest = _Forest(area_N.tolist())
    edges = list(zip(first_E[order_E].tolist(), second_E[order_E].tolist(), weight_E[order_E].tolist(), strict=True))
    for a, b, weight in edges:
        forest.join_if_alike(a, b, weight, tolerance * min_area)
    for a, b, _ in edges:
        forest.join_if_small(a, b, min_area)
    roots = np.array([forest.root(i) for i in range(count)])
    return np.unique(roots, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _borders(
    label_HW: LabelMap, lab_HW3: FloatImage, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of touching labels and the mean colour difference across their common border."""
    keys, steps = [], []
    for axis in (0, 1):
        length = label_HW.shape[axis]
        index = np.arange(length - 1)
        a, b = np.take(label_HW, index, axis), np.take(label_HW, index + 1, axis)
        # One pixel further out on either side: the photo's own blur hides the step between direct neighbours.
        outer = (
            np.take(lab_HW3, np.maximum(index - 1, 0), axis),
            np.take(lab_HW3, np.minimum(index + 2, length - 1), axis),
        )
        here = a != b
        keys.append(np.minimum(a, b)[here].astype(np.int64) * count + np.maximum(a, b)[here])
        steps.append(np.abs(outer[0][here] - outer[1][here]).sum(axis=1))
    unique, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    inverse = inverse.reshape(-1)
    contrast = np.bincount(inverse, np.concatenate(steps)) / np.bincount(inverse)
    return unique // count, unique % count, contrast


class _Forest:
    """Union-find over regions that knows each group's area and strongest inner edge."""

    def __init__(self, area: list[float]) -> None:
        self._parent = list(range(len(area)))
        self._area = area
        self._inner = [0.0] * len(area)

    def root(self, node: int) -> int:
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def join_if_alike(self, a: int, b: int, weight: float, slack: float) -> None:
        a, b = self.root(a), self.root(b)
        limit = min(self._inner[a] + slack / self._area[a], self._inner[b] + slack / self._area[b])
        if a != b and weight <= limit:
            self._join(a, b, weight)

    def join_if_small(self, a: int, b: int, min_area: float) -> None:
        a, b = self.root(a), self.root(b)
        if a != b and min(self._area[a], self._area[b]) < min_area:
            self._join(a, b, 0.0)

    def _join(self, a: int, b: int, weight: float) -> None:
        self._parent[b] = a
        self._area[a] += self._area[b]
        self._inner[a] = max(self._inner[a], self._inner[b], weight)
