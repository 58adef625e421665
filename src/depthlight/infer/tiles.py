"""A large pair in parts that give the numbers of the whole.

A tile is a rectangle of the result and the larger rectangle of both views that the network sees for it: some context on
every side, and on the left the disparity range besides, because the match of column x lies between x - range and x.
Tiles begin on multiples of 32 px, so that every map inside the network falls on the same grid as in the whole. What is
far enough from a seen rectangle's border does not know that it is one, unless the network takes statistics over the
whole picture (:mod:`depthlight.nets.stereo.shared_norms` for those).

Shape legend: N pairs, H W padded size (multiples of 32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .padding import MULTIPLE, up

CONTEXT = 192  # px seen beyond the result on every side; measured (docs/how-to/large-images-and-ranges.md)

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Slices = tuple[slice, slice]
Search = Callable[[Image, Image, Slices], tuple[Map, Map]]


@dataclass(frozen=True)
class Tile:
    """Rows and columns of the picture: ``seen`` by the network, ``kept`` of its answer (both in px of the whole)."""

    seen: Slices
    kept: Slices

    @property
    def pixels(self) -> int:
        """How many the network sees."""
        rows, columns = self.seen
        return int(rows.stop - rows.start) * int(columns.stop - columns.start)

    def inner(self) -> Slices:
        """``kept`` within the seen rectangle."""
        return tuple(  # type: ignore[return-value]
            slice(kept.start - seen.start, kept.stop - seen.start)
            for kept, seen in zip(self.kept, self.seen, strict=True)
        )


def plan_tiles(
    height: int, width: int, most_pixels: float, low: int, high: int, *, context: int = CONTEXT
) -> list[Tile]:
    """The tiles, none seeing more than ``most_pixels``, that together see fewest; empty where none is small enough.

    Args:
        height: of the padded picture, a multiple of 32.
        width: the same.
        most_pixels: bound on :attr:`Tile.pixels`.
        low: smallest disparity searched, px.
        high: largest.
        context: px of the picture seen on every side besides.
    """
    if height * width <= most_pixels:
        whole = (slice(0, height), slice(0, width))
        return [Tile(whole, whole)]
    above = up(context)
    before, after = up(context + max(0, high)), up(context + max(0, -low))
    rows_of, columns_of = _cuts(height, above, above), _cuts(width, before, after)
    best: tuple[int, int, int] | None = None
    for i, rows in enumerate(rows_of):
        for j, columns in enumerate(columns_of):
            if rows.tallest * columns.tallest <= most_pixels:
                best = min(best or (rows.seen * columns.seen, i, j), (rows.seen * columns.seen, i, j))
    if best is None:
        return []
    return [
        Tile((seen_rows, seen_columns), (rows, columns))
        for rows, seen_rows in rows_of[best[1]].parts
        for columns, seen_columns in columns_of[best[2]].parts
    ]


@dataclass(frozen=True)
class _Cut:
    """One side of the picture in parts: (kept, seen) of each, the longest seen, and all seen together, px."""

    parts: tuple[tuple[slice, slice], ...]
    tallest: int
    seen: int


def _cuts(length: int, before: int, after: int) -> list[_Cut]:
    """One side in 1, 2, 3 … equal parts."""
    found: dict[int, _Cut] = {}
    for count in range(1, length // MULTIPLE + 1):
        step = up(-(-length // count))
        kept = [slice(start, min(start + step, length)) for start in range(0, length, step)]
        size = max(min(length, k.stop + after) - max(0, k.start - before) for k in kept)
        # all of one size, which runtimes reuse their memory for: at the ends of the side they see more of its middle
        starts = [min(max(0, k.start - before), length - size) for k in kept]
        parts = tuple((k, slice(start, start + size)) for k, start in zip(kept, starts, strict=True))
        found.setdefault(step, _Cut(parts, size, size * len(kept)))
    return list(found.values())


def run_tiles(search: Search, left_NHW3: Image, right_NHW3: Image, tiles: Sequence[Tile]) -> tuple[Map, Map]:
    """Disparity and confidence (N, H, W) of the whole; ``search`` gives both for a part of the views.

    It is given that part of both, and which rows and columns it is.
    """
    if len(tiles) == 1:
        return search(left_NHW3, right_NHW3, tiles[0].seen)
    shape = left_NHW3.shape[:3]
    disparity, confidence = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for tile in tiles:
        part = (slice(None), *tile.seen)
        kept, inner = (slice(None), *tile.kept), (slice(None), *tile.inner())
        found = search(left_NHW3[part], right_NHW3[part], tile.seen)
        disparity[kept], confidence[kept] = found[0][inner], found[1][inner]
    return disparity, confidence
