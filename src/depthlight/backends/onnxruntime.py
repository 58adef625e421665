"""onnxruntime on the CPU: the default, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, DepthlightError
from ..core.extras import have
from .base import FloatArray, memory_told
from .graph import MEMORY_SHARE, OUTPUTS, check_graph_range, said_by


class OnnxBackend:
    """A graph in onnxruntime. The range is the one the graph was exported with.

    Args:
        path: the ``.onnx`` file.
        max_disp: the range of the graph, px.
        family: of the network, for the memory that it takes.
        threads: CPU threads; onnxruntime's own choice by default.
        precision: what the file was exported in: fp32 or int8. It chooses nothing, it is told.
    """

    name = "onnxruntime"
    keeps_memory = True
    device = "cpu"

    def __init__(
        self,
        path: Path,
        *,
        max_disp: int,
        family: str = "light",
        threads: int | None = None,
        precision: str = "fp32",
    ) -> None:
        self._session = _session(path, threads=threads)
        self._share = MEMORY_SHARE.get(family, 1.0)
        self._max_disp = max_disp
        self.precision = precision

    def check_range(self, max_disp: int) -> None:
        check_graph_range(max_disp, self._max_disp)

    def bytes_needed(self, pixels: int, max_disp: int) -> int:
        return int(pixels * self._share * (110 + 3 * max_disp))  # measured at 192 px, light: 680 a pixel

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        self.check_range(max_disp)
        with memory_told(left_N3HW, max_disp):
            disparity, confidence = self._session.run(list(OUTPUTS), {"left": left_N3HW, "right": right_N3HW})
        return disparity[:, 0], confidence[:, 0]


def onnx_strings(path: Path) -> dict[str, str]:
    """The strings an ``.onnx`` file carries.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return dict(_session(path, optimise=False).get_modelmeta().custom_metadata_map)


def _session(path: Path, *, threads: int | None = None, optimise: bool = True) -> Any:
    if not have("onnxruntime"):  # no extra: every installation has it
        raise DepthlightError("onnxruntime is not installed", hint="Repair with: pip install depthlight")
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # its plan for a second run of a size is held beside what the first one took
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own, undocumented classes
        raise CheckpointError(f"{path.name} cannot be read by onnxruntime: {said_by(error)}") from None
