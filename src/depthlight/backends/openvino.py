"""OpenVINO on the CPU: the fastest runtime here, in fp32 or bf16, for ONNX and OpenVINO IR files."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import CheckpointError, InputError
from ..core.extras import require
from .base import PRECISIONS, FloatArray, memory_told
from .graph import FACTS, MEMORY_SHARE, OUTPUTS, PREFIX, SECTION, check_graph_range, said_by

CACHE_VARIABLE = "DEPTHLIGHT_OPENVINO_CACHE"
_BYTES = {"fp32": 4.9, "bf16": 2.6, "int8": 4.9}  # of light, a pixel and px of range
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoBackend:
    """A graph in OpenVINO. The range is the one the graph was exported with.

    OpenVINO lowers the precision by itself where the processor has bf16; here it runs in the one asked for.

    Args:
        path: an ``.onnx`` file, or an ``.xml`` with its ``.bin`` beside it.
        max_disp: the range of the graph, px.
        family: of the network, for the memory that it takes.
        precision: ``fp32`` or ``bf16``; ``int8`` for a graph exported so, whose other parts run in fp32.
        threads: CPU threads; OpenVINO's own choice by default.
        cache: a folder for compiled models. By default the one the environment variable
            ``DEPTHLIGHT_OPENVINO_CACHE`` names; without it nothing is written.

    Raises:
        MissingExtraError: openvino is not installed.
        InputError: no such precision, or the processor does not have it.
        CheckpointError: the file cannot be read.
    """

    name = "openvino"
    keeps_memory = True
    device = "cpu"

    def __init__(
        self,
        path: Path,
        *,
        max_disp: int,
        family: str = "light",
        precision: str = "fp32",
        threads: int | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        if precision not in _HINTS:
            raise InputError(f"the openvino backend has no precision {precision!r}", expected=" or ".join(PRECISIONS))
        core = openvino_core()
        if precision == "bf16" and not has_bf16():
            raise InputError("this processor has no bf16", hint="Use --precision fp32")
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        folder = os.fspath(cache) if cache is not None else os.environ.get(CACHE_VARIABLE)
        if folder:
            options["CACHE_DIR"] = folder
        try:
            compiled = core.compile_model(str(path), "CPU", options)
        except Exception as error:  # openvino raises RuntimeError and classes of its own
            raise CheckpointError(f"{path.name} cannot be read by openvino: {said_by(error)}") from None
        self._session = compiled
        self._share = MEMORY_SHARE.get(family, 1.0)
        self._max_disp = max_disp
        self.precision = precision

    def check_range(self, max_disp: int) -> None:
        check_graph_range(max_disp, self._max_disp)

    def bytes_needed(self, pixels: int, max_disp: int) -> int:
        return int(pixels * self._share * _BYTES[self.precision] * max_disp)

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        self.check_range(max_disp)
        with memory_told(left_N3HW, max_disp):
            found = self._session({"left": left_N3HW, "right": right_N3HW})
            # copies: the runtime uses its output memory again at the next call
            disparity, confidence = (np.array(found[name][:, 0], np.float32) for name in OUTPUTS)
        return disparity, confidence


def openvino_strings(path: Path) -> dict[str, str]:
    """The strings an ``.xml`` file of OpenVINO carries.

    Raises:
        MissingExtraError: openvino is not installed.
        CheckpointError: the file, or the ``.bin`` beside it, cannot be read.
    """
    core = openvino_core(purpose="it reads .xml files")
    try:
        model = core.read_model(str(path))
        return {PREFIX + key: model.get_rt_info([SECTION, key]).astype(str) for key in FACTS if _has(model, key)}
    except Exception as error:
        raise CheckpointError(f"{path.name} cannot be read by openvino: {said_by(error)}") from None


def _has(model: Any, key: str) -> bool:
    return bool(model.has_rt_info([SECTION, key]))


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def openvino_core(purpose: str = "") -> Any:
    """The process's one ``openvino.Core``.

    The CPU plugin of each further one takes over the thread's alternative signal stack, and puts back a freed one when
    they are released in the order they came in: the next signal with a Python handler (Ctrl-C) then kills the process.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    require("openvino", extra="openvino", purpose=purpose)
    return _core()


@functools.cache
def _core() -> Any:
    return require("openvino", extra="openvino").Core()
