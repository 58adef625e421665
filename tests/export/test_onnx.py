"""The exported graph computes what the network computes, at any size, on real texture (X11)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import depthlight as dl
from depthlight.backends import OnnxBackend, TorchBackend
from depthlight.core import registry
from depthlight.core.errors import CheckFailedError, CheckpointError
from depthlight.core.tolerances import tolerance
from depthlight.export.onnx import export_onnx
from depthlight.export.parity import SIZES, ParityRow, measure_parity, require_parity
from depthlight.nets.stereo.light import Light, LightConfig

TINY = LightConfig(pyramid=(8, 8, 12, 16, 16), match=8, groups=2, volume=(4, 4, 8, 8), upsample=8, max_disp=64)


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


@pytest.mark.parametrize("name", [n for n in registry.bundled() if "onnx" in registry.bundled()[n].files])
def test_bundled_graphs_equal_their_safetensors(name, motorcycle):
    net = dl.load(name, backend="torch", threads=1).backend._net
    rows = measure_parity(net, registry.bundled()[name].path("onnx"), motorcycle[:2], threads=1)
    assert [(row.height, row.width) for row in rows] == list(SIZES)
    require_parity(rows, what=name)


def test_a_graph_that_drifts_is_refused():
    good = ParityRow(32, 32, 5e-4, 1e-4, 0.0)
    require_parity([good], what="graph")
    for bad in (ParityRow(32, 32, 2e-3, 1e-4, 0.0), ParityRow(32, 32, 5e-4, 3e-4, 0.0)):
        with pytest.raises(CheckFailedError, match="graph differs"):
            require_parity([good, bad], what="graph")
    with pytest.raises(CheckFailedError):
        require_parity([ParityRow(32, 32, float("nan"), 0.0, 0.0)], what="graph")


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
