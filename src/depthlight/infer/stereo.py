"""A stereo network as a matcher: reading, padding, running, confidence and checks round a backend.

Shape legend: N pairs, H W image size.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import StereoBackend
from ..core.errors import InputError
from ..io.images import ImageSource
from .checks import at_range_limit, inside_right_view, left_right_agree, says_nothing
from .memory import need_memory
from .padding import crop, pad_to_multiple
from .pairs import Pair, read_pair, stacks
from .prediction import ModelIdentity, StereoPrediction

MULTIPLE = 32


class StereoModel:
    """A stereo network with its weights, ready to predict.

    Made by :func:`depthlight.load`. ``max_disp`` is the range (px) used when ``predict`` is not told otherwise.
    """

    def __init__(self, name: str, backend: StereoBackend, *, weights_sha256: str | None, max_disp: int = 192) -> None:
        self.name = name
        self.backend = backend
        self.max_disp = max_disp
        self.identity = ModelIdentity(name, weights_sha256, backend.name, backend.precision, backend.device)

    def check_range(self, max_disp: int | None) -> None:
        """Refuse a range (px; None is the model's own) that the network cannot search, before any work.

        Raises:
            InputError: not a range of this network.
            LimitError: beyond :data:`depthlight.backends.MAX_RANGE`.
        """
        self.backend.check_range(self.max_disp if max_disp is None else max_disp)

    def predict(
        self,
        left: ImageSource,
        right: ImageSource,
        *,
        max_disp: int | None = None,
        left_right: bool = False,
    ) -> StereoPrediction:
        """Disparity of one rectified pair.

        Args:
            left: path, PIL image or array: (H, W), (H, W, 1|3|4), uint8, uint16 or float 0..255, RGB order.
            right: the same, of the same size.
            max_disp: range to search in px; the model's own by default.
            left_right: also compute the right view's disparity (twice the time) and keep only matches on which both
                views agree in ``valid``.

        Raises:
            InputError: the two views differ in size, an array is not an image, or the range is not the network's.
            NonFiniteError: an array holds NaN or infinity.
            LimitError: the pair and the range need more memory than is free (about 0.9 GB a megapixel on onnxruntime,
                1.5 GB on torch, at 192 px).
        """
        return self.predict_batch([(left, right)], max_disp=max_disp, left_right=left_right)[0]

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource, ImageSource]],
        *,
        max_disp: int | None = None,
        left_right: bool = False,
    ) -> list[StereoPrediction]:
        """Several pairs, of equal or different sizes; neighbours of one size share a pass. See :meth:`predict`."""
        self.check_range(max_disp)
        range_px = self.max_disp if max_disp is None else max_disp
        results: list[StereoPrediction] = []
        for group in stacks([read_pair(left, right) for left, right in pairs]):
            results += self._predict_group(group, range_px, left_right)
        return results

    def _predict_group(self, group: Sequence[Pair], max_disp: int, left_right: bool) -> list[StereoPrediction]:
        started = time.perf_counter()
        disparity, confidence = self._run(group, max_disp)
        rights: list[NDArray[np.float32] | None] = [None] * len(group)
        if left_right:
            # Seen in a mirror, the right view is a left view: flip both and swap them.
            mirrored = [(right[:, ::-1], left[:, ::-1]) for left, right in group]
            rights = [np.ascontiguousarray(found[:, ::-1]) for found in self._run(mirrored, max_disp)[0]]
        seconds = (time.perf_counter() - started) / len(group)
        return [
            self._finish(pair, disparity[i], confidence[i], rights[i], max_disp, seconds)
            for i, pair in enumerate(group)
        ]

    def _run(self, group: Sequence[Pair], max_disp: int) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Disparity and confidence of each pair at its own size."""
        height, width = group[0][0].shape[:2]
        if self.identity.device.startswith("cpu"):
            needed = self.backend.bytes_needed(len(group) * height * width, max_disp)
            need_memory(f"a {width}×{height} pair at a range of {max_disp} px", needed)
        left, right = (
            np.stack([pad_to_multiple(pair[view], MULTIPLE) for pair in group]).transpose(0, 3, 1, 2).astype(np.float32)
            for view in (0, 1)
        )
        disparity, confidence = self.backend.run(np.ascontiguousarray(left), np.ascontiguousarray(right), max_disp)
        padded = (disparity.shape[2], disparity.shape[1])
        enlarged = [cv2.resize(item, padded, interpolation=cv2.INTER_LINEAR) for item in confidence]
        return (
            [crop(item, height, width) for item in disparity],
            [np.clip(crop(item, height, width), 0, 1) for item in enlarged],
        )

    def _finish(
        self,
        pair: Pair,
        disparity: NDArray[np.float32],
        confidence: NDArray[np.float32],
        disparity_right: NDArray[np.float32] | None,
        max_disp: int,
        seconds: float,
    ) -> StereoPrediction:
        if not np.isfinite(disparity).all():
            raise InputError(
                f"{self.name} gave a disparity that is not finite", hint="Its weights are damaged or unfit"
            )
        limit = at_range_limit(disparity, max_disp)
        valid = inside_right_view(disparity) & ~limit
        if disparity_right is not None:
            valid &= left_right_agree(disparity, disparity_right)
        if says_nothing(*pair):
            confidence = np.zeros_like(confidence)
        return StereoPrediction(
            disparity=disparity,
            confidence=confidence,
            valid=valid,
            saturated=float(limit.mean()),
            model=self.identity,
            max_disp=max_disp,
            seconds=seconds,
            disparity_right=disparity_right,
        )
