"""One variant of the speed section in a process of its own: times passes, and tells its peak memory.

Usage: python -m bench.speed_worker prepare FOLDER HEIGHT WIDTH
       python -m bench.speed_worker VARIANT FOLDER RUNS

``prepare`` writes the pair and the ONNX graphs; a variant prints one line of JSON. Every import is where it is needed,
so that a variant's memory is its own: onnxruntime without torch, OpenCV without either.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
RANGE = 192
SEED = 0  # of the LAS networks' fresh weights: speed does not depend on them
LAS = ("las1", "las2-s", "las2-m")
SGBM_MODES = ("3WAY", "SGBM", "HH")
VARIANTS = (
    *(f"{family}:{kind}" for family in LAS for kind in ("plain", "eager", "onnxruntime")),
    "light:eager",
    "light:onnxruntime",
    *(f"opencv:{mode}" for mode in SGBM_MODES),
    "opencv:dense",
)
Pass = Callable[[], Any]


def prepare(folder: Path, height: int, width: int) -> None:
    """Write ``left.npy``, ``right.npy`` (an engine pair, uint8) and the LAS graphs."""
    from depthlight.data.synth.engine import Engine, SynthConfig
    from depthlight.export.onnx import export_onnx

    config = SynthConfig(seed=1, height=height, width=width, families={"layered": 1.0}, max_max_disp=150.0)
    sample = Engine(config).sample(0)
    np.save(folder / "left.npy", sample.left_HW3)
    np.save(folder / "right.npy", sample.right_HW3)
    for family in LAS:
        export_onnx(_las(family), folder / f"{family}.onnx", max_disp=RANGE)


def measure(variant: str, folder: Path, runs: int) -> dict[str, Any]:
    """Seconds of ``runs`` passes after one that does not count; memory before the first pass and at its peak, MiB."""
    family, kind = variant.split(":")
    left_HW3, right_HW3 = (np.load(folder / f"{view}.npy") for view in ("left", "right"))
    once = _opencv(kind, left_HW3, right_HW3) if family == "opencv" else _network(family, kind, folder)
    before = _memory("VmRSS")
    once()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "before_mib": before, "peak_mib": _memory("VmHWM")}


def _network(family: str, kind: str, folder: Path) -> Pass:
    left, right = (_stacked(np.load(folder / f"{view}.npy")) for view in ("left", "right"))
    backend = _onnx_backend(family, folder) if kind == "onnxruntime" else _torch_backend(family)
    around: Any = nullcontext
    if kind == "plain":
        from bench.reference import plain

        around = plain

    def once() -> None:
        with around():
            backend.run(left, right, RANGE)

    return once


def _torch_backend(family: str) -> Any:
    if family == "light":
        import depthlight

        return depthlight.load("light", backend="torch", threads=THREADS).backend
    from depthlight.backends import TorchBackend

    return TorchBackend(_las(family), device="cpu", threads=THREADS)


def _onnx_backend(family: str, folder: Path) -> Any:
    if family == "light":
        import depthlight

        return depthlight.load("light", backend="onnxruntime", threads=THREADS).backend
    from depthlight.backends import OnnxBackend

    return OnnxBackend(folder / f"{family}.onnx", max_disp=RANGE, threads=THREADS)


def _las(family: str) -> Any:
    """A LAS network with PyTorch's default initialisation."""
    import torch

    from depthlight.nets.stereo import build

    torch.manual_seed(SEED)
    return build(family).eval()


def _opencv(kind: str, left_HW3: Any, right_HW3: Any) -> Pass:
    """OpenCV's own call for a mode; ``dense`` is depthlight's ``sgbm``: mode HH, widened images, holes filled."""
    import cv2

    from depthlight.infer.sgbm import MODES, SgbmConfig, SgbmMatcher

    cv2.setNumThreads(THREADS)
    if kind == "dense":
        return lambda: SgbmMatcher().predict(left_HW3, right_HW3, max_disp=RANGE)
    settings = SgbmConfig(mode=kind)
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=RANGE,
        blockSize=settings.block_size,
        P1=settings.p1,
        P2=settings.p2,
        disp12MaxDiff=settings.disp12_max_diff,
        preFilterCap=settings.pre_filter_cap,
        uniquenessRatio=settings.uniqueness_ratio,
        speckleWindowSize=settings.speckle_window_size,
        speckleRange=settings.speckle_range,
        mode=MODES[kind],
    )
    return lambda: matcher.compute(left_HW3, right_HW3)


def _stacked(image_HW3: Any) -> Any:
    return np.ascontiguousarray(image_HW3.transpose(2, 0, 1)[None].astype(np.float32))


def _memory(field: str) -> float:
    """A field of this process in MiB, as Linux counts it. getrusage would carry over the parent's peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"this system does not tell {field}")


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "prepare":
        prepare(Path(where), *(int(number) for number in rest))
    else:
        print(json.dumps(measure(what, Path(where), int(rest[0]))))
