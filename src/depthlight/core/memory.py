"""Memory of this process: what the C library keeps of it, and what the system would still give."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_MALLINFO_FIELDS = 10
_HBLKHD, _UORDBLKS, _FORDBLKS = 4, 7, 8  # among them: bytes mapped apart, in use, in free blocks
CAP_WHERE_UNKNOWN = 8 * 2**30  # bytes, where the system does not tell what is free
CGROUPS = Path("/sys/fs/cgroup")


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory instead of handing it back and page-faulting it in again on every large array.

    Worth a factor of up to seven in CPU training and a third in rendering. Returns whether it took; elsewhere than on
    glibc it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def freed_memory() -> int:
    """Bytes that this process has freed and glibc has kept, to be used again; 0 where that is not known.

    Never more than the process holds beside what is in use: blocks stay on glibc's list when their pages have been
    handed back (``malloc_trim``, which libraries call).
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None) if platform.libc_ver()[0] == "glibc" else None
    if mallinfo is None:  # before glibc 2.33
        return 0
    mallinfo.restype = _Mallinfo
    fields = mallinfo().fields
    free, used = int(fields[_FORDBLKS]), int(fields[_UORDBLKS] + fields[_HBLKHD])
    return min(free, max(0, _anonymous_memory() - used))


class _Mallinfo(ctypes.Structure):
    _fields_ = (("fields", ctypes.c_size_t * _MALLINFO_FIELDS),)


def resident_memory() -> int:
    """Bytes of memory that this process holds; 0 where the system does not tell."""
    return _held()[0]


def _anonymous_memory() -> int:
    """Of them, those that are no file's."""
    resident, shared = _held()
    return resident - shared


def _held() -> tuple[int, int]:
    """Resident bytes, and those of them that are shared with files; zeros where the system does not tell."""
    try:
        _, resident, shared = Path("/proc/self/statm").read_text(encoding="ascii").split()[:3]
        page = os.sysconf("SC_PAGE_SIZE")
        return int(resident) * page, int(shared) * page
    except (OSError, ValueError):
        return 0, 0


def available_memory() -> int:
    """Bytes this process may still use: what the system can hand out, within the limits of its control groups."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return CAP_WHERE_UNKNOWN
    return max(0, min([free, *_left_in_groups()])) + freed_memory()


def _left_in_groups() -> Iterator[int]:
    """What is left to each control group with a limit that the process is in (version 2 and 1); containers set them."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            root = CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = root / path.lstrip("/")
        for group in (inner, *inner.parents):  # a limit of any group around it holds as well
            left = _left(group, *names)
            if left is not None:
                yield left
            if group == root:
                break


def _left(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Limit less usage, the file cache that can be dropped not counted; None without a limit."""
    try:
        most = (group / limit).read_text(encoding="ascii").strip()
        if most == "max":
            return None
        used = int((group / usage).read_text(encoding="ascii"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return int(most) - used + int(counts.get(cache, 0))
    except (OSError, ValueError):
        return None
