"""``light``: the lab's answer, run-time range, invariances of its construction, gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from depthlight.core.errors import ConfigError, InputError
from depthlight.core.tolerances import tolerance
from depthlight.nets.stereo import build
from depthlight.nets.stereo.base import check_finite, parameter_count
from depthlight.nets.stereo.light import Light, LightConfig

TINY = LightConfig(
    pyramid=(8, 8, 12, 16, 16), match=8, groups=2, volume=(4, 4, 8, 8), upsample=8, deeper=(0, 0), max_disp=64
)


def tiny(seed: int = 0) -> Light:
    torch.manual_seed(seed)
    return Light(TINY)


def pair(height: int, width: int, batch: int = 1, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, 3, height, width, generator=generator) * 255 for _ in range(2))


def test_size_and_no_instance_norm():
    net = Light()
    assert parameter_count(net) <= 2_500_000
    assert not any("InstanceNorm" in type(module).__name__ for module in net.modules())
    assert check_finite(net) is None


def test_outputs_have_the_promised_shapes_and_ranges():
    net = tiny().eval()
    left, right = pair(64, 96, 2)
    out = net(left, right)
    assert out.disparity_B1HW.shape == (2, 1, 64, 96)
    assert out.confidence_B1hw.shape == (2, 1, 16, 24)
    assert 0 <= out.disparity_B1HW.min() <= out.disparity_B1HW.max() <= 64
    assert 0 <= out.confidence_B1hw.min() <= out.confidence_B1hw.max() <= 1
    train = net.forward_train(left, right)
    assert [d.shape for d in train.disparities] == [(2, 1, 64, 96)] * 2
    assert train.logits_BDhw.shape == (2, 16, 16, 24)
    torch.testing.assert_close(train.disparities[0], out.disparity_B1HW)


@pytest.mark.parametrize("max_disp", [32, 64, 128])
def test_range_is_a_run_time_argument(max_disp):
    net = tiny().eval()
    out = net(*pair(32, 64), max_disp)
    assert out.disparity_B1HW.max() <= max_disp
    assert net.forward_train(*pair(32, 64), max_disp).logits_BDhw.shape[1] == max_disp // 4


def test_gain_of_one_view_does_not_change_the_cost_directly():
    """Features are normalised per group: scaling them in one view leaves the volume as it was."""
    net = tiny().eval()
    feat = torch.rand(1, 8, 4, 4) + 0.1
    torch.testing.assert_close(net._normalise(feat), net._normalise(3 * feat))


def test_far_pixels_do_not_see_each_other():
    """No InstanceNorm: what happens at one end of a wide image leaves the other end alone."""
    net = tiny().eval()
    left, right = pair(32, 2048)
    changed_left, changed_right = left.clone(), right.clone()
    changed_left[..., :64], changed_right[..., :64] = 0, 255
    with torch.no_grad():
        a, b = net(left, right).disparity_B1HW, net(changed_left, changed_right).disparity_B1HW
    torch.testing.assert_close(a[..., -256:], b[..., -256:], rtol=0, atol=1e-4)
    assert not torch.allclose(a[..., :64], b[..., :64])


def test_every_parameter_learns():
    net = tiny().train()
    left, right = pair(64, 96, 2)
    out = net.forward_train(left, right)
    (sum(d.mean() for d in out.disparities) + out.logits_BDhw.square().mean()).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_bf16_autocast_keeps_disparity_in_float32():
    net = tiny().eval()
    left, right = pair(32, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(left, right).disparity_B1HW.dtype == torch.float32
    assert net.double()(left.double(), right.double()).disparity_B1HW.dtype == torch.float64


@pytest.mark.parametrize(
    ("shapes", "max_disp", "says"),
    [
        (((1, 3, 32, 64), (1, 3, 32, 96)), None, "one shape"),
        (((1, 3, 30, 64), (1, 3, 30, 64)), None, "multiples of 32"),
        (((1, 1, 32, 64), (1, 1, 32, 64)), None, r"\(B, 3, H, W\)"),
        (((1, 3, 32, 64), (1, 3, 32, 64)), 100, "multiple of 32"),
        (((1, 3, 32, 64), (1, 3, 32, 64)), -32, "positive"),
    ],
)
def test_bad_input_is_refused(shapes, max_disp, says):
    with pytest.raises(InputError, match=says):
        tiny()(torch.zeros(shapes[0]), torch.zeros(shapes[1]), max_disp)


def test_bad_configurations_are_refused():
    with pytest.raises(ConfigError, match="groups"):
        LightConfig(match=30)
    with pytest.raises(ConfigError, match="multiple of 32"):
        LightConfig(max_disp=100)


def test_bundled_weights_find_a_known_shift(make_pair):
    import depthlight as dl

    left, right = make_pair(20)
    found = dl.load("light", backend="torch", threads=1).predict(left, right, max_disp=64)
    assert np.abs(found.disparity[:, 32:] - 20).mean() < 0.5


def test_prototype_computes_what_the_lab_graph_computed():
    """The lab exported its own network; ours, with the converted weights, must agree with that graph."""
    import depthlight as dl

    folder = Path(__file__).parent / "golden"
    with np.load(folder / "light.prototype.golden.npz") as golden:
        left, right = (golden[view].astype(np.float32) for view in ("left", "right"))
        model = dl.load(folder / "light.prototype.safetensors", backend="torch", threads=1)
        disparity, confidence = model.backend.run(left, right, 192)
        np.testing.assert_allclose(disparity[0], golden["disparity"], atol=tolerance("light.prototype.onnx"))
        np.testing.assert_allclose(confidence[0], golden["confidence"], atol=tolerance("light.prototype.onnx"))


@pytest.mark.parametrize("family", ["light", "light-s"])
def test_the_exit_is_its_layers_in_turn_also_for_gradients(family):
    aggregate = build(family).double().aggregate
    coarse_channels, fine_channels = aggregate.up4.weight.shape[:2]
    inputs = [torch.rand(2, coarse_channels, 3, 4, 5).double(), torch.rand(2, fine_channels, 6, 8, 10).double()]
    inputs = [x.requires_grad_() for x in inputs]
    enlarged, layers = aggregate.up4(inputs[0]), [aggregate.up4, aggregate.leave]
    if family == "light":
        wanted = aggregate.leave(torch.cat([enlarged, inputs[1]], 1))[:, 0]
    else:
        wanted = (aggregate.leave(enlarged) + aggregate.beside(inputs[1]))[:, 0]
        layers.append(aggregate.beside)
    found = aggregate._exit(*inputs)
    weight = torch.rand_like(wanted)
    of = [*inputs, *(parameter for layer in layers for parameter in layer.parameters())]
    grads = [torch.autograd.grad((answer * weight).sum(), of) for answer in (wanted, found)]
    for a, b in zip((wanted, *grads[0]), (found, *grads[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_deeper_blocks_begin_as_identities_and_learn():
    plain = tiny().eval()
    net = Light(replace(TINY, deeper=(2, 1)))
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and missing and all("deeper" in name for name in missing)
    views = tuple(pair(64, 96))
    net.eval()
    assert torch.equal(net(*views).disparity_B1HW, plain(*views).disparity_B1HW)
    blocks = [*net.aggregate.deeper32, *net.aggregate.deeper16]
    assert len(blocks) == 3
    net.train()
    for _ in range(2):  # the norm that begins at 0 lets gradients through to itself first
        net.forward_train(*views).logits_BDhw.square().mean().backward()
        for parameter in net.aggregate.parameters():
            parameter.data -= 0.1 * parameter.grad
    assert all(parameter.grad.abs().max() > 0 for block in blocks for parameter in block.parameters())


@pytest.mark.parametrize(("family", "deeper"), [("light", (0, 0)), ("light", (2, 1)), ("light-s", (0, 0))])
def test_the_copy_for_export_computes_the_same(family, deeper):
    net = build(family, {"max_disp": 64, "deeper": deeper}).double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean)
    left = torch.rand(2, 3, 64, 96, dtype=torch.float64) * 255
    names = list(net.state_dict())
    with torch.no_grad():
        answer, folded = net(left, left.roll(-8, 3)), net.for_export()(left, left.roll(-8, 3))
    assert answer.disparity_B1HW.std() > 0.1
    assert float((answer.disparity_B1HW - folded.disparity_B1HW).abs().max()) <= tolerance("ops.reference.float64")
    assert list(net.state_dict()) == names  # the network itself is as it was
