"""How the two views look against each other: contrast, exposure, colour order, sharpness, noise.

Shape legend: H W image size, N matches, 3 = RGB.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]
Image = NDArray[np.uint8]
PATCH = 9  # px, side of the squares in which brightness is compared
REBLUR = 1.0  # px
WELL_EXPOSED = (12.0, 243.0)


def luminance(image_HW3: Image) -> FloatMap:
    """Gray as OpenCV weighs the channels (ITU-R BT.601), (H, W) float32 0..255."""
    return cv2.cvtColor(np.ascontiguousarray(image_HW3), cv2.COLOR_RGB2GRAY).astype(np.float32)


def contrast(gray_HW: FloatMap) -> float:
    """Standard deviation of the gray values after a slight blur, which takes the noise of an empty image away."""
    return float(cv2.GaussianBlur(gray_HW, (0, 0), 2.0).std())


def edge_blur(gray_HW: FloatMap, percentile: float = 25) -> float:
    """Blur of the sharper edges as the σ (px) of a Gaussian; 0 where there is no edge.

    Blurring an edge of width σ once more by σ0 lowers its gradient by R = sqrt(1 + σ0² / σ²) (Zhuo and Sim, Pattern
    Recognition 2011). Taken at local maxima of the gradient among the strongest; a low ``percentile`` is returned, as
    out-of-focus background is no fault.
    """
    first, second = (_gradient(cv2.GaussianBlur(gray_HW, (0, 0), s)) for s in (0.5, float(np.hypot(0.5, REBLUR))))
    strong_HW = (first > max(4.0, float(np.percentile(first, 90)))) & (
        first >= cv2.dilate(first, np.ones((3, 3))) - 1e-3
    )
    if int(strong_HW.sum()) < 30:
        return 0.0
    ratio_N = np.maximum(first[strong_HW] / np.maximum(second[strong_HW], 1e-3), 1.0 + 1e-3)
    sigma_N = REBLUR / np.sqrt(ratio_N**2 - 1)
    return float(np.sqrt(max(0.0, float(np.percentile(sigma_N, percentile)) ** 2 - 0.25)))


def _gradient(gray_HW: NDArray[Any]) -> FloatMap:
    return np.asarray(
        np.hypot(cv2.Sobel(gray_HW, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(gray_HW, cv2.CV_32F, 0, 1, scale=1 / 8)),
        np.float32,
    )


def noise(gray_HW: FloatMap) -> float:
    """Noise of the flattest tenth of 16×16 squares, standard deviation in gray levels (Immerkær's filter, 1996).

    Squares near black or white are left out, as clipping hides their noise; 0 where no square is left.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    response = cv2.filter2D(gray_HW, cv2.CV_32F, kernel) ** 2
    height, width = (size // 16 * 16 for size in gray_HW.shape)
    if not height or not width:
        return 0.0
    shape = height // 16, 16, width // 16, 16
    squares, levels = (values[:height, :width].reshape(shape).mean(axis=(1, 3)) for values in (response, gray_HW))
    fit = squares[(levels > 2 * WELL_EXPOSED[0]) & (levels < 255 - 2 * WELL_EXPOSED[0])]
    return float(np.sqrt(np.percentile(fit, 10))) if fit.size else 0.0


def patch_means(image_HW3: Image, points_N2: FloatMap) -> FloatMap:
    """Mean colour (N, 3) of the squares round the points (edge repeated)."""
    blurred = cv2.blur(np.ascontiguousarray(image_HW3).astype(np.float32), (PATCH, PATCH))
    height, width = image_HW3.shape[:2]
    columns = np.clip(np.rint(points_N2[:, 0]), 0, width - 1).astype(np.intp)
    rows = np.clip(np.rint(points_N2[:, 1]), 0, height - 1).astype(np.intp)
    return np.asarray(blurred[rows, columns], np.float32)


def gain(left_N3: FloatMap, right_N3: FloatMap) -> float:
    """Brightness of the right view divided by the left's: the median over matched squares that are well exposed."""
    left_N, right_N = left_N3.mean(axis=1), right_N3.mean(axis=1)
    low, high = WELL_EXPOSED
    fit_N = (left_N > low) & (left_N < high) & (right_N > low) & (right_N < high)
    if int(fit_N.sum()) < 10:
        left_N, right_N = np.maximum(left_N, 1), np.maximum(right_N, 1)
        fit_N = np.ones(len(left_N), bool)
    return float(np.exp(np.median(np.log(right_N[fit_N] / left_N[fit_N])))) if fit_N.any() else 1.0


def channel_swap(left_N3: FloatMap, right_N3: FloatMap) -> float:
    """How much better matched colours agree with red and blue exchanged: above 0 they do, at most 1.

    1 - error exchanged / error as they are, of colours freed of brightness; 0 where there is hardly any colour.
    """
    left, right = (colours - colours.mean(axis=1, keepdims=True) for colours in (left_N3, right_N3))
    colourful_N = np.abs(left[:, 0] - left[:, 2]) > 6
    if int(colourful_N.sum()) < 10:
        return 0.0
    left, right = left[colourful_N], right[colourful_N]
    plain = float(np.median(np.abs(left - right).sum(axis=1)))
    exchanged = float(np.median(np.abs(left - right[:, ::-1]).sum(axis=1)))
    return 1 - exchanged / plain if plain > 4 else 0.0
