"""One row of the benchmark in a process of its own: times passes, and tells its peak memory.

``python -m depthlight.eval.bench_worker ROW time FOLDER RUNS``, ``ROW count`` or ``ROW judge SCENES [LIST]`` prints one
line of JSON; ROW is a :class:`~depthlight.eval.bench.Row` as JSON, FOLDER holds the pair. Every import is where it is
needed, so that a row's memory is its own: onnxruntime without torch, OpenCV without either.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import RESERVED_PRECISIONS
from ..core.errors import CheckFailedError, DepthlightError, InputError, MissingExtraError
from ..infer.padding import pad_to_multiple, up
from ..infer.prediction import StereoMatcher
from ..infer.sgbm import SgbmConfig, SgbmMatcher, opencv_matcher
from ..infer.stereo import StereoModel
from .bench import PEAK, RANGE, UNTRAINED, Row

PEAK_SHAPE = (256, 48, 78)  # channels, height, width of a dense 3×3 convolution that fits into a cache
SEED = 0  # of fresh weights: speed does not depend on them
View = NDArray[np.uint8]
Pass = Callable[[], Any]


def matcher(row: Row) -> StereoMatcher:
    """What a row measures, ready to predict. ``sgbm:MODE`` is StereoSGBM in that mode, dense.

    Raises:
        DepthlightError: as :func:`depthlight.load`.
    """
    from ..infer.load import load

    name, _, mode = row.model.partition(":")
    if name == "sgbm":
        return SgbmMatcher(SgbmConfig(mode=mode or "HH"))
    precision = "fp32" if row.precision in RESERVED_PRECISIONS else row.precision  # those come with the file
    how: dict[str, Any] = {"backend": row.backend, "precision": precision, "threads": row.threads}
    if row.graph is None and row.model.endswith(UNTRAINED):
        from ..backends import TorchBackend

        net = _untrained(row.model)
        backend = TorchBackend(net, precision=row.precision, threads=row.threads, device="cpu")
        return StereoModel(row.model, backend, weights_sha256=None, max_disp=RANGE)
    return load(row.graph or row.model, **how)


def time_passes(row: Row, folder: Path, runs: int) -> dict[str, Any]:
    """Seconds of ``runs`` passes after one that does not count; memory before the first and at the peak, MiB."""
    once = _one_pass(row, *(np.load(folder / f"{view}.npy") for view in ("left", "right")))
    before = _memory("VmRSS")
    once()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "before_mib": before, "peak_mib": _memory("VmHWM")}


def count(row: Row) -> dict[str, Any]:
    """Multiply-accumulates of one pass and parameters, which needs torch and no mere graph, and the weights' hash."""
    if row.model == PEAK:
        channels, height, width = PEAK_SHAPE
        return {"macs": 9 * channels * channels * height * width}
    if row.model.startswith("sgbm"):
        return {}
    fresh = row.model.endswith(UNTRAINED)
    known = {"weights_sha256": None if fresh else matcher(row).identity.weights_sha256}
    try:
        net: Any = _untrained(row.model) if fresh else _in_torch(row.model)
    except (MissingExtraError, InputError):  # no torch here, or a file that holds a graph only
        return known
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(1, 3, up(row.height), up(row.width))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net.eval()(image, image)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return known | {"macs": counter.get_total_flops() // 2, "parameters": parameters}


def _in_torch(model: str) -> Any:
    from ..infer.load import load

    found: Any = load(model, backend="torch", device="cpu")
    return found.backend.net


def _untrained(model: str) -> Any:
    import torch

    from ..nets.stereo import build

    torch.manual_seed(SEED)
    return build(model.removesuffix(UNTRAINED)).eval()


def _one_pass(row: Row, left_HW3: View, right_HW3: View) -> Pass:
    """The network alone on its padded input; of ``sgbm`` its whole prediction, of ``sgbm:MODE`` OpenCV's bare call."""
    if row.model == PEAK:
        return _dense_convolution(row)
    if row.model.startswith("sgbm"):
        import cv2

        cv2.setNumThreads(row.threads)
        if ":" in row.model:
            bare = opencv_matcher(RANGE, SgbmConfig(mode=row.model.partition(":")[2]))
            return lambda: bare.compute(left_HW3, right_HW3)
        dense = matcher(row)
        return lambda: dense.predict(left_HW3, right_HW3, max_disp=RANGE)
    model: Any = matcher(row)
    left, right = (_stacked(pad_to_multiple(view)) for view in (left_HW3, right_HW3))
    return lambda: model.backend.run(left, right, model.max_disp)


def _dense_convolution(row: Row) -> Pass:
    import torch

    torch.set_num_threads(row.threads)
    channels, height, width = PEAK_SHAPE
    kind = torch.bfloat16 if row.precision == "bf16" else torch.float32
    conv = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(kind)
    conv = conv.to(memory_format=torch.channels_last)
    x = torch.randn(1, channels, height, width).to(kind).contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.inference_mode():
            conv(x)

    return once


def _stacked(image_HW3: View) -> NDArray[np.float32]:
    return np.ascontiguousarray(image_HW3.transpose(2, 0, 1)[None].astype(np.float32))


def _memory(field: str) -> float | None:
    """A field of this process in MiB, as Linux tells it; getrusage would carry over the parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), None)


def judge(row: Row, scenes: Path, names: Path | None) -> dict[str, Any]:
    """Mean figures of the default protocol on a folder of scenes.

    Raises:
        CheckFailedError: a scene could not be measured.
    """
    from ..data.scenes import SceneFolder, read_list
    from .runner import evaluate

    result = evaluate(matcher(row), SceneFolder(scenes, read_list(names) if names else None))
    if result.failures:
        first = result.failures[0]
        raise CheckFailedError(f"{len(result.failures)} scenes failed, first {first.name}: {first.error}")
    facts = result.to_dict()
    return {**facts["mean"], "scenes": facts["counts"]["scenes"]}


def main(arguments: list[str]) -> int:
    """One job; a fault of the input as JSON, too."""
    text, what, *rest = arguments
    row = Row.from_json(text)
    try:
        if what == "time":
            answer = time_passes(row, Path(rest[0]), int(rest[1]))
        elif what == "count":
            answer = count(row)
        else:
            answer = judge(row, Path(rest[0]), Path(rest[1]) if rest[1:] else None)
    except DepthlightError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
