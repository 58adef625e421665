"""What the process holds, what it may still have: the system's word, and its control groups'."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from depthlight.core import memory
from depthlight.core.memory import CAP_WHERE_UNKNOWN, available_memory, freed_memory, resident_memory

linux = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
MIB = 2**20


@linux
def test_live_arrays_do_not_count_as_free():
    before = available_memory()
    array = np.ones(256 * MIB, np.uint8)  # new memory, or some that was freed and kept
    assert before - available_memory() > 100 * MIB, "others may have freed some meanwhile"
    assert resident_memory() > 256 * MIB
    del array


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_what_is_freed_in_the_heap_is_known():
    small = [bytearray(60_000) for _ in range(2000)]  # below the size that is mapped apart
    before = freed_memory()
    last = bytearray(60_000)  # holds the top of the heap, so that the rest cannot be handed back
    del small
    assert freed_memory() - before > 80_000_000
    del last


TRIM = """
import ctypes
from depthlight.core.memory import freed_memory
small = [bytearray(60_000) for _ in range(2000)]
last = bytearray(60_000)
del small
print(freed_memory())
ctypes.CDLL(None).malloc_trim(0)
print(freed_memory())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_what_was_handed_back_does_not_count_as_kept():
    done = subprocess.run([sys.executable, "-c", TRIM], capture_output=True, text=True, check=True, timeout=60)
    kept, trimmed = map(int, done.stdout.split())
    assert kept > 80_000_000 and trimmed < 40_000_000


def test_a_system_that_does_not_tell_has_a_stated_cap(monkeypatch):
    monkeypatch.setattr(memory, "Path", lambda name: _Absent())
    assert available_memory() == CAP_WHERE_UNKNOWN
    assert resident_memory() == 0


class _Absent:
    def read_text(self, encoding):
        raise FileNotFoundError


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A system with 8 GiB free whose control groups are files here: ``{"/proc/self/cgroup": ..., group file: ...}``."""
    real = memory.Path

    def path(name):
        return tmp_path / "proc" / real(name).name if str(name).startswith("/proc") else real(name)

    def write(files):
        for name, text in {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 8388608 kB\n", **files}.items():
            target = path(name) if name.startswith("/proc") else tmp_path / "groups" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    monkeypatch.setattr(memory, "Path", path)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "freed_memory", lambda: 0)
    return write


def test_without_limits_it_is_what_the_system_says(groups):
    groups({"/proc/self/cgroup": "0::/a/b\n", "a/b/memory.max": "max\n", "a/b/memory.current": "5\n"})
    assert available_memory() == 8 * 2**30


def test_a_limit_of_any_group_around_it_holds(groups):
    groups(
        {
            "/proc/self/cgroup": "0::/a/b\n",
            "a/b/memory.max": f"{900 * MIB}\n",
            "a/b/memory.current": f"{100 * MIB}\n",
            "a/b/memory.stat": "anon 1\ninactive_file 0\n",
            "a/memory.max": f"{500 * MIB}\n",
            "a/memory.current": f"{300 * MIB}\n",
            "a/memory.stat": f"anon 1\ninactive_file {50 * MIB}\n",
        }
    )
    assert available_memory() == 250 * MIB


def test_a_limit_of_the_first_version_holds(groups):
    groups(
        {
            "/proc/self/cgroup": "7:cpu:/x\n4:memory:/y\n0::/\n",
            "memory/y/memory.limit_in_bytes": f"{2**63 - 4096}\n",
            "memory/y/memory.usage_in_bytes": "10\n",
            "memory/y/memory.stat": "total_inactive_file 0\n",
            "memory/memory.limit_in_bytes": f"{300 * MIB}\n",  # as a container sees its own
            "memory/memory.usage_in_bytes": f"{200 * MIB}\n",
            "memory/memory.stat": f"total_inactive_file {40 * MIB}\n",
        }
    )
    assert available_memory() == 140 * MIB


def test_a_full_group_has_nothing_left(groups):
    groups(
        {
            "/proc/self/cgroup": "0::/\n",
            "memory.max": "1000\n",
            "memory.current": "5000\n",
            "memory.stat": "inactive_file 10\n",
        }
    )
    assert available_memory() == 0
