"""A float graph with its convolutions in 8 bits: static quantisation by onnxruntime, calibrated on engine pairs.

The first convolutions stay in float32: see :data:`STEM`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..backends import OnnxBackend
from ..core.extras import require
from ..core.tolerances import tolerance
from ..data.samples import StereoSample
from ..eval.protocol import PROTOCOLS
from ..eval.runner import measure_scene
from ..infer.stereo import StereoModel
from .pairs import as_input

Part = Literal["all", "features"]
PARTS: tuple[Part, ...] = ("all", "features")  # 3-D and 2-D convolutions, or the 2-D ones alone; tried in this order
STEM = 4  # The first convolutions stay in float32: all later matching lives on their finest differences. Of `light`, 8
# bits there alone cost 6 % of EPE on real scenes, everywhere else together nothing (docs/how-to/export.md).


@dataclass(frozen=True, kw_only=True)
class Int8Row:
    """Mean end-point error (px) and share of pixels more than 1 px off (%) of a graph and its quantised twin.

    The mean hardly sees a little more noise where a few pixels are far off; the share does.
    """

    part: str
    scenes: int
    epe_fp32: float
    epe_int8: float
    bad1_fp32: float
    bad1_int8: float

    @property
    def rise(self) -> float:
        """Relative, of the figure that grows more."""
        return max(_rise(self.epe_fp32, self.epe_int8), _rise(self.bad1_fp32, self.bad1_int8))

    @property
    def holds(self) -> bool:
        """Whether int8 may be offered (X11)."""
        return self.rise <= tolerance("int8.rise")


def _rise(before: float, after: float) -> float:
    if before == 0:
        return float("inf") if after else 0.0
    return after / before - 1


class _Reader:
    """Feeds one pair after the other; onnxruntime's CalibrationDataReader by its shape."""

    def __init__(self, samples: Sequence[StereoSample]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.float32]]] = (
            {
                "left": as_input(sample.left_HW3, *sample.left_HW3.shape[:2]),
                "right": as_input(sample.right_HW3, *sample.right_HW3.shape[:2]),
            }
            for sample in samples
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def quantise(graph: Path, target: Path, samples: Sequence[StereoSample], *, part: Part = "all") -> int:
    """Write ``graph`` to ``target`` with convolutions in int8 (weights per channel, activations uint8, QDQ).

    The first :data:`STEM` convolutions stay in float32.

    Args:
        samples: pairs with sides in multiples of 32 that show the range of every activation.
        part: ``all`` others, or of them the 2-D ``features`` alone, which leaves the 3-D aggregation in float32.

    Returns:
        How many convolutions are in int8.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", extra="export")
    from onnxruntime import quantization

    facts = onnx.load(str(graph), load_external_data=False).metadata_props
    stated = {item.key: item.value for item in facts}
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        folded = Path(scratch) / "folded.onnx"
        _fold(graph, folded)
        kernels = _kernel_ranks(onnx.load(str(folded)))
        kept = [
            name for i, (name, rank) in enumerate(kernels.items()) if i < STEM or (part == "features" and rank != 4)
        ]
        quantization.quantize_static(
            str(folded),
            str(Path(scratch) / "int8.onnx"),
            _Reader(samples),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=kept,
        )
        model = onnx.load(str(Path(scratch) / "int8.onnx"))
    model.ClearField("metadata_props")
    for key, value in sorted((stated | {"depthlight.precision": "int8"}).items()):
        model.metadata_props.add(key=key, value=value)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return len(kernels) - len(kept)


def _fold(graph: Path, target: Path) -> None:
    """Constants folded and BatchNorms merged into their convolutions, operators still the standard ones."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _kernel_ranks(model: Any) -> dict[str, int]:
    """Convolution → number of axes of its kernel: 4 in 2-D, 5 in 3-D."""
    ranks = {item.name: len(item.dims) for item in model.graph.initializer}
    return {node.name: ranks.get(node.input[1], 0) for node in model.graph.node if node.op_type == "Conv"}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice, which goes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def compare_errors(
    graph: Path,
    quantised: Path,
    samples: Sequence[StereoSample],
    *,
    part: str,
    max_disp: int,
    threads: int | None = None,
) -> Int8Row:
    """Both graphs on scenes with ground truth, in onnxruntime, under the default protocol."""
    epe, bad1 = [], []
    for path, precision in ((graph, "fp32"), (quantised, "int8")):
        backend = OnnxBackend(path, max_disp=max_disp, threads=threads, precision=precision)
        model = StereoModel(path.stem, backend, weights_sha256=None, max_disp=max_disp)
        found = [
            measure_scene(model.predict(sample.left_HW3, sample.right_HW3), sample, PROTOCOLS["default"]).sums.metrics()
            for sample in samples
        ]
        epe.append(float(np.mean([one.epe for one in found])))
        bad1.append(float(np.mean([one.bad1 for one in found])))
    return Int8Row(
        part=part, scenes=len(samples), epe_fp32=epe[0], epe_int8=epe[1], bad1_fp32=bad1[0], bad1_int8=bad1[1]
    )
