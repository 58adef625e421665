"""Runtimes behind one contract: numpy pair in, numpy disparity and confidence out.

Shape legend: N pairs, H W padded size, h w = H/4 W/4. Importing this module needs neither torch nor onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .core.errors import CheckpointError, DepthlightError, InputError, LimitError
from .core.extras import have, require

FloatArray = NDArray[np.float32]
PRECISIONS = ("fp32", "bf16")
RESERVED_PRECISIONS = ("int8",)  # the word is taken; the code is not there yet
BACKENDS = ("onnxruntime", "torch")
MAX_RANGE = 2048  # px; the sets with the nearest things (Booster, Middlebury at full size) stay below 1000


class StereoBackend(Protocol):
    """A stereo network in some runtime."""

    name: str
    precision: str
    device: str

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


class OnnxBackend:
    """onnxruntime on the CPU: the default, without torch. The range is the one the graph was exported with."""

    name = "onnxruntime"
    precision = "fp32"
    device = "cpu"

    def __init__(self, path: Path, *, max_disp: int, threads: int | None = None) -> None:
        if not have("onnxruntime"):  # no extra: every installation has it
            raise DepthlightError("onnxruntime is not installed", hint="Repair with: pip install depthlight")
        import onnxruntime as runtime

        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own, undocumented classes
            raise CheckpointError(f"{path.name} cannot be read by onnxruntime: {error}") from None
        self._max_disp = max_disp

    def check_range(self, max_disp: int) -> None:
        _check_limit(max_disp)
        if max_disp != self._max_disp:
            raise InputError(
                f"this ONNX graph searches {self._max_disp} px, not {max_disp}",
                hint="Use --backend torch (pip install 'depthlight[torch]') for another range",
            )

    def bytes_needed(self, pixels: int, max_disp: int) -> int:
        return pixels * (300 + 3 * max_disp)  # measured at 192 px: 710 a pixel

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        self.check_range(max_disp)
        with _memory_told(left_N3HW, max_disp):
            disparity, confidence = self._session.run(
                ["disparity", "confidence"], {"left": left_N3HW, "right": right_N3HW}
            )
        return disparity[:, 0], confidence[:, 0]


class TorchBackend:
    """PyTorch eager, on the CPU or a CUDA device."""

    name = "torch"

    def __init__(self, net: Any, *, device: str = "auto", precision: str = "fp32", threads: int | None = None) -> None:
        torch = require("torch", extra="torch")
        if precision not in PRECISIONS:
            raise InputError(f"the torch backend has no precision {precision!r}", expected=" or ".join(PRECISIONS))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.split(":")[0] not in ("cpu", "cuda"):
            raise InputError(f"device {device!r} cannot be used", expected="auto, cpu, cuda or cuda:NUMBER")
        try:
            self._device = torch.device(device)
            self._net = net.eval().to(self._device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = device
        self.precision = precision

    @property
    def net(self) -> Any:
        """The network on its device, in evaluation mode; what adapts to a pair leaves it as it was."""
        return self._net

    def check_range(self, max_disp: int) -> None:
        import torch

        _check_limit(max_disp)
        smallest = torch.empty(1, 3, self._net.multiple, self._net.multiple, device="meta")
        self._net.check_inputs(smallest, smallest, max_disp)

    def bytes_needed(self, pixels: int, max_disp: int) -> int:
        return pixels * (300 + 6 * max_disp)  # measured at 192 px: light 1350, LAS 450 to 1330 a pixel; at 384: 2470

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        import torch

        _check_limit(max_disp)
        lowered = self.precision == "bf16"
        with _memory_told(left_N3HW, max_disp):
            left = torch.from_numpy(left_N3HW).to(self._device)
            right = torch.from_numpy(right_N3HW).to(self._device)
            with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=lowered):
                out = self._net(left, right, max_disp)
            return out.disparity_B1HW[:, 0].float().cpu().numpy(), out.confidence_B1hw[:, 0].float().cpu().numpy()


def _check_limit(max_disp: int) -> None:
    if max_disp > MAX_RANGE:
        raise LimitError(f"the disparity range is {max_disp} px", expected=f"at most {MAX_RANGE} px")


@contextmanager
def _memory_told(images_N3HW: FloatArray, max_disp: int) -> Iterator[None]:
    """Failed allocations as one line; both runtimes report them under general classes, by their words."""
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
