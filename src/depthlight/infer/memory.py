"""Whether a computation fits into memory, asked before it starts: a system that overcommits would kill the process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends import StereoBackend
from ..core.errors import LimitError

if TYPE_CHECKING:
    from .search_range import Windows

CAP_WHERE_UNKNOWN = 8 * 2**30  # bytes, where the system does not tell what is free
GIB = 2**30
AROUND = 44  # bytes a pixel of the picture: padded views, maps, checks, and what saving them takes
FUSING = 160  # bytes a pixel of a tile: what chooses between windows
AROUND_TILE = 40  # bytes a pixel of a tile: both views as float32, answers


def available_memory() -> int:
    """Bytes this process may use: what the system can hand out, and what the process holds already."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return CAP_WHERE_UNKNOWN
    # freed arrays stay with the process (core/memory.py) and are used again, so they count as free
    return free + resident_memory()


def resident_memory() -> int:
    """Bytes of memory that this process holds; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


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


def most_pixels(backend: StereoBackend, windows: Windows, count: int, pixels: int, cap: int | None) -> float:
    """The largest tile (px) with which a prediction stays within ``cap`` bytes, by default what is free.

    ``cap`` is of the whole process: what it holds now (models, images) counts.
    """
    fixed = bytes_needed(backend, windows, count, pixels, 0)
    one = (bytes_needed(backend, windows, count, pixels, 10**6) - fixed) / 10**6
    return max(0.0, (_room(cap) - fixed) / one)


def _room(cap: int | None) -> int:
    return available_memory() if cap is None else min(available_memory(), max(0, cap - resident_memory()))


def need_memory(what: str, needed: int, cap: int | None = None, reason: str | None = None) -> None:
    """Refuse ``what`` if it needs more bytes than there are (and than ``cap`` leaves of them).

    ``reason`` is why it cannot be done in tiles, for the error.

    Raises:
        LimitError: says how much is needed and how much there is.
    """
    room = _room(cap)
    if needed > room:
        raise LimitError(
            f"{what} needs about {needed / GIB:.1f} GiB of memory" + (f", and {reason}" if reason else ""),
            expected=f"at most the {room / GIB:.1f} GiB that are free",
            hint="Use smaller images or a smaller max_disp" + ("" if cap is None else ", or a larger max_memory"),
        )
