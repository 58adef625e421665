"""The plain way to run the Lite Any Stereo networks, as the official code does: what speed-ups are measured against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from depthlight.nets import ops

TWINS = ("correlation_volume", "convex_upsample_full", "convex_upsample_quarter")


@contextmanager
def plain() -> Iterator[None]:
    """Within this block the networks use the reference twins: correlation one disparity at a time, unfold upsampling.

    Affects the whole process; time it in a process of its own.
    """
    fast = {name: getattr(ops, name) for name in TWINS}
    try:
        for name in TWINS:
            setattr(ops, name, getattr(ops, f"{name}_reference"))
        yield
    finally:
        for name, operation in fast.items():
            setattr(ops, name, operation)
