"""Stage 1: how far a batch is searched."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from depthlight.core.errors import ConfigError
from depthlight.data.loader import Batch
from depthlight.nets.losses import LossConfig
from depthlight.nets.stereo import build
from depthlight.nets.stereo.base import StereoNet
from depthlight.train import machine
from depthlight.train.config import TrainConfig
from depthlight.train.stage1 import Supervised, fitted_range

SMALL = {"pyramid": [8, 8, 8, 8, 8], "match": 8, "groups": 2, "volume": [4, 4, 4, 4], "upsample": 8}


def small_net() -> StereoNet:
    torch.manual_seed(0)
    return build("light", SMALL).eval()


def make_batch(farthest: float, position: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(position)
    left, right = torch.randint(0, 256, (2, 1, 3, 64, 96), generator=generator, dtype=torch.uint8)
    disp = torch.rand((1, 64, 96), generator=generator) * farthest
    disp[0, 0, 0] = farthest
    return Batch(left, right, disp, disp >= 0, ("one",), (position,), 1)


def searched(fitted: float, batch: Batch, seed: int = 0, net: StereoNet | None = None) -> int:
    """The range a batch is searched over."""
    net = net or small_net()
    found = []
    real = net.forward_train

    def spy(left: Tensor, right: Tensor, max_disp: int | None = None) -> object:
        found.append(max_disp or net.max_disp)
        return real(left, right, max_disp)

    net.forward_train = spy  # type: ignore[method-assign, assignment]
    stage = Supervised(LossConfig(), lambda: machine.autocast(torch.device("cpu"), "fp32"), fitted=fitted, seed=seed)
    stage(net, batch)
    return found[0]


@pytest.mark.parametrize(("farthest", "wanted"), [(0.0, 32), (16.0, 32), (16.1, 64), (100.0, 128), (190.0, 192)])
def test_the_range_holds_the_truth_and_a_little_more(farthest, wanted):
    batch = make_batch(farthest)
    assert fitted_range(small_net(), batch.disp_BHW, batch.mask_BHW) == wanted
    assert searched(1.0, batch) == wanted and searched(0.0, batch) == 192


def test_pixels_without_truth_do_not_count():
    batch = make_batch(20.0)
    batch.disp_BHW[0, 5, 5:8] = torch.tensor([150.0, float("nan"), float("inf")])
    mask = batch.mask_BHW.clone()
    mask[0, 5, 5:8] = False
    assert fitted_range(small_net(), batch.disp_BHW, mask) == 64


def test_the_share_is_drawn_anew_at_every_position_and_the_same_again():
    ranges = [searched(0.75, make_batch(20.0, position)) for position in range(40)]
    assert set(ranges) == {64, 192} and 24 <= ranges.count(64) <= 36
    assert ranges == [searched(0.75, make_batch(20.0, position)) for position in range(40)]
    assert ranges != [searched(0.75, make_batch(20.0, position), seed=1) for position in range(40)]


def test_networks_of_one_range_are_searched_whole():
    torch.manual_seed(0)
    net = build("las2-s", {"blocks": [1, 1, 1]}).eval()
    assert searched(1.0, make_batch(20.0), net=net) == net.max_disp


def test_a_share_beyond_one_is_refused(tiny: Callable[..., TrainConfig]):
    with pytest.raises(ConfigError, match=r"fitted is 1\.5"):
        replace(tiny(), fitted=1.5)
