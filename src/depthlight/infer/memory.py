"""Whether a computation fits into memory, asked before it starts: a system that overcommits would kill the process."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.errors import LimitError

CAP_WHERE_UNKNOWN = 8 * 2**30  # bytes, where the system does not tell what is free
GIB = 2**30


def available_memory() -> int:
    """Bytes this process may use: what the system can hand out, and what the process holds already."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        # freed arrays stay with the process (core/memory.py) and are used again, so they count as free
        own = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, StopIteration):
        return CAP_WHERE_UNKNOWN
    return free + own


def need_memory(what: str, needed: int) -> None:
    """Refuse ``what`` if it needs more bytes than there are.

    Raises:
        LimitError: says how much is needed and how much there is.
    """
    available = available_memory()
    if needed > available:
        raise LimitError(
            f"{what} needs about {needed / GIB:.1f} GiB of memory",
            expected=f"at most the {available / GIB:.1f} GiB that are free",
            hint="Use smaller images or a smaller max_disp",
        )
