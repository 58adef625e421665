"""The fast operations against their plain twins, their gradients, and what their values mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from depthlight.core.errors import ConfigError  # noqa: E402
from depthlight.core.tolerances import tolerance  # noqa: E402
from depthlight.nets import ops  # noqa: E402

SIZES = st.tuples(
    st.integers(1, 2), st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 40), st.integers(1, 12)
)


def _maps(batch: int, channels: int, height: int, width: int, dtype=torch.float64):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(batch + 7 * width)
    return [torch.randn(batch, channels, height, width, dtype=dtype, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 1, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("size", [(1, 8, 20, 30, 90), (1, 4, 6, 5, 7), (2, 8, 20, 30, 90), (1, 8, 90, 30, 20)])
def test_conv3d_is_torchs(size: tuple[int, ...], layout: torch.memory_format, stride: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, generator=generator).contiguous(memory_format=layout)
    weight = torch.randn((5, size[1], 3, 1, 3), generator=generator)
    bias = torch.randn(5, generator=generator)
    found = []
    for convolve in (ops.conv3d, torch.nn.functional.conv3d):
        leaves = [value.clone().requires_grad_() for value in (x, weight, bias)]
        out = convolve(*leaves, stride, (1, 0, 1))
        (out * torch.arange(out.shape[-1])).mean().backward()
        found.append((out, *(leaf.grad for leaf in leaves)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_one_small_volume_does_not_take_torchs_slow_path() -> None:
    from torch.profiler import ProfilerActivity, profile

    x, conv = torch.randn(1, 8, 20, 30, 90), ops.Conv3d(8, 8, 3, 1, 1)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        conv(x)
    names = {event.key for event in profiled.key_averages()}
    assert "aten::mkldnn_convolution" in names and not any("slow_conv3d" in name for name in names)


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_conv3d_gradients_in_bfloat16_read_no_memory_that_nobody_wrote(depth: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2, 16, depth, 6, 12), generator=generator)
    weight = torch.randn((16, 16, 3, 3, 3), generator=generator)
    grads = []
    for kind in (torch.float32, torch.bfloat16):
        leaf = weight.detach().clone().to(kind).requires_grad_()
        out = ops.conv3d(x.to(kind), leaf, None, (1, 1, 1), (1, 1, 1))
        spoilt = [torch.full((1 << size,), torch.nan) for size in range(4, 19) for _ in range(20)]
        del spoilt  # what is allocated next is full of NaN
        out.sum().backward()
        assert leaf.grad is not None
        grads.append(leaf.grad.float())
    assert float((grads[1] - grads[0]).abs().max() / grads[0].abs().max()) < 0.02


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, exporting=st.booleans())
def test_correlation_equals_reference(sizes: tuple[int, int, int, int, int], exporting: bool) -> None:
    batch, groups, height, width, bins = sizes
    left, right = _maps(batch, 4 * groups, height, width)
    expected = ops.correlation_volume_reference(left, right, bins, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "is_exporting", lambda: exporting)
        found = ops.correlation_volume(left, right, bins, groups)
    assert found.shape == (batch, groups, bins, height, width)
    assert float((found - expected).abs().max()) <= tolerance("ops.reference.float64")


def test_correlation_finds_the_shift() -> None:
    right = _maps(1, 16, 4, 40)[0]
    left = torch.roll(right, 5, 3)  # what is at x in the right view is at x + 5 in the left
    volume = ops.correlation_volume(left, right, 12)[0, 0]
    assert bool((volume.argmax(0)[:, 12:] == 5).all())
    assert bool((volume[7, :, :7] == 0).all())


@pytest.mark.parametrize("width", [3, 9])
@pytest.mark.parametrize("exporting", [False, True])
def test_correlation_gradient(width: int, exporting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "is_exporting", lambda: exporting)
    left, right = (x.requires_grad_() for x in _maps(1, 4, 2, width))
    assert torch.autograd.gradcheck(lambda a, b: ops.correlation_volume(a, b, 5, 2), (left, right))


def test_correlation_stays_float32_under_autocast() -> None:
    left, right = _maps(1, 8, 3, 20, torch.float32)
    expected = ops.correlation_volume_reference(left, right, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ops.correlation_volume(left, right, 6)
        half = ops.correlation_volume(left.bfloat16(), right.bfloat16(), 6)
    assert found.dtype == half.dtype == torch.float32
    assert float((found - expected).abs().max()) <= tolerance("ops.reference.float32")


def test_correlation_refuses_uneven_groups() -> None:
    left, right = _maps(1, 6, 2, 8)
    with pytest.raises(ConfigError, match="6 channels do not split into 4 groups"):
        ops.correlation_volume(left, right, 4, 4)


@pytest.mark.filterwarnings("ignore")  # of the exporter that torch is to drop
def test_operations_export_with_dynamic_sizes(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")

    class Operations(torch.nn.Module):
        def forward(self, left, right, full, quarter):  # type: ignore[no-untyped-def]
            volume = ops.correlation_volume(left, right, 12, 2)
            value, mass = ops.local_soft_argmax(volume.mean(1))
            return (
                volume,
                mass,
                ops.convex_upsample_full(value, full),
                ops.convex_upsample_quarter(ops.soft_argmin(volume.mean(1)), quarter),
            )

    def inputs(height: int, width: int):  # type: ignore[no-untyped-def]
        left, right = _maps(1, 8, height, width, torch.float32)
        return left, right, torch.randn(1, 9, 4 * height, 4 * width), torch.randn(1, 144, height, width)

    names = ["left", "right", "full", "quarter"]
    file = tmp_path / "ops.onnx"
    torch.onnx.export(
        Operations(),
        inputs(6, 10),
        file,
        dynamo=False,
        opset_version=17,
        input_names=names,
        dynamic_axes={name: {2: f"{name}_h", 3: f"{name}_w"} for name in names},
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for height, width in ((6, 10), (5, 31), (9, 12)):
        tensors = inputs(height, width)
        expected = Operations()(*tensors)
        found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
        for ours, theirs in zip(expected, found, strict=True):
            assert theirs.shape == tuple(ours.shape)
            assert np.abs(ours.numpy() - theirs).max() <= tolerance("ops.reference.float32")


@pytest.mark.parametrize("border", ["zeros", "replicate"])
@pytest.mark.parametrize("kind", ["full", "quarter"])
@pytest.mark.parametrize(("height", "width", "factor"), [(5, 7, 4), (1, 1, 4), (3, 2, 2)])
def test_convex_upsampling_equals_reference(kind: str, border: str, height: int, width: int, factor: int) -> None:
    fast, plain = getattr(ops, f"convex_upsample_{kind}"), getattr(ops, f"convex_upsample_{kind}_reference")
    disp = torch.rand(2, 1, height, width, dtype=torch.float64)
    shape = (2, 9, factor * height, factor * width) if kind == "full" else (2, 9 * factor**2, height, width)
    logits = torch.randn(shape, dtype=torch.float64)
    found = fast(disp, logits, factor, border)
    assert found.shape == (2, 1, factor * height, factor * width)
    assert float((found - plain(disp, logits, factor, border)).abs().max()) <= tolerance("ops.reference.float64")
    if height * width > 4:
        inputs = (disp[:1, :, :2, :2].clone().requires_grad_(), logits.new_zeros(1).requires_grad_())
        small = torch.randn((1, 9, 2 * factor, 2 * factor) if kind == "full" else (1, 9 * factor**2, 2, 2)).double()
        assert torch.autograd.gradcheck(lambda d, s: fast(d, small + s * small, factor, border), inputs)


@pytest.mark.parametrize("kind", ["full", "quarter"])
def test_convex_upsampling_of_a_constant_scales_it(kind: str) -> None:
    logits = torch.randn((1, 9, 16, 20) if kind == "full" else (1, 144, 4, 5))
    full = getattr(ops, f"convex_upsample_{kind}")(torch.full((1, 1, 4, 5), 3.0), logits, 4, "replicate")
    assert torch.allclose(full, torch.full((1, 1, 16, 20), 12.0), atol=1e-5)


def test_convex_upsampling_layouts_agree() -> None:
    """Nine weights per cell, spread to full size in row-major cells, mean the same in both layouts."""
    disp, quarter = torch.rand(1, 1, 3, 4), torch.randn(1, 9, 16, 3, 4)
    full = torch.nn.functional.pixel_shuffle(quarter.reshape(1, 144, 3, 4), 4)
    ours = ops.convex_upsample_quarter(disp, quarter.reshape(1, 144, 3, 4), border="zeros")
    assert torch.allclose(ours, ops.convex_upsample_full(disp, full), atol=1e-5)


def test_soft_argmin_and_local_soft_argmax() -> None:
    logits = torch.full((1, 12, 1, 3), -30.0)
    logits[0, 4, 0, 0] = 0.0  # one peak
    logits[0, [2, 9], 0, 1] = torch.tensor([1.0, 0.0])  # two peaks, the nearer one higher
    logits[0, [6, 7], 0, 2] = 0.0  # between two bins
    value, mass = ops.local_soft_argmax(logits)
    share = float(np.e / (np.e + 1))
    assert value.flatten().tolist() == pytest.approx([4.0, 2.0, 6.5], abs=1e-4)
    assert mass.flatten().tolist() == pytest.approx([1.0, share, 1.0], abs=1e-4)
    assert ops.soft_argmin(logits).flatten().tolist() == pytest.approx(
        [4.0, 2 * share + 9 * (1 - share), 6.5], abs=1e-4
    )
    uniform, spread = ops.local_soft_argmax(torch.zeros(1, 12, 1, 1, dtype=torch.bfloat16))
    assert uniform.dtype == torch.float32 and float(spread) == pytest.approx(3 / 12)


def test_soft_argmin_gradients() -> None:
    logits = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.soft_argmin, (logits,))
    assert torch.autograd.gradcheck(ops.local_soft_argmax, (logits,))
