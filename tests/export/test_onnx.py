"""The exported graph computes what the network computes, at any size, on real texture (X11)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import depthlight as dl
from depthlight.backends import OnnxBackend, TorchBackend
from depthlight.core import registry
from depthlight.core.errors import CheckFailedError, CheckpointError
from depthlight.core.tolerances import tolerance
from depthlight.export.onnx import OPSET, export_onnx
from depthlight.export.parity import SIZES, ParityRow, measure_parity, require_parity
from depthlight.nets.stereo.light import Light, LightConfig

TINY = LightConfig(pyramid=(8, 8, 12, 16, 16), match=8, groups=2, volume=(4, 4, 8, 8), upsample=8, max_disp=64)
ROW = ParityRow(
    backend="onnxruntime",
    precision="fp32",
    height=32,
    width=64,
    disparity_max=5e-4,
    disparity_p999=1e-4,
    disparity_p99=0.0,
    disparity_mean=0.0,
    confidence_p999=0.0,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    net = Light(TINY).eval()
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    export_onnx(net, path)
    return net, path


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 32), (1, 32, 160), (3, 96, 64), (2, 128, 256)])
def test_one_graph_for_all_sizes(exported, batch, height, width):
    net, path = exported
    left, right = np.random.default_rng(0).uniform(0, 255, (2, batch, 3, height, width)).astype(np.float32)
    wanted = TorchBackend(net, device="cpu").run(left, right, 64)
    found = OnnxBackend(path, max_disp=64, threads=1).run(left, right, 64)
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance("ort.max"))


def test_the_file_tells_nothing_of_the_machine(exported):
    data = exported[1].read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in data
    assert str(Path(dl.__file__).parent).encode() not in data


def test_only_standard_operators_at_the_stated_opset(exported):
    model = onnx.load(str(exported[1]))
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert {item.version for item in model.opset_import if item.domain in ("", "ai.onnx")} == {OPSET}


@pytest.mark.parametrize("name", [n for n in registry.bundled() if "onnx" in registry.bundled()[n].files])
def test_bundled_graphs_equal_their_safetensors(name, motorcycle, record_property):
    net = dl.load(name, backend="torch", threads=1).backend._net
    rows = measure_parity(net, registry.bundled()[name].path("onnx"), motorcycle[:2], threads=1)
    assert [(row.height, row.width, row.pairs) for row in rows] == [*((*size, 1) for size in SIZES), (*SIZES[0], 2)]
    require_parity(rows, what=name)
    record_property("x11_px", max(row.disparity_max for row in rows))


@pytest.mark.parametrize(
    "bad",
    [
        {"disparity_max": 2e-3},
        {"confidence_p999": 2e-4},
        {"confidence_p999": float("nan")},
        {"disparity_p999": 3e-4},
        {"disparity_max": float("nan")},
        {"backend": "openvino", "disparity_max": 6e-3},
        {"backend": "openvino", "precision": "bf16", "disparity_mean": 0.07},
        {"backend": "openvino", "precision": "bf16", "disparity_p99": 0.5},
    ],
)
def test_a_graph_that_drifts_is_refused(bad):
    require_parity([ROW], what="graph")
    with pytest.raises(CheckFailedError, match="graph differs"):
        require_parity([ROW, replace(ROW, **bad)], what="graph")


def test_each_runtime_has_its_own_limits():
    require_parity([replace(ROW, backend="openvino", disparity_max=4e-3)], what="graph")
    require_parity([replace(ROW, backend="openvino", precision="bf16", disparity_max=30.0)], what="graph")


def test_parity_sees_a_changed_network(exported, make_pair):
    net, path = exported
    left, right = make_pair(9, 480, 736)
    other = Light(TINY).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.aggregate.leave.weight.mul_(1.5)
    assert max(row.disparity_max for row in measure_parity(other, path, (left, right))) > tolerance("ort.max")


def test_a_file_that_is_no_graph_is_one_clear_line(tmp_path):
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(CheckpointError, match=r"noise\.onnx") as caught:
        OnnxBackend(path, max_disp=192)
    assert "\n" not in str(caught.value)
