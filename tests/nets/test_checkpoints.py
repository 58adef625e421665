"""Weights files: round trips, the authors' layouts, and 25 hostile files (U1) of which none may do harm."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file  # noqa: E402

from depthlight.core.errors import CheckpointError  # noqa: E402
from depthlight.nets.checkpoints import (  # noqa: E402
    check_fits,
    detect_family,
    load_into,
    load_weights,
    read_metadata,
    save_official,
    save_safetensors,
)


class Small(torch.nn.Module):
    """A few layers with every kind of entry a state dict has."""

    family = "small"

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(4)

    def state(self) -> dict[str, Any]:
        return {key: tensor.clone() for key, tensor in self.state_dict().items()}


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("wrap", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_authors_layouts_load(tmp_path: Path, wrap: str | None, prefix: str, suffix: str) -> None:
    net = Small()
    state = {prefix + key: tensor for key, tensor in net.state().items()}
    torch.save({wrap: state, "step": 3} if wrap else state, tmp_path / f"w{suffix}")
    assert _same(load_weights(tmp_path / f"w{suffix}"), net.state())


def test_files_round_trip(tmp_path: Path) -> None:
    net = Small()
    save_official(tmp_path / "w.pth", net)
    save_safetensors(tmp_path / "w.safetensors", net, {"name": "small.test"})
    assert list(torch.load(tmp_path / "w.pth", weights_only=True)) == ["model"]
    assert read_metadata(tmp_path / "w.safetensors") == {"name": "small.test"}
    for file in ("w.pth", "w.safetensors"):
        other = Small()
        load_into(other, load_weights(tmp_path / file), source=file)
        assert _same(other.state(), net.state())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pth", "w.safetensors"]


def test_half_precision_files(tmp_path: Path) -> None:
    net, other = Small(), Small()
    save_safetensors(tmp_path / "w.safetensors", net.state(), fp16=True)
    stored = load_weights(tmp_path / "w.safetensors")
    assert stored["conv.weight"].dtype == torch.float16
    load_into(other, stored, source="w")
    assert torch.equal(other.conv.weight, net.conv.weight.half().float())
    net.norm.running_var.fill_(1e6)
    with pytest.raises(CheckpointError, match=r"norm\.running_var holds .* too large for torch\.float16"):
        save_safetensors(tmp_path / "v.safetensors", net, fp16=True)
    assert not (tmp_path / "v.safetensors").exists()


def test_detect_family_names_the_right_network() -> None:
    pytest.importorskip("timm")
    from depthlight.nets.stereo import build

    state = build("las2-s").state_dict()
    assert detect_family(state) == "las2-s"
    assert detect_family(Small().state()) is None
    with pytest.raises(CheckpointError, match=r"cost_agg.* These look like weights of las2-s\.$"):
        load_into(build("las2-m"), state, source="file.pth")


def test_shapes_are_compared_without_memory() -> None:
    with torch.device("meta"):
        sketch = torch.nn.Linear(2**30, 2**10)
    with pytest.raises(CheckpointError, match=r"w does not fit Linear: weight is \(2, 2\), not \(1024, 1073741824\)"):
        check_fits(sketch, {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, source="w")


class Payload:
    """Pickles as a call that writes the canary."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def _torch_file(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _repacked(data: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The torch archive with its entries changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return buffer.getvalue()


def _pickled(content: bytes) -> bytes:
    """A torch archive whose pickle is ``content``."""
    return _repacked(_torch_file({}), lambda name, data: content if name.endswith("data.pkl") else data)


def _safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}


def _saved(**changes: Any) -> Any:
    """The small network's state with entries changed (``None`` removes), keys spelled with __ for dots."""
    state = Small().state()
    for key, value in changes.items():
        key = key.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


def _safetensors_of(state: dict[str, Any], folder: Path) -> bytes:
    save_file(state, folder / "made")
    data = (folder / "made").read_bytes()
    (folder / "made").unlink()
    return data


def _hostile(folder: Path, canary: Path) -> dict[str, bytes]:
    """Files by name."""
    good = _torch_file(Small().state())
    good_st = _safetensors_of(Small().state(), folder)
    nan, infinite = torch.full((4, 3, 3, 3), float("nan")), torch.full((4,), float("inf"))
    huge_view = torch.zeros(1).expand(10**9)
    return {
        "payload.system.pth": _torch_file({"x": Payload(os.system, f"touch {canary}")}),
        "payload.eval.pt": _torch_file({"x": Payload(eval, f"open({str(canary)!r}, 'w')")}),
        "payload.open.ckpt": _torch_file(Payload(open, str(canary), "w")),
        "payload.in.tensor.pth": _torch_file({"model": Payload(Path.touch, canary), **Small().state()}),
        "payload.bare.pickle.pth": b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.",
        "payload.stack.global.pth": _pickled(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."),
        "payload.pickle.named.safetensors": good,
        "asks.memory.bytearray.pth": _pickled(b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x04\x85R."),
        "asks.memory.tensor.pth": _pickled(b"\x80\x02ctorch\nTensor\n\x8a\x05\x00\x00\x00\x00\x04\x85R."),
        "asks.memory.view.pth": _torch_file({"x": huge_view}),
        "bomb.pth": _repacked(
            _torch_file({"x": torch.zeros(10**6)}), lambda _, data: data, compression=zipfile.ZIP_DEFLATED
        ),
        "short.storage.pth": _repacked(good, lambda name, data: data[:8] if "/data/" in name else data),
        "cut.pth": good[: len(good) // 2],
        "empty.pth": b"",
        "text.pth": b"version https://git-lfs.github.com/spec/v1\n",
        "list.pth": _torch_file([torch.zeros(3)]),
        "not.tensors.pth": _torch_file({"lr": 0.1, "name": "x"}),
        "sparse.pth": _torch_file({"x": torch.eye(3).to_sparse()}),
        "no.tensors.pth": _torch_file({}),
        "empty.safetensors": b"",
        "header.too.long.safetensors": _safetensors({}, length=2**62),
        "header.cut.safetensors": good_st[:40],
        "data.cut.safetensors": good_st[:-7],
        "header.lies.safetensors": _safetensors(_entry(0, 2**40, [2**38])),
        "header.negative.safetensors": _safetensors(_entry(8, 4, [-1]), bytes(4)),
        "header.shape.lies.safetensors": _safetensors(_entry(0, 4, [2**40]), bytes(4)),
        "header.not.json.safetensors": _safetensors(b"{" * 100),
        "header.deep.safetensors": _safetensors(b"[" * 10**5),
        "header.list.safetensors": _safetensors([1, 2]),
        "wrong.key.safetensors": _safetensors_of(_saved(conv__weight=None, other=torch.zeros(2)), folder),
        "extra.key.pth": _torch_file(_saved(extra=torch.zeros(2))),
        "wrong.shape.pth": _torch_file(_saved(conv__weight=torch.zeros(4, 3, 5, 5))),
        "wrong.dtype.pth": _torch_file(_saved(conv__weight=torch.zeros(4, 3, 3, 3, dtype=torch.int32))),
        "wrong.counter.pth": _torch_file(_saved(norm__num_batches_tracked=torch.tensor(0.5))),
        "complex.pth": _torch_file(_saved(norm__bias=torch.zeros(4, dtype=torch.complex64))),
        "nan.pth": _torch_file(_saved(conv__weight=nan)),
        "inf.safetensors": _safetensors_of(_saved(norm__bias=infinite), folder),
        "overflow.pth": _torch_file(_saved(norm__bias=torch.full((4,), 1e300, dtype=torch.float64))),
        "variance.pth": _torch_file(_saved(norm__running_var=-torch.ones(4))),
    }


with_names = list(_hostile(Path(os.environ.get("TMPDIR", "/tmp")), Path("unused")))


@pytest.mark.parametrize("name", with_names)
def test_hostile_checkpoint(tmp_path: Path, name: str, record_property: Callable[[str, object], None]) -> None:
    canary = tmp_path / "canary"
    data = _hostile(tmp_path, canary)[name]
    file = tmp_path / name
    file.write_bytes(data)
    net = Small()
    before = net.state()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            load_into(net, load_weights(file), source=name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    assert name in message
    assert not canary.exists()
    assert _same(net.state(), before)
    assert peak < 2 * len(data) + 2**21  # the interpreter's own share: parsing, imports
    record_property("u1_peak_mib", peak / 2**20)


def test_hostile_files_are_at_least_25() -> None:
    assert len(with_names) >= 25


@pytest.mark.parametrize("content", ["asks.memory.tensor.pth", "asks.memory.view.pth", "header.lies.safetensors"])
def test_hostile_sizes_do_not_reserve_memory(tmp_path: Path, content: str) -> None:
    """Torch's own allocations are outside tracemalloc's sight; a limit on the address space sees them."""
    resource = pytest.importorskip("resource")
    (tmp_path / content).write_bytes(_hostile(tmp_path, tmp_path / "canary")[content])
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, limits[1]))
    try:
        with pytest.raises(CheckpointError) as caught:
            load_weights(tmp_path / content)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert "memory" not in str(caught.value).replace(content, "")


@pytest.mark.parametrize(
    ("name", "match"),
    [("none.pth", "does not exist"), ("none.safetensors", "does not exist"), ("w.bin", "expected a name ending in")],
)
def test_no_such_weights(tmp_path: Path, name: str, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        load_weights(tmp_path / name)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    code = (
        "import sys, torch; from pathlib import Path; from depthlight.nets.checkpoints import save_safetensors;"
        "save_safetensors(Path(sys.argv[1]), {'b.weight': torch.ones(3, 2), 'a.bias': torch.zeros(1)},"
        " {name: name * 3 for name in 'family network name max_disp lineage'.split()} | {'note': 'px × 2'})"
    )
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path in files:  # hash seeds differ between processes
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert len({path.read_bytes() for path in files}) == 1
    assert read_metadata(files[0])["note"] == "px × 2"
    assert load_weights(files[0])["b.weight"].tolist() == [[1.0, 1.0]] * 3
