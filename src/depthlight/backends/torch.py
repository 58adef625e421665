"""PyTorch, eager: every network, any range where the network allows it, CPU or CUDA."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ..core.errors import InputError
from ..core.extras import require
from .base import PRECISIONS, FloatArray, check_limit, memory_told

# bytes a pixel at the usual 192 px, where the range is fixed
_BYTES = {"las1": 420, "las2-s": 320, "las2-m": 530, "las2-l": 560, "las2-h": 1000}


def _exact() -> AbstractContextManager[None]:
    """No TF32: CUDA's convolutions would otherwise round float32 inputs to 10 bits of mantissa, unasked."""
    import torch

    now = torch.backends.cudnn
    context: AbstractContextManager[None] = now.flags(
        enabled=now.enabled, benchmark=now.benchmark, deterministic=now.deterministic, allow_tf32=False
    )
    return context


class TorchBackend:
    """PyTorch eager, on the CPU or a CUDA device."""

    name = "torch"
    keeps_memory = False

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

        check_limit(max_disp)
        smallest = torch.empty(1, 3, self._net.multiple, self._net.multiple, device="meta")
        self._net.check_inputs(smallest, smallest, max_disp)

    def bytes_needed(self, pixels: int, max_disp: int) -> int:
        # measured: light 670 to 940 a pixel at 192 px, at most 2430 at 384; LAS 300 to 1000
        per_pixel = _BYTES.get(self._net.family, 7 * max_disp // 2) if max_disp <= 192 else 32 * max_disp // 5
        return pixels * int(per_pixel)

    def run(self, left_N3HW: FloatArray, right_N3HW: FloatArray, max_disp: int) -> tuple[FloatArray, FloatArray]:
        import torch

        check_limit(max_disp)
        lowered = self.precision == "bf16"
        with memory_told(left_N3HW, max_disp):
            left = torch.from_numpy(left_N3HW).to(self._device)
            right = torch.from_numpy(right_N3HW).to(self._device)
            with torch.inference_mode(), _exact(), torch.autocast(self._device.type, torch.bfloat16, enabled=lowered):
                out = self._net(left, right, max_disp)
            return out.disparity_B1HW[:, 0].float().cpu().numpy(), out.confidence_B1hw[:, 0].float().cpu().numpy()
