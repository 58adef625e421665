"""From a name or a file to a matcher: combinations of options, and model files that lie about themselves (U1)."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import depthlight as dl
from depthlight.core.errors import CheckpointError, DepthlightError, InputError, MissingExtraError, UnknownNameError

torch = pytest.importorskip("torch")

from depthlight.nets.checkpoints import save_official, save_safetensors  # noqa: E402
from depthlight.nets.stereo import build  # noqa: E402

TINY = {
    "pyramid": [8, 8, 8, 8, 8],
    "match": 8,
    "groups": 4,
    "volume": [4, 4, 4, 4],
    "upsample": 8,
    "max_disp": 64,
}
FACTS = {"name": "light.tiny", "family": "light", "network": json.dumps(TINY), "max_disp": "96"}


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return build("light", TINY)


@pytest.fixture
def own_file(tiny, tmp_path):
    """A function that writes the tiny network as a model file with some facts changed (None: left out)."""

    def write(file: str = "model.safetensors", /, **changes: str | None) -> Path:
        facts = {key: value for key, value in {**FACTS, **changes}.items() if value is not None}
        save_safetensors(tmp_path / file, tiny, facts)
        return tmp_path / file

    return write


def test_an_own_file_says_what_it_is(own_file):
    model = dl.load(own_file(), threads=1)
    assert (model.name, model.max_disp, model.identity.backend) == ("light.tiny", 96, "torch")
    image = np.zeros((32, 32, 3), np.uint8)
    assert model.predict(image, image).max_disp == 96


def test_suffixes_in_capitals_are_files_too(own_file):
    assert dl.load(own_file("MODEL.SAFETENSORS"), threads=1).name == "light.tiny"


def test_weights_bring_their_own_network_and_range(own_file):
    path = own_file()
    named, bare = dl.load("light", weights=path, threads=1), dl.load(path, threads=1)
    assert (named.identity, named.max_disp) == (bare.identity, bare.max_disp)
    assert dl.load(weights=path, threads=1).name == "light.tiny"  # the default's family is light


def test_a_range_left_out_is_the_network_s_own(own_file):
    assert dl.load(own_file(max_disp=None), threads=1).max_disp == 64


def test_weights_without_facts_are_named_after_their_file(own_file, tmp_path):
    net = build("light")
    save_official(tmp_path / "mine.pth", net)
    model = dl.load("light", weights=tmp_path / "mine.pth", threads=1)
    assert (model.name, model.max_disp) == ("light.mine", 192)


def test_weights_of_another_family_are_refused(own_file):
    with pytest.raises(CheckpointError, match=r"weights of light, not las2-s.*--model light"):
        dl.load("las2-s", weights=own_file())


def test_a_checkpoint_as_model_says_how_to_give_it(tmp_path, tiny):
    save_official(tmp_path / "las2s.PTH", tiny)
    with pytest.raises(CheckpointError, match=r"Give --model FAMILY --weights las2s\.PTH"):
        dl.load(tmp_path / "las2s.PTH")


def test_missing_files_are_told_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"model file .*none\.safetensors does not exist"):
        dl.load(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"weights file .*none\.pth does not exist"):
        dl.load("light", weights=tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "cuda", "backend": "onnxruntime"}, "onnxruntime runs on the CPU, not on 'cuda'"),
        ({"precision": "bf16", "backend": "onnxruntime"}, "fp32, not bf16"),
        ({"device": "cuda", "backend": "openvino"}, "openvino runs on the CPU, not on 'cuda'"),
        ({"name": "las2-s", "backend": "openvino"}, "depthlight export NAME --to openvino"),
        ({"name": "x.onnx", "weights": "w.pth"}, "both a graph and weights"),
        ({"name": "x.onnx"}, "model file x.onnx does not exist"),
        ({"name": "las2-s", "backend": "onnxruntime"}, "las2-s.official runs on torch, not on onnxruntime"),
        ({"name": "light", "weights": "w.pth", "backend": "onnxruntime"}, "w.pth runs on torch"),
        ({"name": "w.safetensors", "backend": "onnxruntime"}, "w.safetensors runs on torch"),
        ({"name": "w.safetensors", "weights": "w.pth"}, "both a model file and weights"),
        ({"name": "sgbm", "weights": "w.pth"}, "sgbm has no weights"),
        ({"name": "sgbm", "backend": "torch"}, "takes no --backend torch"),
        ({"name": "sgbm", "backend": "onnxruntime"}, "takes no --backend onnxruntime"),
        ({"name": "sgbm", "device": "cuda"}, "takes no --device cuda"),
        ({"name": "sgbm-oracle", "precision": "bf16"}, "takes no --precision bf16"),
        ({"precision": "int8"}, "no option makes a model int8; expected fp32 or bf16"),
        ({"device": "meta"}, "device 'meta' cannot be used; expected auto, cpu, cuda"),
        ({"device": "cuda:x"}, "device 'cuda:x' cannot be used"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, says):
    with pytest.raises(InputError) as caught:
        dl.load(**options)
    assert says in str(caught.value)


def test_unknown_choices_offer_the_known():
    with pytest.raises(UnknownNameError, match="did you mean 'onnxruntime'"):
        dl.load(backend="onnxruntim")
    with pytest.raises(UnknownNameError, match="fp32"):
        dl.load(precision="fp23")


def test_graphs_run_where_they_can(tmp_path, monkeypatch):
    for name in ("a.onnx", "a.xml"):
        (tmp_path / name).write_bytes(b"no graph")
    for options, says in (
        ({"name": tmp_path / "a.onnx"}, "a.onnx cannot be read by onnxruntime"),
        ({"name": tmp_path / "a.xml"}, "a.xml cannot be read by openvino"),
    ):
        with pytest.raises(CheckpointError, match=says) as caught:
            dl.load(**options)
        assert "\n" not in str(caught.value)
    facts = {f"depthlight.{k}": v for k, v in {"name": "x", "family": "light", "max_disp": "64"}.items()}
    said = {**facts, "depthlight.precision": "fp32"}
    monkeypatch.setattr("depthlight.infer.load.onnx_strings", lambda path: said)
    monkeypatch.setattr("depthlight.infer.load.openvino_strings", lambda path: said)
    for options, says in (
        ({"name": tmp_path / "a.onnx", "backend": "torch"}, "is a graph and does not run on torch"),
        ({"name": tmp_path / "a.onnx", "device": "cuda"}, "does not run on cuda"),
        ({"name": tmp_path / "a.xml", "backend": "onnxruntime"}, "onnxruntime cannot read it"),
    ):
        with pytest.raises(InputError, match=says):
            dl.load(**options)


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({}, "onnxruntime"),
        ({"device": "cpu"}, "onnxruntime"),
        ({"precision": "bf16"}, "torch"),
        ({"backend": "openvino"}, "openvino"),
    ],
)
def test_auto_is_onnxruntime_where_it_can_do_what_is_asked(options, backend):
    assert dl.load(**options, threads=1).identity.backend == backend


def test_torch_missing_is_told_for_every_way_that_needs_it(monkeypatch, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    monkeypatch.setattr("depthlight.infer.load.have", lambda name: False)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    for options in ({"backend": "torch"}, {"name": "las2-s"}, {"name": tmp_path / "w.safetensors"}, {"device": "cuda"}):
        with pytest.raises(MissingExtraError, match=r"pip install 'depthlight\[torch\]'"):
            dl.load(**options)


@contextmanager
def address_space(extra: int):
    """At most ``extra`` bytes more than are mapped now: sees torch's own allocations too."""
    resource = pytest.importorskip("resource")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _network(**changes: object) -> str:
    return json.dumps({**TINY, **changes})


HOSTILE = {
    "network.wide": ({"network": _network(pyramid=[8, 8, 8, 8, 16000])}, "its network is"),
    "network.wide.below.the.limit": ({"network": _network(pyramid=[2048] * 5, match=2048)}, "does not fit light"),
    "network.negative": ({"network": _network(upsample=-8)}, ""),
    "network.no.groups": ({"network": _network(groups=0)}, "cannot be built"),
    "network.wrong.type": ({"network": _network(match="many")}, "cannot be built"),
    "network.unknown.key": ({"network": _network(depth=3)}, "cannot be built"),
    "network.short": ({"network": _network(volume=[4])}, "cannot be built"),
    "network.nan": ({"network": '{"match": NaN}'}, "cannot be built"),
    "network.no.json": ({"network": "{"}, "its network is"),
    "network.list": ({"network": "[1]"}, "its network is"),
    "network.deep": ({"network": "[" * 100_000}, "its network is"),
    "network.digits": ({"network": '{"match": ' + "9" * 5000 + "}"}, "its network is"),
    "max_disp.word": ({"max_disp": "many"}, "its max_disp is 'many'"),
    "max_disp.huge": ({"max_disp": "640000"}, "its max_disp"),
    "max_disp.digits": ({"max_disp": "9" * 5000}, "its max_disp"),
    "max_disp.zero": ({"max_disp": "0"}, "its max_disp"),
    "max_disp.odd": ({"max_disp": "100"}, "multiple of 32"),
    "max_disp.superscript": ({"max_disp": "6\N{SUPERSCRIPT TWO}"}, "its max_disp"),
    "family.unknown": ({"family": "resnet"}, "its family is 'resnet'"),
    "family.other": ({"family": "las2-s", "network": "{}"}, "does not fit las2-s"),
    "family.none": ({"family": None}, "does not say which network"),
    "name.long": ({"name": "x" * 10_000}, "its name"),
    "name.lines": ({"name": "a\nb"}, "its name"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_model_file_says_is_checked(own_file, case):
    changes, says = HOSTILE[case]
    path = own_file(f"{case}.safetensors", **changes)
    with address_space(2**29), pytest.raises(CheckpointError) as caught:
        dl.load(path)
    message = str(caught.value)
    assert says in message
    assert path.name in message
    assert "\n" not in message and len(message) < 500


def test_a_range_the_family_cannot_have_is_refused(tmp_path):
    save_safetensors(tmp_path / "w.safetensors", build("las2-s"), {"family": "las2-s", "max_disp": "256"})
    with pytest.raises(CheckpointError, match=r"256 px and las2-s is built for 192"):
        dl.load(tmp_path / "w.safetensors")


def test_a_pipe_is_no_model_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.safetensors")
    for options in ({"name": tmp_path / "pipe.safetensors"}, {"weights": tmp_path / "pipe.safetensors"}):
        with pytest.raises(DepthlightError, match="does not exist"):
            dl.load(**options)
