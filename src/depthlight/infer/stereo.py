"""A stereo network as a matcher: reading, padding, running, confidence and checks round a backend.

Shape legend: N pairs, H W image size.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..backends import StereoBackend
from ..core.errors import InputError
from ..io.images import ImageSource
from .checks import at_range_limit, inside_right_view, left_right_agree, says_nothing
from .memory import bytes_needed, most_pixels, need_memory
from .padding import MULTIPLE, crop, pad_to_multiple, up
from .pairs import Pair, read_pair, stacks
from .prediction import ModelIdentity, StereoPrediction
from .search_range import Windows, first_look, look_size, plan_windows, reduced, search
from .statistics import context_of, whole_statistics, why_not_tileable
from .tiles import Image, Map, Slices, Tile, plan_tiles, run_tiles


class StereoModel:
    """A stereo network with its weights, ready to predict.

    Made by :func:`depthlight.load`. ``max_disp`` is the range (px) used when ``predict`` is not told otherwise;
    ``max_memory`` (bytes; None: what is free) is what a prediction may use, and larger pairs are computed in tiles.
    """

    def __init__(self, name: str, backend: StereoBackend, *, weights_sha256: str | None, max_disp: int = 192) -> None:
        self.name = name
        self.backend = backend
        self.max_disp = max_disp
        self.max_memory: int | None = None
        self._kept = 0  # bytes that the runtime holds since its largest run, for the next one
        self.identity = ModelIdentity(name, weights_sha256, backend.name, backend.precision, backend.device)

    def check_range(self, max_disp: int | None, min_disp: int = 0) -> None:
        """Refuse a range (px; None is the model's own) that cannot be searched, before any work.

        Raises:
            InputError: it is empty.
            LimitError: beyond :data:`depthlight.backends.MAX_RANGE`.
        """
        self._windows(max_disp, min_disp)

    def find_range(self, left: ImageSource, right: ImageSource) -> tuple[int, int]:
        """The range (min_disp, max_disp) px that a pair seems to need, by a quarter-size pass.

        (0, the model's own) unless the pass finds disparities outside of that; thin things may be too thin for it.

        Raises:
            InputError, NonFiniteError, LimitError: as :meth:`predict`.
        """
        pair = read_pair(left, right)
        height, width = pair[0].shape[:2]
        left_HW3, right_HW3 = (pad_to_multiple(view) for view in pair)
        small = look_size(*left_HW3.shape[:2])
        tiles = self._tiles((1, *small), Windows(self.max_disp, (0,)), f"a first look at a {width}×{height} pair")
        return first_look(self.backend, left_HW3, right_HW3, self.max_disp, max(tile.pixels for tile in tiles))

    def _windows(self, max_disp: int | None, min_disp: int) -> Windows:
        if max_disp is None:
            max_disp = self.max_disp + min_disp // MULTIPLE * MULTIPLE
        return plan_windows(self.backend, self.max_disp, min_disp, max_disp)

    def predict(
        self,
        left: ImageSource,
        right: ImageSource,
        *,
        max_disp: int | None = None,
        min_disp: int = 0,
        left_right: bool = False,
    ) -> StereoPrediction:
        """Disparity of one rectified pair.

        Args:
            left: path, PIL image or array: (H, W), (H, W, 1|3|4), uint8, uint16 or float 0..255, RGB order.
            right: the same, of the same size.
            max_disp: where the range to search ends, px; by default the network's range above ``min_disp``. A wider
                range takes several passes (:mod:`.search_range`); it is rounded outwards, and the result states what
                was searched.
            min_disp: where it begins; negative where the optical axes cross in front of the scene.
            left_right: also compute the right view's disparity (twice the time) and keep only matches on which both
                views agree in ``valid``.

        Raises:
            InputError: the two views differ in size, an array is not an image, or the range is empty.
            NonFiniteError: an array holds NaN or infinity.
            LimitError: the range is beyond what is searched; or the pair needs more memory than there is
                (:attr:`max_memory`, what is free) and tiles do not help.
        """
        return self.predict_batch([(left, right)], max_disp=max_disp, min_disp=min_disp, left_right=left_right)[0]

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource, ImageSource]],
        *,
        max_disp: int | None = None,
        min_disp: int = 0,
        left_right: bool = False,
    ) -> list[StereoPrediction]:
        """Several pairs, of equal or different sizes; neighbours of one size share a pass. See :meth:`predict`."""
        windows = self._windows(max_disp, min_disp)
        results: list[StereoPrediction] = []
        for group in stacks([read_pair(left, right) for left, right in pairs]):
            for part in self._fitting(group, windows):
                results += self._predict_group(part, windows, left_right)
        return results

    def _fitting(self, group: Sequence[Pair], windows: Windows) -> Iterator[Sequence[Pair]]:
        """The pairs of a stack, together if that fits into memory, else in halves of it or one by one."""
        height, width = (up(side) for side in group[0][0].shape[:2])
        if len(group) > 1 and height * width > self._most_pixels((len(group), height, width), windows):
            middle = len(group) // 2
            yield from self._fitting(group[:middle], windows)
            yield from self._fitting(group[middle:], windows)
        else:
            yield group

    def _predict_group(self, group: Sequence[Pair], windows: Windows, left_right: bool) -> list[StereoPrediction]:
        started = time.perf_counter()
        disparity, confidence = self._run(group, windows)
        rights: list[NDArray[np.float32] | None] = [None] * len(group)
        if left_right:
            # Seen in a mirror, the right view is a left view: flip both and swap them.
            mirrored = [(right[:, ::-1], left[:, ::-1]) for left, right in group]
            rights = [np.ascontiguousarray(found[:, ::-1]) for found in self._run(mirrored, windows)[0]]
        seconds = (time.perf_counter() - started) / len(group)
        return [
            self._finish(pair, disparity[i], confidence[i], rights[i], windows, seconds) for i, pair in enumerate(group)
        ]

    def _run(
        self, group: Sequence[Pair], windows: Windows
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Disparity and confidence of each pair at its own size."""
        height, width = group[0][0].shape[:2]
        left, right = (np.stack([pad_to_multiple(pair[view]) for pair in group]) for view in (0, 1))
        tiles = self._tiles(left.shape, windows, f"a {width}×{height} pair")
        with whole_statistics(self.backend, left, right, tiles):
            most = max(tile.pixels for tile in tiles)
            coarse = reduced(self.backend, left, right, windows, most) if len(windows.lows) > 1 else None

            def part(left_NHW3: Image, right_NHW3: Image, seen: Slices) -> tuple[Map, Map]:
                known = None if coarse is None else (coarse[0][:, *seen], coarse[1][:, *seen])
                return search(self.backend, left_NHW3, right_NHW3, windows, known)

            maps = run_tiles(part, left, right, tiles)
        if self.backend.keeps_memory:
            self._kept = max(self._kept, self.backend.bytes_needed(len(group) * most, windows.size))
        return [crop(item, height, width) for item in maps[0]], [crop(item, height, width) for item in maps[1]]

    def _tiles(self, shape: tuple[int, ...], windows: Windows, what: str) -> list[Tile]:
        """The whole picture where it fits into memory, else tiles that do; refused where those would not be exact."""
        count, height, width = shape[:3]
        whole = plan_tiles(height, width, height * width, windows.low, windows.high)
        most = self._most_pixels((count, height, width), windows)
        if height * width <= most:
            return whole
        reason = why_not_tileable(self.backend, self.name, windows)
        context = context_of(self.backend)
        tiles = [] if reason else plan_tiles(height, width, most, windows.low, windows.high, context=context)
        if not tiles:
            needed = bytes_needed(self.backend, windows, count, height * width, height * width)
            need_memory(f"{what} at a range of {windows.high} px", needed, self.max_memory, reason, self._kept)
        return tiles or whole

    def _most_pixels(self, shape: tuple[int, int, int], windows: Windows) -> float:
        """The largest tile of ``shape`` = (pairs, height, width) that fits into memory."""
        if not self.identity.device.startswith("cpu"):
            return float("inf")
        count, height, width = shape
        return most_pixels(self.backend, windows, count, height * width, self.max_memory, self._kept)

    def _finish(
        self,
        pair: Pair,
        disparity: NDArray[np.float32],
        confidence: NDArray[np.float32],
        disparity_right: NDArray[np.float32] | None,
        windows: Windows,
        seconds: float,
    ) -> StereoPrediction:
        for what, found in (("a disparity", disparity), ("a confidence", confidence)):
            if not np.isfinite(found).all():
                raise InputError(f"{self.name} gave {what} that is not finite", hint="Its weights are damaged or unfit")
        limit = at_range_limit(disparity, windows.high, min_disp=windows.low)
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
            max_disp=windows.high,
            min_disp=windows.low,
            seconds=seconds,
            disparity_right=disparity_right,
        )
