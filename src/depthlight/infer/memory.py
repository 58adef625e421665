"""Whether a computation fits into memory, asked before it starts: a system that overcommits would kill the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends import StereoBackend
from ..core.errors import LimitError
from ..core.memory import available_memory, freed_memory, resident_memory

if TYPE_CHECKING:
    from .search_range import Windows

GIB = 2**30
AROUND = 44  # bytes a pixel of the picture: padded views, maps, checks, and what saving them takes
FUSING = 160  # bytes a pixel of a tile: what chooses between windows
AROUND_TILE = 40  # bytes a pixel of a tile: both views as float32, answers


def bytes_needed(backend: StereoBackend, windows: Windows, count: int, pixels: int, tile_pixels: int) -> int:
    """About how many bytes a prediction takes at its peak, beside what the process holds.

    Args:
        backend: the network.
        windows: what it searches.
        count: pairs computed together.
        pixels: of each picture.
        tile_pixels: of the largest tile; the same number for a picture in one piece.
    """
    several = len(windows.lows) > 1
    held = 8 * len(windows.lows) + FUSING if several else 0
    tile = backend.bytes_needed(count * tile_pixels, windows.size) + (AROUND_TILE + held) * count * tile_pixels
    return tile + (AROUND + 12 * several) * count * pixels  # the reduced pass's answer, and the view it moves


def most_pixels(
    backend: StereoBackend, windows: Windows, count: int, pixels: int, cap: int | None, kept: int = 0
) -> float:
    """The largest tile (px) with which a prediction stays within ``cap`` bytes, by default what is free.

    ``cap`` is of the whole process: what it holds now (models, images) counts, but for the ``kept`` bytes that the
    runtime will use again.
    """
    fixed = bytes_needed(backend, windows, count, pixels, 0)
    one = (bytes_needed(backend, windows, count, pixels, 10**6) - fixed) / 10**6
    return max(0.0, (_room(cap, kept) - fixed) / one)


def _room(cap: int | None, kept: int = 0) -> int:
    free = available_memory() + kept
    return free if cap is None else min(free, max(0, cap - resident_memory() + freed_memory() + kept))


def need_memory(what: str, needed: int, cap: int | None = None, reason: str | None = None, kept: int = 0) -> None:
    """Refuse ``what`` if it needs more bytes than there are (and than ``cap`` leaves of them).

    ``reason`` is why it cannot be done in tiles, for the error; ``kept`` see :func:`most_pixels`.

    Raises:
        LimitError: says how much is needed and how much there is.
    """
    room = _room(cap, kept)
    if needed > room:
        raise LimitError(
            f"{what} needs about {needed / GIB:.1f} GiB of memory" + (f", and {reason}" if reason else ""),
            expected=f"at most the {room / GIB:.1f} GiB that are free",
            hint="Use smaller images or a smaller max_disp" + ("" if cap is None else ", or a larger max_memory"),
        )
