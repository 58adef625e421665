"""What the Lite Any Stereo networks promise beyond their values: shapes, gradients, invariances, refusals."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from depthlight.core.errors import ConfigError, InputError, UnknownNameError  # noqa: E402
from depthlight.core.tolerances import tolerance  # noqa: E402
from depthlight.nets.stereo import build  # noqa: E402
from depthlight.nets.stereo.las2h import sample_window  # noqa: E402

TINY: dict[str, dict[str, Any]] = {
    "las1": {"blocks": [1, 2, 1], "max_disp": 64},
    "las2-s": {"blocks": [1, 1, 1], "mlp_ratio": 1, "max_disp": 64},
    "las2-m": {"blocks": [1, 1, 2], "mlp_ratio": 2, "max_disp": 32},
    "las2-l": {"blocks": [2, 1, 1], "mlp_ratio": 3, "max_disp": 32},
    "las2-h": {"blocks": [1, 1, 1], "mlp_ratio": 1, "max_disp": 64, "iterations": 2},
}


@pytest.fixture(scope="module", params=TINY)
def net(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return build(request.param, TINY[request.param])


def _pair(batch: int = 1, height: int = 64, width: int = 96) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    views = torch.rand(2, batch, 3, height, width, generator=generator) * 255
    return views[0], views[1]


def test_las_inference_shapes_and_ranges(net: Any) -> None:
    with torch.no_grad():
        out = net.eval()(*_pair(2))
    assert out.disparity_B1HW.shape == (2, 1, 64, 96) and out.disparity_B1HW.dtype == torch.float32
    assert out.confidence_B1hw.shape == (2, 1, 16, 24) and out.confidence_B1hw.dtype == torch.float32
    assert bool(torch.isfinite(out.disparity_B1HW).all())
    assert float(out.confidence_B1hw.min()) > 0 and float(out.confidence_B1hw.max()) <= 1


def test_las_training_outputs_and_gradients(net: Any) -> None:
    net.train().zero_grad()
    out = net.forward_train(*_pair(2))
    assert len(out.disparities) == (3 if net.family == "las2-h" else 2)
    assert all(disparity.shape == (2, 1, 64, 96) for disparity in out.disparities)
    assert out.logits_BDhw.shape == (2, net.max_disp // 4, 16, 24)
    assert [tuple(level.shape[2:]) for level in out.features] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert {level.shape[0] for level in out.features} == {2}
    sum(disparity.mean() for disparity in out.disparities).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
    assert without == []


def test_las_training_answer_is_the_inference_answer(net: Any) -> None:
    net.eval()
    with torch.no_grad():
        answer = net(*_pair()).disparity_B1HW
        assert torch.equal(net.forward_train(*_pair()).disparities[0], answer)


def test_las_batch_does_not_matter(net: Any) -> None:
    left, right = _pair(3)
    net.eval()
    with torch.no_grad():
        together = net(left, right)
        for i in range(3):
            alone = net(left[i : i + 1], right[i : i + 1])
            assert float((alone.disparity_B1HW - together.disparity_B1HW[i]).abs().max()) <= tolerance("batch.max")
            assert float((alone.confidence_B1hw - together.confidence_B1hw[i]).abs().max()) <= tolerance("batch.max")


def test_las_autocast_keeps_the_softmax_in_float32(net: Any) -> None:
    net.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(*_pair())
    assert out.disparity_B1HW.dtype == out.confidence_B1hw.dtype == torch.float32
    assert bool(torch.isfinite(out.disparity_B1HW).all())


def test_las_plain_reference_gives_the_same(net: Any) -> None:
    net.eval()
    with torch.no_grad():
        fast = net(*_pair()).disparity_B1HW
        with _reference().plain():
            plain = net(*_pair()).disparity_B1HW
    assert not torch.equal(fast, torch.zeros_like(fast))
    assert float((fast - plain).abs().max()) <= tolerance("ops.reference.float32")


def _reference() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "reference.py"
    spec = importlib.util.spec_from_file_location("bench_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_las_refuses_what_it_cannot_take(net: Any) -> None:
    left, right = _pair()
    with pytest.raises(InputError, match=f"{net.family} was built for a range of {net.max_disp} px, not 128"):
        net(left, right, max_disp=128)
    with pytest.raises(InputError, match="multiples of 32"):
        net(left[..., :90], right[..., :90])
    with pytest.raises(InputError, match=r"two .* tensors of one shape"):
        net.forward_train(left, right[..., :64])


@pytest.mark.parametrize(
    ("family", "config", "error", "match"),
    [
        ("las3", {}, UnknownNameError, "unknown network family 'las3'"),
        ("las2-s", {"block": [1, 1, 1]}, UnknownNameError, "did you mean 'blocks'"),
        ("las2-s", {"blocks": [0, 1, 1]}, ConfigError, "at least 1"),
        ("las1", {"max_disp": 100}, ConfigError, "multiple of 32"),
        ("las2-m", {"mlp_ratio": 0}, ConfigError, "mlp_ratio is 0"),
        ("las2-h", {"iterations": 0}, ConfigError, "iterations is 0"),
    ],
)
def test_build_refuses(family: str, config: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        build(family, config)


def test_sample_window_equals_grid_sample() -> None:
    """Against torch's own sampler: linear, corners aligned, zeros outside; also far outside."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 3, 10, 4, 5, dtype=torch.float64, generator=generator)
    centre = torch.rand(2, 1, 4, 5, dtype=torch.float64, generator=generator) * 30 - 10
    columns = volume.permute(0, 3, 4, 1, 2).reshape(-1, 3, 1, 10)  # one row per pixel
    x = centre.reshape(-1, 1) + torch.arange(-4, 5)
    grid = torch.stack([2 * x / 9 - 1, torch.zeros_like(x)], -1)[:, None]
    expected = torch.nn.functional.grid_sample(columns, grid, align_corners=True, padding_mode="zeros")
    expected = expected.reshape(2, 4, 5, 27).permute(0, 3, 1, 2)
    assert float((sample_window(volume, centre) - expected).abs().max()) <= tolerance("ops.reference.float64")
