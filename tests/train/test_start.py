"""What a run starts from: whose family wins, and LAS2-H from weights of LAS2-M."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from depthlight.core.errors import CheckpointError, ConfigError, DepthlightWarning
from depthlight.nets.checkpoints import save_official, save_safetensors
from depthlight.nets.stereo import build
from depthlight.nets.stereo.base import StereoNet
from depthlight.train.config import TrainConfig
from depthlight.train.start import make_start

SMALL = {"blocks": [1, 1, 1], "max_disp": 64}


def weights(folder: Path, family: str, **said: str) -> tuple[str, StereoNet]:
    """A file of a small network, and the network."""
    torch.manual_seed(1)
    net, path = build(family, SMALL), folder / f"{family}.safetensors"
    save_safetensors(path, net, {"family": family, "network": json.dumps(SMALL), **said})
    return str(path), net


def test_the_family_of_the_weights_wins_over_the_default(tmp_path: Path) -> None:
    path, net = weights(tmp_path, "las2-s")
    for config in (TrainConfig(start=path), TrainConfig(start=path, network="las2-s")):
        start = make_start(config)
        assert (start.family, start.network) == ("las2-s", SMALL)
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in start.net.state_dict().items())


@pytest.mark.parametrize(("network", "family"), [("las2-m", "las2-s"), ("las2-m", "las2-h"), ("las2-h", "las2-s")])
def test_another_family_than_the_weights_is_refused(network: str, family: str, tmp_path: Path) -> None:
    path, _ = weights(tmp_path, family)
    with pytest.raises(ConfigError, match=rf"network is {network}, and .* is {family}.*--set network={family}"):
        make_start(TrainConfig(start=path, network=network))


def test_h_starts_from_m(tmp_path: Path) -> None:
    path, m = weights(tmp_path, "las2-m", lineage='[{"recipe": "las2-paper"}]')
    config = TrainConfig(start=path, network="las2-h", network_config={"iterations": 2}, seed=7)
    with pytest.warns(DepthlightWarning, match=r"random ones in cam, cnet, sam, spx_2_gru, spx_gru, update_block$"):
        start = make_start(config)
    assert (start.family, start.network) == ("las2-h", SMALL | {"iterations": 2})
    assert start.lineage == ({"recipe": "las2-paper"},) and len(start.sha256) == 64
    torch.manual_seed(7)
    fresh, own, given = build("las2-h", start.network).state_dict(), start.net.state_dict(), m.state_dict()
    assert all(torch.equal(value, given.get(key, fresh[key])) for key, value in own.items())
    assert {key.partition(".")[0] for key in own.keys() & given.keys()} == {"fnet", "cost_agg", "stem_2"}
    save_safetensors(path, m, {"family": "las2-m"})  # of another size than it says
    with pytest.raises(CheckpointError, match="does not fit las2-m"):
        make_start(config)


def test_h_starts_from_a_torch_file_of_m(tmp_path: Path) -> None:
    path = tmp_path / "LAS2_M.pth"
    m = build("las2-m")
    save_official(path, m)
    with pytest.warns(DepthlightWarning, match="from weights of las2-m"):
        start = make_start(TrainConfig(start=str(path), network="las2-h"))
    assert start.family == "las2-h"
    assert torch.equal(start.net.state_dict()["stem_2.0.block.0.weight"], m.state_dict()["stem_2.0.block.0.weight"])


def test_only_h_may_start_from_m(tmp_path: Path) -> None:
    path, _ = weights(tmp_path, "las2-m")
    with pytest.raises(ConfigError, match="or las2-h with weights of las2-m"):
        make_start(TrainConfig(start=path, network="las2-l"))
