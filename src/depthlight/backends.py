"""Runtimes behind one contract: numpy pair in, numpy disparity and confidence out.

Shape legend: N pairs, H W padded size, h w = H/4 W/4. Importing this module needs neither torch nor onnxruntime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .core.errors import CheckpointError, InputError
from .core.extras import require

FloatArray = NDArray[np.float32]
PRECISIONS = ("fp32", "bf16", "int8")
BACKENDS = ("onnxruntime", "torch")


class StereoBackend(Protocol):
    """A stereo network in some runtime."""

    name: str
    precision: str
    device: str

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        """Disparity (N, H, W) in px and confidence (N, h, w) in 0..1.

        ``left_N3HW`` and ``right_N3HW`` are RGB 0..255 with H and W multiples of 32; ``max_disp`` is px.
        """
        ...


class OnnxBackend:
    """onnxruntime on the CPU: the default, without torch. The range is the one the graph was exported with."""

    name = "onnxruntime"
    precision = "fp32"
    device = "cpu"

    def __init__(self, path: Path, *, max_disp: int, threads: int | None = None) -> None:
        runtime = require("onnxruntime", extra="", purpose="part of the core installation")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own, undocumented classes
            raise CheckpointError(f"{path.name} cannot be read by onnxruntime: {error}") from None
        self._max_disp = max_disp

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        if max_disp != self._max_disp:
            raise InputError(
                f"this ONNX graph searches {self._max_disp} px, not {max_disp}",
                hint="Use --backend torch (pip install 'depthlight[torch]') for another range",
            )
        disparity, confidence = self._session.run(["disparity", "confidence"], {"left": left_N3HW, "right": right_N3HW})
        return disparity[:, 0], confidence[:, 0]


class TorchBackend:
    """PyTorch eager, on the CPU or a CUDA device."""

    name = "torch"

    def __init__(self, net: Any, *, device: str = "auto", precision: str = "fp32", threads: int | None = None) -> None:
        torch = require("torch", extra="torch")
        if precision not in ("fp32", "bf16"):
            raise InputError(f"the torch backend has no precision {precision!r}", expected="fp32 or bf16")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._device = torch.device(device)
            self._net = net.eval().to(self._device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = device
        self.precision = precision

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        import torch

        left = torch.from_numpy(left_N3HW).to(self._device)
        right = torch.from_numpy(right_N3HW).to(self._device)
        lowered = self.precision == "bf16"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=lowered):
            out = self._net(left, right, max_disp)
        return out.disparity_B1HW[:, 0].float().cpu().numpy(), out.confidence_B1hw[:, 0].float().cpu().numpy()
