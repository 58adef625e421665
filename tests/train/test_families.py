"""Every network family trains: a step through the real stepper, finite, after which all its parts have moved."""

import math

import pytest
import torch

from depthlight.core.registry import NETWORK_FAMILIES
from depthlight.data.loader import Batch
from depthlight.nets.losses import LossConfig
from depthlight.nets.stereo import build
from depthlight.train import machine
from depthlight.train.ema import Ema
from depthlight.train.stage1 import Supervised
from depthlight.train.stage2 import SelfDistillation
from depthlight.train.step import Stepper

SMALL = {
    "light": {"pyramid": [8, 8, 8, 8, 8], "match": 8, "groups": 2, "volume": [4, 4, 4, 4], "upsample": 8},
    "light-s": {"pyramid": [8, 8, 8, 8, 8], "match": 8, "groups": 4, "volume": [4, 4, 4, 4], "upsample": 8},
    "las1": {"blocks": [1, 1, 1]},
    **{family: {"blocks": [1, 1, 1]} for family in ("las2-s", "las2-m", "las2-l")},
    "las2-h": {"blocks": [1, 1, 1], "iterations": 2},
}


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (4, 2, 3, 64, 96), generator=generator, dtype=torch.uint8)
    disp = 1 + 20 * torch.rand((2, 64, 96), generator=generator)
    return Batch(views[0], views[1], disp, disp > 2, ("a", "b"), (0, 1), 2, views[2], views[3])


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("family", NETWORK_FAMILIES)
def test_it_trains(family: str, stage: int) -> None:
    torch.manual_seed(0)
    net = build(family, SMALL[family]).train()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}

    def plain() -> object:
        return machine.autocast(torch.device("cpu"), "fp32")

    method = Supervised(LossConfig(), plain) if stage == 1 else SelfDistillation(net, LossConfig(), plain)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.0)
    stepper = Stepper(net, optimizer, Ema(net, 0.9), method)
    stepper.run(make_batch(), 1e-3)  # blocks that begin as identities let their insides learn from the second step on
    result = stepper.run(make_batch(), 1e-3)
    assert not result.problem and math.isfinite(result.loss) and result.loss > 0 and result.grad_norm > 0
    still = [name for name, p in net.named_parameters() if torch.equal(p.detach(), before[name])]
    assert not still, f"{len(still)} of {len(before)} parameters did not move: {still[:5]}"
