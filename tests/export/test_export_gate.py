"""``depthlight export``: every network passes its gate, what fails leaves no file, and what is made can be loaded."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

import depthlight as dl
from depthlight.backends import GraphFacts, OpenVinoBackend, TorchBackend, warm_up
from depthlight.cli import main as cli
from depthlight.core import registry
from depthlight.core.errors import (
    CheckFailedError,
    CheckpointError,
    InputError,
    MissingExtraError,
    OutputError,
    UnknownNameError,
)
from depthlight.core.tolerances import tolerance
from depthlight.data.synth.engine import plain_pairs
from depthlight.export import model as export
from depthlight.export.int8 import Int8Row
from depthlight.export.pairs import gate_pair
from depthlight.export.untrained import untrained
from depthlight.nets.stereo import build

pytest.importorskip("openvino")

SIZES = ((64, 96), (96, 160), (64, 224))
LAS = ("las1", "las2-s", "las2-m", "las2-l", "las2-h")


@functools.cache
def network():
    return dl.load("light", backend="torch", device="cpu", threads=1).backend.net


def light(*, trained=False):
    """The bundled network under another name; not gated in bf16, whose limits are for whole pictures."""
    return export.Source(net=network(), facts=GraphFacts(name="light.x", family="light", max_disp=192), trained=trained)


def ready_made(scale=1.0):
    """In place of ``export_onnx``, which takes a minute: the bundled graph, one of its weights scaled."""

    def write(net, path, *, max_disp, facts):
        graph = onnx.load(str(registry.bundled()[registry.DEFAULT_MODEL].path("onnx")))
        (weight,) = (item for item in graph.graph.initializer if item.name.endswith("folded_exit.cells.weight"))
        weight.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(scale), weight.name)
        )
        for key, value in facts.to_strings().items():
            graph.metadata_props.add(key=key, value=value)
        path.write_bytes(graph.SerializeToString())

    return write


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(export, "export_onnx", ready_made())


@pytest.fixture
def spoiled(monkeypatch):
    monkeypatch.setattr(export, "export_onnx", ready_made(1.5))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The network in both formats."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_onnx", ready_made())
        return {to: export.export_model(light(), folder, to=to, threads=1, sizes=SIZES) for to in export.TARGETS}


def test_file_and_report_lie_side_by_side(made):
    folder = made["onnx"].file.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "light.x.bin",
        "light.x.onnx",
        "light.x.onnx.parity.json",
        "light.x.xml",
        "light.x.xml.parity.json",
    ]
    for result in made.values():
        facts = json.loads(result.report.read_text())
        assert facts == json.loads(json.dumps(result.facts))
        assert facts["passed"] and facts["opset"] == 18 and facts["pair"]
        assert sorted({(row["height"], row["width"]) for row in facts["rows"]}) == sorted(SIZES)


def test_untrained_networks_are_gated_in_fp32_and_reported_in_bf16(made):
    rows = made["openvino"].facts["rows"]
    assert {(row["precision"], row["gated"]) for row in rows} <= {("fp32", True), ("bf16", False)}


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_files_tell_nothing_of_the_machine(made, to):
    files = [made[to].file, made[to].report]
    for data in (path.read_bytes() for path in files):
        for path in (Path(torch.__file__).parents[1], Path(dl.__file__).parent, made[to].file.parent):
            assert str(path).encode() not in data


@pytest.mark.parametrize(
    ("to", "backend", "runs_on"),
    [
        ("onnx", "auto", "onnxruntime"),
        ("onnx", "openvino", "openvino"),
        ("openvino", "auto", "openvino"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_exported_files_are_models(made, make_pair, to, backend, runs_on):
    model = dl.load(made[to].file, backend=backend, threads=1)
    assert (model.name, model.max_disp, model.identity.backend) == ("light.x", 192, runs_on)
    left, right = make_pair(6, 70, 100)
    wanted = dl.load("light", backend="torch", threads=1).predict(left, right)
    found = model.predict(left, right)
    np.testing.assert_allclose(found.disparity, wanted.disparity, atol=tolerance("openvino.max"))


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 32), (3, 96, 64), (2, 64, 256)])
def test_openvino_takes_any_size_and_batch(made, batch, height, width):
    left, right = np.random.default_rng(0).uniform(0, 255, (2, batch, 3, height, width)).astype(np.float32)
    left, right = (cv2.GaussianBlur(x.reshape(-1, width, 1), (9, 9), 2).reshape(x.shape) for x in (left, right))
    wanted = TorchBackend(network(), device="cpu").run(left, right, 192)
    backend = OpenVinoBackend(made["openvino"].file, max_disp=192, threads=1)
    warm_up(backend, height, width, 192)
    found = backend.run(left, right, 192)
    kept = found[0].copy()
    backend.run(right, left, 192)
    np.testing.assert_array_equal(found[0], kept)  # a later call leaves earlier results alone
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance("openvino.max"))


@pytest.mark.slow
@pytest.mark.parametrize("family", LAS)
def test_every_network_passes_its_gate(family, tmp_path):
    for to in export.TARGETS if family != "las2-s" else ("openvino",):
        source = export.untrained_source(family)
        done = export.export_model(source, tmp_path, to=to, threads=1, sizes=SIZES)
        assert done.file.is_file() and done.facts["passed"]
        assert all(row["holds"] for row in done.facts["rows"] if row["gated"])


@pytest.mark.slow
def test_the_bundled_network_passes_in_full(tmp_path):
    done = export.export_model(export.trained_source("light"), tmp_path, to="openvino", threads=1)
    assert all(row["gated"] and row["holds"] for row in done.facts["rows"])
    assert dl.load(done.file).identity.weights_sha256 == dl.load().identity.weights_sha256


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_failed_gate_leaves_a_report_and_no_file(tmp_path, spoiled, to):
    with pytest.raises(CheckFailedError, match=r"light\.x\.(onnx|xml) differs") as caught:
        export.export_model(light(), tmp_path, to=to, threads=1, sizes=SIZES)
    assert caught.value.exit_status == 1
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".failed.json") and not json.loads(left.read_text())["passed"]


def test_a_failed_gate_spares_earlier_files(tmp_path, spoiled):
    (tmp_path / "light.x.onnx").write_bytes(b"earlier")
    with pytest.raises(CheckFailedError):
        export.export_model(light(), tmp_path, to="onnx", threads=1, sizes=SIZES)
    assert (tmp_path / "light.x.onnx").read_bytes() == b"earlier"


def test_the_command_ends_with_status_1_where_the_gate_fails(tmp_path, spoiled, monkeypatch, capsys):
    monkeypatch.setattr(export.export_model, "__kwdefaults__", {**export.export_model.__kwdefaults__, "sizes": SIZES})
    assert cli.run(["export", "light", "--to", "onnx", "-o", str(tmp_path)]) == 1
    assert "differs from its network" in capsys.readouterr().err
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_int8_is_offered_only_where_it_is_accurate(tmp_path, monkeypatch, quick):
    def tried(graph, target, max_disp, threads):
        target.write_bytes(b"int8")
        return [Int8Row(part="all", scenes=8, epe_fp32=1.0, bad1_fp32=20.0, **found)]

    source = light(trained=True)
    monkeypatch.setattr(export, "_quantised", tried)
    found = {}
    for epe, bad1 in ((1.06, 20.0), (1.0, 21.2)):
        found |= {"epe_int8": epe, "bad1_int8": bad1}
        with pytest.raises(CheckFailedError, match=r"raise the error by 6\.0 %"):
            export.export_model(source, tmp_path, to="onnx", int8=True, threads=1, sizes=SIZES)
        assert [path.name for path in tmp_path.iterdir()] == ["light.x.int8.onnx.failed.json"]
    found |= {"epe_int8": 1.04, "bad1_int8": 20.5}
    done = export.export_model(source, tmp_path, to="onnx", int8=True, threads=1, sizes=SIZES)
    assert done.file.name == "light.x.int8.onnx"
    assert done.facts["model"]["precision"] == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "light.x.int8.onnx",
        "light.x.int8.onnx.parity.json",
    ]


def test_int8_files_say_so_and_run(made, tmp_path):
    from depthlight.export.int8 import PARTS, STEM, compare_errors, quantise

    graph, pairs = made["onnx"].file, plain_pairs(2, seed=5, size=(64, 96))
    counts = {}
    for part in PARTS:
        target = tmp_path / f"{part}.onnx"
        counts[part] = quantise(graph, target, pairs, part=part)
        row = compare_errors(graph, target, pairs, part=part, max_disp=192, threads=1)
        assert row.epe_fp32 > 0 and row.epe_int8 > 0 and row.epe_int8 != row.epe_fp32
        nodes = onnx.load(str(target)).graph.node
        quantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        first = [node for node in nodes if node.op_type == "Conv"][: STEM + 1]
        assert [bool(set(node.input) & quantised) for node in first] == [False] * STEM + [True]
    assert 0 < counts["features"] < counts["all"]
    for backend in ("auto", "openvino"):
        assert dl.load(target, backend=backend, threads=1).identity.precision == "int8"
    with pytest.raises(InputError, match="is an int8 graph"):
        dl.load(target, precision="bf16")
    assert str(graph.parent).encode() not in target.read_bytes()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"to": "tensorrt"}, UnknownNameError, "onnx, openvino"),
        ({"to": "openvino", "int8": True}, InputError, "Use --to onnx"),
        ({"to": "onnx", "int8": True}, InputError, "untrained network has none"),
    ],
)
def test_impossible_exports_are_refused_before_any_work(tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        export.export_model(light(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot write into"):
        export.export_model(light(), tmp_path / "out", to="onnx")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sgbm", "--to", "onnx"], "sgbm is OpenCV's"),
        (["lite", "--to", "onnx"], "unknown model"),
        (["las3", "--untrained", "--to", "onnx"], "unknown network family"),
        (["las2-s", "--untrained", "--max-disp", "256", "--to", "onnx"], "built for a range of 192 px"),
        (["light", "--max-disp", "100", "--to", "onnx"], "multiple of 32"),
        (["las2-s", "--untrained", "--weights", "w.pth", "--to", "onnx"], "both --untrained and --weights"),
        (["light", "--to", "tflite"], "unknown export format"),
        (["light"], "--to"),
    ],
)
def test_wrong_words_are_one_line(tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.setattr(export, "untrained", lambda family: build(family))
    assert cli.run(["export", *words, "-o", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_extras_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'depthlight\[openvino\]'"):
        export.export_model(light(), tmp_path, to="openvino")
    with pytest.raises(MissingExtraError, match=r"pip install 'depthlight\[openvino\]'"):
        dl.load(backend="openvino")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'depthlight\[export\]'"):
        export.export_model(light(), tmp_path, to="onnx")
    assert list(tmp_path.iterdir()) == []


def test_untrained_networks_are_the_same_each_time(monkeypatch):
    monkeypatch.setattr("depthlight.export.untrained.PAIRS", 2)
    first, second = (untrained("light").state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    means = [value for key, value in first.items() if key.endswith("running_mean")]
    assert means and all(float(mean.abs().max()) > 0 for mean in means)


def test_the_gate_needs_no_sample_pair(monkeypatch):
    monkeypatch.setattr("depthlight.export.pairs.have", lambda module: False)
    what, (left, right) = gate_pair()
    assert "engine" in what and left.shape == right.shape == (480, 736, 3)
    assert left.std() > 10  # there is something to see


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({}, "does not say what it is"),
        ({"family": "resnet"}, "its family is 'resnet'"),
        ({"max_disp": "640000"}, "its max_disp"),
        ({"max_disp": "many"}, "its max_disp"),
        ({"precision": "fp8"}, "its precision"),
        ({"name": "a\nb"}, "its name"),
        ({"weights_sha256": "x"}, "its weights_sha256"),
    ],
)
def test_what_a_graph_says_is_checked(made, tmp_path, stated, says):
    model = onnx.load(str(made["onnx"].file))
    facts = {item.key: item.value for item in model.metadata_props}
    model.ClearField("metadata_props")
    changed = facts | {f"depthlight.{key}": value for key, value in stated.items()}
    for key, value in (changed if stated else {}).items():
        model.metadata_props.add(key=key, value=value)
    path = tmp_path / "lies.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError) as caught:
        dl.load(path)
    assert says in str(caught.value) and "\n" not in str(caught.value)
