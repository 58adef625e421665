"""The runtimes' common contract: ranges, memory, devices."""

from __future__ import annotations

import numpy as np
import pytest

import depthlight as dl
from depthlight.backends import MAX_RANGE, OnnxBackend
from depthlight.core.errors import DepthlightError, InputError, LimitError

IMAGE = np.zeros((1, 3, 32, 32), np.float32)


@pytest.fixture(scope="module", params=["onnxruntime", "torch"])
def backend(request):
    return dl.load(backend=request.param, threads=1).backend


@pytest.mark.parametrize("max_disp", [MAX_RANGE + 32, 640_000, 10**12])
def test_a_range_beyond_the_limit_is_refused(backend, max_disp):
    for attempt in (lambda: backend.check_range(max_disp), lambda: backend.run(IMAGE, IMAGE, max_disp)):
        with pytest.raises(LimitError, match=f"at most {MAX_RANGE} px"):
            attempt()


@pytest.mark.parametrize("max_disp", [0, -32, 100])
def test_a_range_that_is_none_is_refused_before_running(backend, max_disp):
    with pytest.raises(InputError):
        backend.check_range(max_disp)


def test_ranges_of_torch_are_flexible_where_the_network_s_are():
    dl.load(backend="torch", threads=1).backend.check_range(256)


def test_memory_needed_grows_with_the_picture_and_the_range(backend):
    assert backend.bytes_needed(2000, 192) == 2 * backend.bytes_needed(1000, 192) > 1000 * 700
    assert backend.bytes_needed(1000, 384) > backend.bytes_needed(1000, 192)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA out of memory."),
        RuntimeError("std::bad_alloc"),
    ],
)
@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_failed_allocations_are_one_line(monkeypatch, name, error):
    backend = dl.load(backend=name, threads=1).backend

    class Fails:
        multiple = 32

        def run(self, *args, **kwargs):
            raise error

        __call__ = run

    monkeypatch.setattr(backend, "_session" if name == "onnxruntime" else "_net", Fails())
    with pytest.raises(LimitError, match=r"memory ran out for 1 × 32×32 px at a range of 192 px.*smaller images"):
        backend.run(IMAGE, IMAGE, 192)


def test_other_failures_keep_their_own_name(monkeypatch):
    backend = dl.load(backend="onnxruntime", threads=1).backend
    with pytest.raises(Exception, match=r"(?i)invalid") as caught:
        backend.run(IMAGE[:, :2], IMAGE[:, :2], 192)
    assert not isinstance(caught.value, LimitError)


def test_onnxruntime_is_part_of_the_core(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(DepthlightError, match=r"onnxruntime is not installed.*pip install depthlight\.$"):
        OnnxBackend(tmp_path / "x.onnx", max_disp=192)
