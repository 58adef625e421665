"""The contract every runtime keeps, and what they share. Needs no runtime.

Shape legend: N pairs, H W padded size, h w = H/4 W/4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DepthlightError, LimitError

FloatArray = NDArray[np.float32]
PRECISIONS = ("fp32", "bf16")
RESERVED_PRECISIONS = ("int8",)  # belongs to a file that was exported so; no option turns a model into it
BACKENDS = ("onnxruntime", "openvino", "torch")
MAX_RANGE = 2048  # px; the sets with the nearest things (Booster, Middlebury at full size) stay below 1000


class StereoBackend(Protocol):
    """A stereo network in some runtime."""

    name: str
    precision: str
    device: str
    keeps_memory: bool  # of its largest run, for the next one

    def check_range(self, max_disp: int) -> None:
        """Refuse a range (px) that :meth:`run` cannot search, before any work.

        Raises:
            LimitError: beyond :data:`MAX_RANGE`.
            InputError: not a range of this network or graph.
        """
        ...

    def bytes_needed(self, pixels: int, max_disp: int) -> int:
        """About how many bytes :meth:`run` takes at its peak for so many pixels (of all pairs), rounded up."""
        ...

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        """Disparity (N, H, W) in px and confidence (N, h, w) in 0..1.

        ``left_N3HW`` and ``right_N3HW`` are RGB 0..255 with H and W multiples of 32; ``max_disp`` is px.

        Raises:
            LimitError: the range is beyond :data:`MAX_RANGE`, or memory runs out.
            InputError: not a range of this network or graph.
        """
        ...


def warm_up(backend: StereoBackend, height: int, width: int, max_disp: int, *, pairs: int = 1) -> None:
    """Run once on gray pictures, so that the first real pair of this size (multiples of 32) pays for no set-up."""
    gray = np.full((pairs, 3, height, width), 127, np.float32)
    backend.run(gray, gray, max_disp)


def check_limit(max_disp: int) -> None:
    """Refuse a range (px) that no backend searches.

    Raises:
        LimitError: beyond :data:`MAX_RANGE`.
    """
    if max_disp > MAX_RANGE:
        raise LimitError(f"the disparity range is {max_disp} px", expected=f"at most {MAX_RANGE} px")


@contextmanager
def memory_told(images_N3HW: FloatArray, max_disp: int) -> Iterator[None]:
    """Failed allocations as one line; the runtimes report them under general classes, by their words."""
    try:
        yield
    except DepthlightError:
        raise
    except Exception as error:
        if not isinstance(error, MemoryError) and not any(word in str(error).lower() for word in ("alloc", "memory")):
            raise
        count, _, height, width = images_N3HW.shape
        raise LimitError(
            f"memory ran out for {count} × {width}×{height} px at a range of {max_disp} px",
            hint="Use smaller images or a smaller max_disp",
        ) from error
