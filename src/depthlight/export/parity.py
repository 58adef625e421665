"""Does an exported graph compute what its network computes? Measured on real texture, at several sizes.

Noise is no test: it hides drift that real texture shows, and inputs in 0..1 hide a lost normalisation.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backends import OnnxBackend, TorchBackend
from ..core.errors import CheckFailedError
from ..core.tolerances import tolerance
from ..nets.stereo.base import StereoNet

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
SIZES = ((256, 448), (320, 640), (480, 736))  # height, width: each crosses other paddings and tile borders


@dataclass(frozen=True)
class ParityRow:
    """Difference at one size; disparity in px, confidence in 0..1."""

    height: int
    width: int
    disparity_max: float
    disparity_p999: float
    confidence_max: float


def measure_parity(
    net: StereoNet, path: str | os.PathLike[str], pair: Pair, *, max_disp: int | None = None, threads: int | None = None
) -> list[ParityRow]:
    """Run network and graph on crops of ``pair`` ((H, W, 3) uint8, at least 480x736; smaller ones are tiled)."""
    range_px = max_disp or net.max_disp
    exported = OnnxBackend(Path(path), max_disp=range_px, threads=threads)
    original = TorchBackend(net, device="cpu")
    rows = []
    for height, width in SIZES:
        left, right = (_crop(image, height, width) for image in pair)
        disparity, confidence = original.run(left, right, range_px)
        other_disparity, other_confidence = exported.run(left, right, range_px)
        difference = np.abs(disparity - other_disparity)
        rows.append(
            ParityRow(
                height,
                width,
                float(difference.max()),
                float(np.percentile(difference, 99.9)),
                float(np.abs(confidence - other_confidence).max()),
            )
        )
    return rows


def require_parity(rows: Sequence[ParityRow], *, what: str) -> None:
    """Raise :class:`CheckFailedError` if any size differs by more than the table of tolerances allows (X11)."""
    for row in rows:
        if not (row.disparity_max <= tolerance("ort.max") and row.disparity_p999 <= tolerance("ort.p999")):
            raise CheckFailedError(
                f"{what} differs from its network at {row.height}x{row.width} by {row.disparity_max:.2g} px "
                f"(99.9 %: {row.disparity_p999:.2g})",
                expected=f"at most {tolerance('ort.max')} (99.9 %: {tolerance('ort.p999')})",
            )


def _crop(image_HW3: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """(1, 3, height, width) float32 from the top left, the image repeated in mirror images where it is too small."""
    bottom, right = max(0, height - image_HW3.shape[0]), max(0, width - image_HW3.shape[1])
    filled = np.pad(image_HW3, ((0, bottom), (0, right), (0, 0)), mode="symmetric")[:height, :width]
    return np.ascontiguousarray(filled.transpose(2, 0, 1)[None].astype(np.float32))
