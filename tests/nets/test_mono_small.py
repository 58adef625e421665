"""Our own single-image network: contract, size, frozen parts, ImageNet start."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from depthlight.core.errors import CheckpointError, ConfigError, InputError, MissingExtraError, UnknownNameError
from depthlight.core.tolerances import tolerance
from depthlight.nets.mono import build, imagenet
from depthlight.nets.mono.small import MonoSmall, coordinates

TINY = {"widths": [8, 8, 8, 8], "blocks": [1, 0, 1, 1], "context": 1, "heads": 2, "last": 4}


@pytest.fixture(scope="module")
def net() -> MonoSmall:
    torch.manual_seed(0)
    return build("mono", TINY).eval()


def test_encode_and_decode_in_a_row_are_the_network(net: MonoSmall) -> None:
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        tokens = net.encode(image)
        assert [tuple(t.shape) for t in tokens] == [(2, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
        raw = net.decode(tokens, (64, 96))
        assert torch.equal(raw, net(image))
    assert raw.shape == (2, 1, 64, 96) and raw.dtype == torch.float32
    assert float(raw.min()) >= 0


def test_every_token_map_and_head_parameter_reaches_the_answer(net: MonoSmall) -> None:
    tokens = [t.detach().requires_grad_() for t in net.encode(torch.rand(1, 3, 64, 64))]
    head = net.head_parameters()
    found = torch.autograd.grad(net.decode(tokens, (64, 64)).square().sum(), [*tokens, *head])
    assert all(float(g.abs().max()) > 0 for g in found)
    encoder = {id(p) for p in net.encoder.parameters()}
    assert not encoder & {id(p) for p in head}


def test_images_of_a_batch_do_not_see_each_other(net: MonoSmall) -> None:
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(images)[:1], net(images[:1]), atol=tolerance("mono.batch"), rtol=0)


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 1, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_other_shapes_are_refused(net: MonoSmall, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="image"):
        net(torch.zeros(shape))


def test_the_default_network_fits_its_share_of_25_mb() -> None:
    with torch.device("meta"):
        net = build("mono")
    assert sum(t.numel() for t in net.state_dict().values()) * 2 < 14e6


def test_other_configurations_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="family"):
        build("light")
    with pytest.raises(ConfigError, match="multiple"):
        build("mono", {"heads": 3})
    with pytest.raises(ConfigError, match="backbone"):
        build("mono", {"backbone": "resnet18"})


def test_coordinates_reach_from_corner_to_corner() -> None:
    grid = coordinates(torch.zeros(2, 5, 3, 4))
    assert grid[1, :, 0, 0].tolist() == [-1, -1] and grid[0, :, 2, 3].tolist() == [1, 1]
    assert grid[0, :, 1, 0].tolist() == [0, -1]


def test_what_is_frozen_keeps_weights_and_statistics() -> None:
    net = build("mono", TINY)
    net.freeze_early(2)
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.rand(2, 3, 64, 64)).sum().backward()
    after = net.state_dict()
    early = [
        k for k in before if k.startswith(("encoder.conv_stem", "encoder.bn1", "encoder.blocks.0", "encoder.blocks.1"))
    ]
    assert early and all(torch.equal(before[k], after[k]) for k in early)
    assert net.encoder.conv_stem.weight.grad is None
    later = "encoder.blocks.2.0.bn1.running_mean"
    assert not torch.equal(before[later], after[later])


def test_the_imagenet_encoder_knows_edges_and_is_the_file_named() -> None:
    pytest.importorskip(imagenet.MODULE)
    net = build("mono", TINY)
    imagenet.load_imagenet(net.encoder)
    stored = torch.load(imagenet.weights_file(), map_location="cpu", weights_only=True)
    first = next(iter(stored.values()))
    assert torch.equal(net.encoder.conv_stem.weight, first)
    assert "Apache-2.0" in imagenet.ORIGIN.values()


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"depthlight\[train\]"):
        imagenet.weights_file()


def test_another_file_of_that_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(imagenet.MODULE)
    monkeypatch.setattr(imagenet, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="force-reinstall"):
        imagenet.weights_file()
