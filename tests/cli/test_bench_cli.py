"""``depthlight bench``."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from depthlight.backends import GraphFacts
from depthlight.cli import bench as verb
from depthlight.eval.bench import Row
from depthlight.io.disparity_files import write_disparity

QUICK = ["--sizes", "64x256", "--threads", "1", "--rounds", "1", "--runs", "1"]


def test_bench_writes_figures_and_a_picture(call, tmp_path, save, make_pair):
    left, right = make_pair(6, 48, 80)
    save(tmp_path / "scenes/a/left.png", left)
    save(tmp_path / "scenes/a/right.png", right)
    write_disparity(tmp_path / "scenes/a/disp.png", np.full((48, 80), 6, np.float32), sidecar=False)
    args = ["--models", "sgbm", *QUICK, "--data", tmp_path / "scenes", "-o", tmp_path / "out", "--json"]
    status, text, _ = call("bench", *args)
    facts = json.loads(text)
    assert status == 0
    assert json.loads((tmp_path / "out/bench.json").read_text()) == facts
    assert [row["model"] for row in facts["rows"]] == ["sgbm", "sgbm:3WAY"]
    assert [row["accuracy"]["scenes"] for row in facts["rows"]] == [1, 1]
    assert facts["rows"][1]["of_sgbm_3way"] == 1
    assert cv2.imread(str(tmp_path / "out/pareto.png")) is not None


def test_the_grid_leaves_out_what_cannot_be():
    rows = verb._rows(
        ["light", "las1.untrained", "sgbm:HH"], ["onnxruntime", "openvino"], ["fp32", "bf16"], [(64, 256)], [1, 2]
    )
    ways = {(row.model, row.backend, row.precision) for row in rows}
    assert len(rows) == 2 * len(ways) == 14
    assert ("sgbm:HH", "opencv", "fp32") in ways
    assert not any(row.backend == "onnxruntime" and row.precision == "bf16" for row in rows)
    assert [verb._needs_graph(row) for row in rows[::6]] == [False, True, False]


def test_only_what_has_no_graph_gets_one():
    rows = [Row(model=model) for model in ("light", "light.synth-v1", "las2-s", "x.pth", "x.onnx")]
    assert [verb._needs_graph(row) for row in rows] == [False, False, True, True, False]


def test_files_run_where_they_can(monkeypatch):
    precisions = {"a.onnx": "fp32", "a.xml": "fp32", "b.onnx": "int8"}
    facts = lambda path: GraphFacts(name="x", family="light", max_disp=192, precision=precisions[path.name])  # noqa: E731
    monkeypatch.setattr(verb, "read_graph_facts", facts)
    ways = {name: verb._ways(name, ["onnxruntime", "openvino", "torch"], ["fp32", "bf16"]) for name in precisions}
    assert ways == {
        "a.onnx": [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")],
        "a.xml": [("openvino", "fp32"), ("openvino", "bf16")],
        "b.onnx": [("onnxruntime", "int8"), ("openvino", "int8")],
    }


def test_a_row_that_fails_is_told_with_the_others_figures(call, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    status, _, err = call("bench", "-m", str(tmp_path / "bad.onnx"), *QUICK)
    assert status == 2 and "bad.onnx" in err
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    args = ["-m", f"sgbm,{tmp_path / 'bad.safetensors'}", "--backends", "torch", *QUICK, "-o", tmp_path / "out"]
    status, _, err = call("bench", *args)
    facts = json.loads((tmp_path / "out/bench.json").read_text())
    assert status == 1 and "1 of 2 rows could not be measured" in err
    assert [row["model"] for row in facts["rows"]] == ["sgbm", "sgbm:3WAY"]
    (reason,) = facts["failed"].values()
    assert "bad.safetensors" in reason


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--models", "lihgt"], "light"),
        (["--models", "las9.untrained"], "network family"),
        (["--models", "sgbm:FAST"], "sgbm:HH"),
        (["--sizes", "384"], "HEIGHTxWIDTH"),
        (["--sizes", "64x96"], "32x256"),
        (["--threads", "0"], "at least 1"),
        (["--backends", "tensorrt"], "onnxruntime"),
        (["--models", "light", "--backends", "onnxruntime", "--precisions", "bf16"], "nothing to measure"),
        (["--list", "names.txt"], "--data"),
    ],
)
def test_wrong_input_is_one_line(call, args, says):
    status, text, err = call("bench", *args)
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.slow
def test_a_network_without_a_graph_gets_one(call):
    models = "light-s.untrained,peak"
    status, text, _ = call("bench", "-m", models, "--backends", "openvino,torch", *QUICK, "--json")
    rows = json.loads(text)["rows"]
    assert status == 0
    assert {row["backend"] for row in rows if row["model"] == "light-s.untrained"} == {"openvino", "torch"}
    assert all(row["of_floor"] > 0 for row in rows if row["model"] != "sgbm:3WAY")
