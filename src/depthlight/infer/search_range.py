"""Any range of disparities with every network: shifted windows, and what joins them.

A network searches 0 to its range. Moving the right view by k px lowers every disparity by k, so a window [k, k + range)
is a plain pass over the moved pair, with k added to the answer. Where one window holds the range that is all there is,
and its numbers are those of the plain pass. A wider range takes several overlapping windows and a pass over the reduced
pair that sees all of it at once; :mod:`.fusion` chooses per pixel. Networks with a run-time range search up to twice
their usual one in a pass; beyond, windows are better (docs/explanation/range.md).

Shape legend: N pairs, H W padded size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import MAX_RANGE, StereoBackend
from ..core.errors import InputError, LimitError
from .fusion import Candidate, fuse
from .padding import MULTIPLE, pad_to_multiple, up
from .tiles import plan_tiles, run_tiles

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
OVERLAP = 64  # px, at most, that neighbouring windows share, so that nothing lies near the ends of both
END = 12  # px at a window's inner ends in which it is not believed: three bins of a network
ONE_PASS = 2  # times its usual range that a network with a run-time range searches at once
LOOK_SCALE = 4  # of the first look
LOOK_BELOW = 128  # px below 0 that it sees
LOOK_CONFIDENCE = 0.8
LOOK_SHARE = 0.01  # of the pixels: fewer beyond the usual range are outliers
LOOK_MARGIN = 16  # px by which the found range is widened


@dataclass(frozen=True)
class Windows:
    """Passes that search a range: each ``size`` px from one of ``lows``, which ascend."""

    size: int
    lows: tuple[int, ...]

    @property
    def low(self) -> int:
        """The smallest disparity searched, px."""
        return self.lows[0]

    @property
    def high(self) -> int:
        """Where the search ends, px."""
        return self.lows[-1] + self.size


def plan_windows(backend: StereoBackend, usual: int, low: int, high: int) -> Windows:
    """The passes that search at least ``low`` to ``high`` px, rounded outwards to what the network takes.

    Args:
        backend: the network.
        usual: its usual range, px.
        low: may be negative.
        high: above ``low``.

    Raises:
        InputError: an empty range.
        LimitError: wider than :data:`depthlight.backends.MAX_RANGE`, or ends beyond it.
    """
    if low >= high:
        raise InputError(f"the disparity range is {low} to {high} px", expected="a smallest below the largest")
    if high - low > MAX_RANGE or max(-low, high) > MAX_RANGE:
        raise LimitError(f"the disparity range is {low} to {high} px", expected=f"at most {MAX_RANGE} px")
    low = low // MULTIPLE * MULTIPLE
    span = up(high - low)
    if span <= max(usual * ONE_PASS, MULTIPLE) and _takes(backend, span):
        return Windows(span, (low,))
    backend.check_range(usual)
    stride = usual - min(OVERLAP, usual // 2 // MULTIPLE * MULTIPLE)
    steps = max(0, -(-(span - usual) // stride))
    return Windows(usual, tuple(low + step * stride for step in range(steps + 1)))


def _takes(backend: StereoBackend, span: int) -> bool:
    try:
        backend.check_range(span)
    except LimitError:
        raise
    except InputError:
        return False
    return True


def search(
    backend: StereoBackend,
    left_NHW3: Image,
    right_NHW3: Image,
    windows: Windows,
    coarse: tuple[Map, Map] | None = None,
) -> tuple[Map, Map]:
    """Disparity (px) and confidence (0..1) over ``windows``, both (N, H, W).

    ``left_NHW3`` and ``right_NHW3`` are RGB uint8 with H and W multiples of 32; ``coarse`` is what :func:`reduced` says
    of them, if that is known (of a larger picture, say).

    Raises:
        LimitError: memory runs out.
    """
    # a window that begins beyond the width of the picture holds no match
    lows = [low for low in windows.lows if low < left_NHW3.shape[2]] or [windows.low]
    found = [_pass(backend, left_NHW3, moved(right_NHW3, low), windows.size, low) for low in lows]
    if len(lows) == 1:
        return found[0]
    coarse = coarse or reduced(backend, left_NHW3, right_NHW3, windows)
    joined = [
        fuse(left, right, [*_candidates([(disp[i], conf[i]) for disp, conf in found], windows, lows), last])
        for i, (left, right, last) in enumerate(
            zip(left_NHW3, right_NHW3, (Candidate(*maps) for maps in zip(*coarse, strict=True)), strict=True)
        )
    ]
    return np.stack([disp for disp, _ in joined]), np.stack([conf for _, conf in joined])


def _candidates(found: Sequence[tuple[Map, Map]], windows: Windows, lows: Sequence[int]) -> Iterator[Candidate]:
    """Each window's answer, not believed near the ends where another window goes on."""
    for low, (disparity_HW, confidence_HW) in zip(lows, found, strict=True):
        cut_off_HW = disparity_HW > low + windows.size - END
        if low > windows.low:
            cut_off_HW |= disparity_HW < low + END
        yield Candidate(disparity_HW, confidence_HW, cut_off_HW)


def moved(image_NHW3: Image, by: int) -> Image:
    """The images with every column ``by`` px further right, their first or last column repeated."""
    if by == 0:
        return image_NHW3
    width = image_NHW3.shape[-2]
    return np.ascontiguousarray(image_NHW3[..., np.clip(np.arange(width) - by, 0, width - 1), :])


def _pass(backend: StereoBackend, left_NHW3: Image, right_NHW3: Image, size: int, low: int) -> tuple[Map, Map]:
    """One plain pass; its disparity ``low`` px up, its confidence enlarged to full size."""
    left, right = (
        np.ascontiguousarray(view.transpose(0, 3, 1, 2), dtype=np.float32) for view in (left_NHW3, right_NHW3)
    )
    disparity_NHW, confidence_Nhw = backend.run(left, right, size)
    full = (left.shape[3], left.shape[2])
    enlarged = [np.clip(cv2.resize(item, full, interpolation=cv2.INTER_LINEAR), 0, 1) for item in confidence_Nhw]
    return (disparity_NHW + np.float32(low) if low else disparity_NHW), np.stack(enlarged)


def reduced(
    backend: StereoBackend, left_NHW3: Image, right_NHW3: Image, windows: Windows, most_pixels: float = float("inf")
) -> tuple[Map, Map]:
    """A pass over the pair made small enough that one window holds the whole range: disparity, confidence (N, H, W).

    It goes in tiles of at most ``most_pixels``.
    """
    factor = -(-(windows.high - windows.low) // windows.size)
    return look(backend, left_NHW3, right_NHW3, factor, windows.size, windows.low, most_pixels)


def look(
    backend: StereoBackend,
    left_NHW3: Image,
    right_NHW3: Image,
    factor: int,
    size: int,
    low: int,
    most_pixels: float = float("inf"),
) -> tuple[Map, Map]:
    """Disparity (px of the full size) and confidence of the pair at 1/``factor``: sees [low, low + factor·size)."""
    height, width = left_NHW3.shape[1:3]
    small = _reduced_size(height, width, factor)
    left, right = (
        np.stack([pad_to_multiple(cv2.resize(i, small, interpolation=cv2.INTER_AREA)) for i in images])
        for images in (left_NHW3, moved(right_NHW3, low))
    )
    rows, columns = left.shape[1:3]
    tiles = plan_tiles(rows, columns, most_pixels, 0, size)
    maps = run_tiles(lambda one, other, _: _pass(backend, one, other, size, 0), left, right, tiles)
    disparity, confidence = (
        np.stack([cv2.resize(i[: small[1], : small[0]], (width, height), interpolation=cv2.INTER_LINEAR) for i in part])
        for part in maps
    )
    return disparity * np.float32(width / small[0]) + np.float32(low), confidence


def _reduced_size(height: int, width: int, factor: int) -> tuple[int, int]:
    """Width and height, as OpenCV wants them."""
    return max(1, round(width / factor)), max(1, round(height / factor))


def look_size(height: int, width: int) -> tuple[int, int]:
    """Height and width (px, padded) of what :func:`first_look` gives to the network."""
    columns, rows = _reduced_size(height, width, LOOK_SCALE)
    return up(rows), up(columns)


def first_look(
    backend: StereoBackend, left_HW3: Image, right_HW3: Image, usual: int, most_pixels: float = float("inf")
) -> tuple[int, int]:
    """The range (low, high) px that the pair seems to need: (0, ``usual``) unless a quarter-size pass says otherwise.

    That pass sees -128 px to four times the network's range less that. What it finds with confidence on at least one
    pixel in a hundred counts, with a margin. Thin things may be too thin for it. It goes in tiles of at most
    ``most_pixels``.
    """
    backend.check_range(usual)
    maps = look(backend, left_HW3[None], right_HW3[None], LOOK_SCALE, usual, -LOOK_BELOW, most_pixels)
    disparity_HW, sure_HW = maps[0][0], maps[1][0] >= LOOK_CONFIDENCE
    columns_HW = np.arange(disparity_HW.shape[1])[None, :] - disparity_HW
    sure_HW &= (columns_HW >= 0) & (columns_HW < disparity_HW.shape[1])
    enough = LOOK_SHARE * disparity_HW.size
    found_N = np.sort(disparity_HW[sure_HW])
    if len(found_N) < 2 * enough:
        return 0, usual
    lowest, highest = float(found_N[int(enough)]), float(found_N[-1 - int(enough)])
    low = 0 if lowest >= -END else int(np.floor(lowest)) - LOOK_MARGIN
    high = usual if highest <= usual - END else int(np.ceil(highest)) + LOOK_MARGIN
    return low, min(high, low + MAX_RANGE)
