"""OpenCV's StereoSGBM as a matcher: the classical baseline, dense by KITTI hole filling. Needs no torch, no weights.

Semi-global matching after Hirschmüller (PAMI 2008) with the Birchfield–Tomasi cost. Settings are those OpenCV documents
for colour images with 5×5 blocks (P1 = 8·3·25, P2 = 32·3·25). Both images are widened on the left by ``numDisparities``
columns (edge replicated): plain OpenCV leaves that margin of the left view without estimates.

Runs are deterministic: modes ``SGBM`` and ``HH`` use one thread, ``3WAY`` splits the rows into a fixed number of
stripes whatever ``cv2.setNumThreads`` says. Shapes: H, W are the size of the left image.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, InputError, LimitError, UnknownNameError
from ..io.images import ImageSource
from .checks import at_range_limit, inside_right_view
from .pairs import read_pair
from .prediction import ModelIdentity, StereoPrediction

MODES: Mapping[str, int] = MappingProxyType(
    {"HH": cv2.STEREO_SGBM_MODE_HH, "SGBM": cv2.STEREO_SGBM_MODE_SGBM, "3WAY": cv2.STEREO_SGBM_MODE_SGBM_3WAY}
)
STEP = 16  # OpenCV searches multiples of this many disparities, and returns sixteenths of a pixel
DEFAULT_RANGE = 192
LIMIT_MARGIN = 2  # px: two whole disparities, as two bins are for a network
MAX_DISPARITIES = 2032  # sixteenths in int16
MAX_COST_BYTES = 8 * 2**30


@dataclass(frozen=True, kw_only=True)
class SgbmConfig:
    """Settings of StereoSGBM, in its own units. ``mode``: ``HH`` 8 directions, ``SGBM`` 5, ``3WAY`` 3 (fastest)."""

    mode: str = "HH"
    block_size: int = 5
    p1: int = 600
    p2: int = 2400
    disp12_max_diff: int = 1
    pre_filter_cap: int = 63
    uniqueness_ratio: int = 10
    speckle_window_size: int = 100
    speckle_range: int = 32

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownNameError("SGBM mode", self.mode, MODES)
        if self.block_size < 1 or self.block_size % 2 == 0:
            raise ConfigError(f"SGBM block_size is {self.block_size}", expected="an odd number of at least 1")
        if not 0 < self.p1 < self.p2:
            raise ConfigError(f"SGBM penalties are {self.p1} and {self.p2}", expected="0 < p1 < p2")


class SgbmMatcher:
    """Dense disparity by StereoSGBM; holes are filled from the background (:func:`fill_holes`)."""

    name = "sgbm"
    max_disp = DEFAULT_RANGE

    def __init__(self, config: SgbmConfig | None = None) -> None:
        self.config = config or SgbmConfig()

    @property
    def identity(self) -> ModelIdentity:
        """Which matcher this is; it has no weights."""
        return ModelIdentity(self.name, None, "opencv", "int16", "cpu")

    def check_range(self, max_disp: int | None, min_disp: int = 0) -> None:
        """Refuse a range (px; None is 192) that OpenCV cannot search.

        Raises:
            InputError: it is not positive, or does not begin at 0.
            LimitError: it is above 2032 px.
        """
        if min_disp:
            raise InputError(
                f"{self.name} searches from 0 px, not from {min_disp}", hint="Use a network for such a range"
            )
        _disparity_count(DEFAULT_RANGE if max_disp is None else max_disp)

    def predict(
        self,
        left: ImageSource,
        right: ImageSource,
        *,
        max_disp: int | None = None,
        min_disp: int = 0,
        left_right: bool = False,
    ) -> StereoPrediction:
        """Match a rectified pair.

        Args:
            left, right: anything :func:`depthlight.io.images.as_image` takes; any size from 1×1 up.
            max_disp: range in px, 192 by default; rounded up to a multiple of 16, and the result states the range used.
            min_disp: 0; what else is refused.
            left_right: refused: SGBM checks the two views against each other by itself (``disp12_max_diff``), and what
                fails is a hole.

        Returns:
            ``confidence`` is 1 where SGBM has an estimate above 0 px and 0 where a hole was filled; ``valid`` marks
            estimates whose match lies inside the right image and at least 2 px below the range limit; ``estimated`` is
            the map behind ``density``. Without any estimate the disparity is 0 everywhere.

        Raises:
            InputError: the sizes differ, the range is not positive, or ``left_right`` was asked for.
            LimitError: the range or the cost volume is beyond what OpenCV can hold.
        """
        _refuse_left_right(self.name, left_right)
        self.check_range(max_disp, min_disp)
        return self._match(left, right, DEFAULT_RANGE if max_disp is None else max_disp)

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource, ImageSource]],
        *,
        max_disp: int | None = None,
        min_disp: int = 0,
        left_right: bool = False,
    ) -> list[StereoPrediction]:
        """Several pairs, one after the other. See :meth:`predict`."""
        how: dict[str, Any] = {"max_disp": max_disp, "min_disp": min_disp, "left_right": left_right}
        return [self.predict(left, right, **how) for left, right in pairs]

    def _match(self, left: ImageSource, right: ImageSource, max_disp: int) -> StereoPrediction:
        left_HW3, right_HW3 = read_pair(left, right)
        count = _disparity_count(max_disp)
        start = time.perf_counter()
        raw_HW = sgbm_disparity(left_HW3, right_HW3, count, self.config)
        estimated_HW = raw_HW > 0
        disparity_HW = fill_holes(raw_HW, estimated_HW)
        seconds = time.perf_counter() - start
        limit_HW = at_range_limit(raw_HW, count, LIMIT_MARGIN)
        return StereoPrediction(
            disparity=disparity_HW,
            confidence=estimated_HW.astype(np.float32),
            valid=estimated_HW & inside_right_view(raw_HW) & ~limit_HW,
            saturated=float(limit_HW.mean()),
            model=self.identity,
            max_disp=count,
            seconds=seconds,
            density=float(estimated_HW.mean()),
            estimated=estimated_HW,
        )


class SgbmOracle(SgbmMatcher):
    """SGBM that is told the disparity range of the scene by its ground truth: an upper bound, for evaluation only."""

    name = "sgbm-oracle"

    def check_range(self, max_disp: int | None, min_disp: int = 0) -> None:
        """Refused: without a ground truth there is no oracle, whatever the range.

        Raises:
            InputError: always.
        """
        raise InputError(
            "sgbm-oracle takes its disparity range from the ground truth, and here is none",
            hint="It runs in depthlight eval and in compare --truth; use sgbm",
        )

    def predict(
        self,
        left: ImageSource,
        right: ImageSource,
        *,
        max_disp: int | None = None,
        min_disp: int = 0,
        left_right: bool = False,
    ) -> StereoPrediction:
        """Refused: see :meth:`check_range` and :meth:`predict_with_truth`.

        Raises:
            InputError: always.
        """
        self.check_range(max_disp, min_disp)
        return super().predict(left, right, max_disp=max_disp, min_disp=min_disp, left_right=left_right)

    def predict_with_truth(
        self, left: ImageSource, right: ImageSource, truth_HW: NDArray[np.floating], valid_HW: NDArray[np.bool_]
    ) -> StereoPrediction:
        """As :meth:`SgbmMatcher.predict`, over the range :func:`truth_range` of the ground truth (px, where valid).

        Raises:
            InputError: as there, or no pixel has a truth.
        """
        return self._match(left, right, truth_range(truth_HW, valid_HW))


def load_sgbm(name: str) -> SgbmMatcher:
    """``"sgbm"`` or ``"sgbm-oracle"`` as a matcher.

    Raises:
        UnknownNameError: another name.
    """
    matchers = {matcher.name: matcher for matcher in (SgbmMatcher, SgbmOracle)}
    if name not in matchers:
        raise UnknownNameError("SGBM matcher", name, matchers)
    return matchers[name]()


def sgbm_disparity(
    left_HW3: NDArray[np.uint8], right_HW3: NDArray[np.uint8], count: int, config: SgbmConfig
) -> NDArray[np.float32]:
    """What StereoSGBM finds: (H, W) float32 px in steps of 1/16, 0 where it finds nothing.

    Args:
        count: number of disparities, a multiple of 16.

    Raises:
        LimitError: the cost volume would be larger than 8 GiB, or memory runs out.
    """
    height, width = left_HW3.shape[:2]
    needed = 4 * height * width * count if config.mode != "3WAY" else 0  # 3WAY keeps a few rows only
    too_large = f"a {width}×{height} pair with {count} disparities needs {needed / 2**30:.1f} GiB in SGBM"
    hint = "Use smaller images, a smaller max_disp or mode 3WAY"
    if needed > MAX_COST_BYTES:
        raise LimitError(too_large, expected=f"at most {MAX_COST_BYTES // 2**30} GiB", hint=hint)
    margin = count + max(0, config.block_size // 2 + 1 - width)  # OpenCV refuses to search fewer columns than that
    wide_left, wide_right = (
        cv2.copyMakeBorder(image, 0, 0, margin, 0, cv2.BORDER_REPLICATE) for image in (left_HW3, right_HW3)
    )
    try:
        sixteenths_HW = opencv_matcher(count, config).compute(wide_left, wide_right)
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        raise LimitError(too_large, expected="free memory of that size", hint=hint) from error
    disparity_HW: NDArray[np.float32] = sixteenths_HW[:, margin:].astype(np.float32) / np.float32(STEP)
    return np.maximum(disparity_HW, np.float32(0))


def fill_holes(disparity_HW: NDArray[np.float32], known_HW: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Background interpolation as in the KITTI stereo development kit; (H, W) float32, dense.

    In a row, a hole between two known pixels takes the smaller (farther) of them, a hole at an end the nearest known
    one. A row without a known pixel copies the nearest row above that has one, else the nearest below. Without any
    known pixel the result is 0.
    """
    height, width = disparity_HW.shape
    column_W = np.arange(width)
    left_HW = np.maximum.accumulate(np.where(known_HW, column_W, -1), axis=1)
    right_HW = np.minimum.accumulate(np.where(known_HW, column_W, width)[:, ::-1], axis=1)[:, ::-1]
    from_left_HW = np.take_along_axis(disparity_HW, np.maximum(left_HW, 0), axis=1)
    from_right_HW = np.take_along_axis(disparity_HW, np.minimum(right_HW, width - 1), axis=1)
    filled_HW = np.minimum(
        np.where(left_HW >= 0, from_left_HW, np.inf), np.where(right_HW < width, from_right_HW, np.inf)
    )
    row_known_H = known_HW.any(axis=1)
    if not row_known_H.any():
        return np.zeros((height, width), np.float32)
    row_H = np.arange(height)
    above_H = np.maximum.accumulate(np.where(row_known_H, row_H, -1))
    source_H = np.where(above_H >= 0, above_H, int(np.argmax(row_known_H)))
    return filled_HW[source_H].astype(np.float32)


def truth_range(truth_HW: NDArray[np.floating], valid_HW: NDArray[np.bool_]) -> int:
    """The range of ``sgbm-oracle``: the next multiple of 16 above the largest ground-truth disparity, px.

    Raises:
        InputError: no pixel has a truth.
    """
    if not valid_HW.any():
        raise InputError("the range cannot be taken from the truth", expected="at least one ground-truth pixel")
    return (int(truth_HW[valid_HW].max()) // STEP + 1) * STEP


def _refuse_left_right(name: str, left_right: bool) -> None:
    if left_right:
        raise InputError(
            f"{name} gives no right-view disparity for a left-right check", hint="Use a network, or leave it out"
        )


def _disparity_count(max_disp: int) -> int:
    if max_disp < 1:
        raise InputError(f"max_disp is {max_disp}", expected="at least 1 px")
    count = -(-max_disp // STEP) * STEP
    if count > MAX_DISPARITIES:
        raise LimitError(f"max_disp is {max_disp}", expected=f"at most {MAX_DISPARITIES} px for SGBM")
    return count


def opencv_matcher(count: int, config: SgbmConfig) -> Any:  # OpenCV 5 has no type for it
    """OpenCV's own matcher over ``count`` disparities (a multiple of 16)."""
    return cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=count,
        blockSize=config.block_size,
        P1=config.p1,
        P2=config.p2,
        disp12MaxDiff=config.disp12_max_diff,
        preFilterCap=config.pre_filter_cap,
        uniquenessRatio=config.uniqueness_ratio,
        speckleWindowSize=config.speckle_window_size,
        speckleRange=config.speckle_range,
        mode=MODES[config.mode],
    )
