"""``depthlight bench``."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from depthlight.cli import bench as verb
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
