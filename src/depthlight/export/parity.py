"""Does an exported graph compute what its network computes? Measured on real texture, at several sizes (X11).

The reference is the network in float64, so that the difference is the runtime's rounding and not torch's own on top:
for LAS2-H in float32 torch is off by more (99.9 %: 1.7e-4 px) than onnxruntime is (1.3e-4).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from ..backends import OnnxBackend, StereoBackend
from ..core.errors import CheckFailedError
from ..core.tolerances import tolerance
from ..nets.stereo.base import StereoNet
from .pairs import Pair, as_input

SIZES = ((256, 448), (320, 640), (480, 736))  # height, width: each crosses other paddings and tile borders
# (backend, precision): figure of a row, name of its tolerance
LIMITS: Mapping[tuple[str, str], Mapping[str, str]] = MappingProxyType(
    {
        ("onnxruntime", "fp32"): {
            "disparity_max": "ort.max",
            "disparity_p999": "ort.p999",
            "confidence_p999": "graph.confidence",
        },
        ("openvino", "fp32"): {"disparity_max": "openvino.max", "confidence_p999": "graph.confidence"},
        ("openvino", "bf16"): {
            "disparity_mean": "bf16.mean",
            "disparity_p99": "bf16.p99",
            "confidence_p999": "bf16.confidence",
        },
    }
)


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """Difference of a backend to torch in float64 for ``pairs`` of one size; disparity in px, confidence in 0..1."""

    backend: str
    precision: str
    pairs: int = 1
    height: int
    width: int
    disparity_max: float
    disparity_p999: float
    disparity_p99: float
    disparity_mean: float
    confidence_p999: float

    @property
    def limits(self) -> dict[str, float]:
        """Figure → the most it may be."""
        return {figure: tolerance(name) for figure, name in LIMITS[self.backend, self.precision].items()}

    @property
    def holds(self) -> bool:
        """Whether every figure is within its limit; a figure that is not a number is not."""
        return all(getattr(self, figure) <= limit for figure, limit in self.limits.items())


def measure_parity(
    net: StereoNet, path: str | os.PathLike[str], pair: Pair, *, max_disp: int | None = None, threads: int | None = None
) -> list[ParityRow]:
    """Run network and ONNX graph (in onnxruntime) on crops of ``pair``; see :func:`compare`."""
    range_px = max_disp or net.max_disp
    graph = OnnxBackend(Path(path), max_disp=range_px, threads=threads)
    return compare(net, [graph], pair, max_disp=range_px)


def compare(
    net: StereoNet,
    backends: Sequence[StereoBackend],
    pair: Pair,
    *,
    max_disp: int,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> list[ParityRow]:
    """Each backend against ``net`` in float64 on crops of ``pair`` ((H, W, 3) uint8; smaller ones are mirrored).

    The first size goes through it also as a batch of two: the crop and the same upside down.
    """
    exact = copy.deepcopy(net).cpu().double().eval()
    rows = []
    for height, width, pairs in [(*size, 1) for size in sizes] + [(*sizes[0], 2)]:
        left, right = (as_input(image, height, width) for image in pair)
        if pairs == 2:
            left, right = (np.concatenate([view, view[:, :, ::-1]]) for view in (left, right))
        with torch.inference_mode():
            out = exact(torch.from_numpy(left).double(), torch.from_numpy(right).double(), max_disp)
        disparity, confidence = out.disparity_B1HW[:, 0].numpy(), out.confidence_B1hw[:, 0].numpy()
        for backend in backends:
            other, other_confidence = backend.run(left, right, max_disp)
            difference = np.abs(disparity - other)
            rows.append(
                ParityRow(
                    backend=backend.name,
                    precision=backend.precision,
                    pairs=pairs,
                    height=height,
                    width=width,
                    disparity_max=float(difference.max()),
                    disparity_p999=float(np.percentile(difference, 99.9)),
                    disparity_p99=float(np.percentile(difference, 99)),
                    disparity_mean=float(difference.mean()),
                    confidence_p999=float(np.percentile(np.abs(confidence - other_confidence), 99.9)),
                )
            )
    return rows


def require_parity(rows: Sequence[ParityRow], *, what: str) -> None:
    """Raise :class:`CheckFailedError` if any row differs by more than the table of tolerances allows (X11)."""
    for row in rows:
        if not row.holds:
            found = ", ".join(f"{figure} {getattr(row, figure):.2g}" for figure in row.limits)
            allowed = ", ".join(f"{figure} {limit:g}" for figure, limit in row.limits.items())
            raise CheckFailedError(
                f"{what} differs from its network on {row.backend} in {row.precision} at {row.height}x{row.width}, "
                f"batch of {row.pairs}: {found}",
                expected=f"at most {allowed}",
            )
