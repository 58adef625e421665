"""A worker of :mod:`depthlight.eval.bench` that runs a network plainly: what speed-ups are measured against.

Usage: python -m bench.speed_worker [--keep-memory] ROW JOB ...

``--keep-memory`` sets the allocator as depthlight's training does; without it the system's own settings hold.
"""

from __future__ import annotations

import sys

from bench.reference import plain

from depthlight.core.memory import keep_freed_memory
from depthlight.eval.bench_worker import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[0] == "--keep-memory":
        keep_freed_memory()
        arguments = arguments[1:]
    with plain():
        sys.exit(main(arguments))
