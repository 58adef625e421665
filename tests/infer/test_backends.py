"""The runtimes' common contract: ranges, memory, devices."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import depthlight as dl
from depthlight.backends import MAX_RANGE, OnnxBackend, OpenVinoBackend, warm_up
from depthlight.backends.openvino import CACHE_VARIABLE, has_bf16
from depthlight.core import registry
from depthlight.core.errors import DepthlightError, InputError, LimitError
from depthlight.core.tolerances import tolerance

pytest.importorskip("openvino")
GRAPH = registry.bundled()[registry.DEFAULT_MODEL].path("onnx")

IMAGE = np.zeros((1, 3, 32, 32), np.float32)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino", "torch"])
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
@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_failed_allocations_are_one_line(monkeypatch, name, error):
    backend = dl.load(backend=name, threads=1).backend

    class Fails:
        multiple = 32

        def run(self, *args, **kwargs):
            raise error

        __call__ = run

    monkeypatch.setattr(backend, "_net" if name == "torch" else "_session", Fails())
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


def test_openvino_answers_as_onnxruntime_does(make_pair):
    left, right = (np.ascontiguousarray(v.transpose(2, 0, 1)[None].astype(np.float32)) for v in make_pair(9, 64, 160))
    wanted, found = (dl.load(backend=b, threads=1).backend.run(left, right, 192) for b in ("onnxruntime", "openvino"))
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance("openvino.max"))


@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_uses_the_threads_it_is_given(threads):
    session = dl.load(backend="openvino", threads=threads).backend._session
    assert session.get_property("INFERENCE_NUM_THREADS") == threads


def test_openvino_runs_in_the_precision_asked_for(monkeypatch):
    assert "float32" in str(dl.load(backend="openvino").backend._session.get_property("INFERENCE_PRECISION_HINT"))
    if has_bf16():
        backend = dl.load(backend="openvino", precision="bf16").backend
        assert backend.precision == "bf16"
        assert "bfloat16" in str(backend._session.get_property("INFERENCE_PRECISION_HINT"))
    monkeypatch.setattr("depthlight.backends.openvino.has_bf16", lambda: False)
    with pytest.raises(InputError, match=r"no bf16.*--precision fp32"):
        dl.load(backend="openvino", precision="bf16")


def test_signals_are_handled_after_openvino_models_are_released():
    """Each CPU plugin has a signal stack of its own; a freed one left behind turned Ctrl-C into a crash."""
    code = (
        "import signal, depthlight as dl\n"
        "models = [dl.load(backend='openvino', threads=1) for _ in range(2)]\n"
        "while models: models.pop(0)\n"
        "signal.signal(signal.SIGINT, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr[-500:]


def test_openvino_writes_a_cache_only_where_it_is_told_to(tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    OpenVinoBackend(GRAPH, max_disp=192, threads=1)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    first, second = (OpenVinoBackend(GRAPH, max_disp=192, threads=1) for _ in range(2))
    assert any(path.is_file() for path in (tmp_path / "cache").rglob("*"))
    for a, b in zip(first.run(IMAGE, IMAGE, 192), second.run(IMAGE, IMAGE, 192), strict=True):
        np.testing.assert_array_equal(a, b)


def test_warming_up_runs_the_size_asked_for():
    seen = []

    class Backend:
        def run(self, left, right, max_disp):
            seen.append((left.shape, right.shape, max_disp))

    warm_up(Backend(), 64, 96, 192, pairs=2)
    assert seen == [((2, 3, 64, 96), (2, 3, 64, 96), 192)]
