"""T8: two processes train as one, and neither outlives the other."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from depthlight.core.errors import ConfigError
from depthlight.core.tolerances import tolerance
from depthlight.train import checkpoint
from depthlight.train.config import TrainConfig
from depthlight.train.distributed import Ranks
from depthlight.train.log import METRICS, read_rows
from depthlight.train.loop import CHECKPOINTS, Run, write_config

Tiny = Callable[..., TrainConfig]
# A bias added to all scores before the softmax changes nothing: its gradient is rounding alone, which Adam enlarges.
WITHOUT_EFFECT = "aggregate.leave.bias"
LAUNCH = "import sys; from depthlight.train.distributed import launch; sys.exit(launch(sys.argv[1:], 2, threads=1))"


def launch(config: TrainConfig, folder: Path) -> subprocess.Popen[bytes]:
    write_config(config, folder, "test")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", LAUNCH, "depthlight.train", str(folder), "--quiet"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_processes_equal_one(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(freeze_bn=True, batch=4, schedule={"lr": 1e-3, "warmup": 8, "samples": 80})
    Run(config, tmp_path / "one", quiet=True).run()
    assert launch(config, tmp_path / "two").wait() == 0
    one, two = (checkpoint.load_latest(tmp_path / name / CHECKPOINTS) for name in ("one", "two"))
    assert one is not None and two is not None
    assert two["progress"]["step"] == 20
    for part in ("net", "ema"):
        for name, value in one[part].items():
            if isinstance(value, torch.Tensor) and name != WITHOUT_EFFECT:
                assert float((value - two[part][name]).abs().max()) <= tolerance("ddp.weights"), name
    rows = [read_rows(tmp_path / name / METRICS) for name in ("one", "two")]
    for ours, theirs in zip(*rows, strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the ranks")
def test_killing_one_rank_ends_the_other(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(checkpoint_minutes=0.0, schedule={"lr": 1e-3, "samples": 1_000_000})
    parent = launch(config, tmp_path)
    while parent.poll() is None and not list((tmp_path / CHECKPOINTS).glob("*.json")):
        time.sleep(0.05)
    ranks = children_of(parent.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], 9)
    assert parent.wait(timeout=30) != 0
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    assert checkpoint.load_latest(tmp_path / CHECKPOINTS) is not None


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.ones(3)
    assert Ranks().exchange([tensor], [1.0, 2.0]) == [1.0, 2.0]
    assert torch.equal(tensor, torch.ones(3))


def test_a_batch_must_divide(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple"):
        Run(tiny(batch=3), tmp_path, ranks=Ranks(0, 2), quiet=True)
