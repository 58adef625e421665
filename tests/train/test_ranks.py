"""T8: two processes train as one, and neither outlives the other."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from depthlight.core.errors import ConfigError, InputError
from depthlight.core.tolerances import tolerance
from depthlight.io import checkpoint
from depthlight.train import evaluation
from depthlight.train.command import start
from depthlight.train.config import TrainConfig
from depthlight.train.distributed import Ranks
from depthlight.train.log import METRICS, read_rows
from depthlight.train.loop import CHECKPOINTS, CONFIG_FILE, Run, write_config
from depthlight.train.release import MODEL_FILE

Tiny = Callable[..., TrainConfig]
Record = Callable[[str, object], None]
# A bias added to all scores before the softmax changes nothing: its gradient is rounding alone, which Adam enlarges.
WITHOUT_EFFECT = "aggregate.leave.bias"
LAUNCH = "import sys; from depthlight.train.distributed import launch; sys.exit(launch(sys.argv[1:], 2, threads=1))"


def launch(config: TrainConfig, folder: Path) -> subprocess.Popen[bytes]:
    write_config(config, folder, "test")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", LAUNCH, "depthlight.train", str(folder), "--quiet"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def torchrun(config: TrainConfig, folder: Path) -> list[subprocess.Popen[bytes]]:
    """Two ranks without our launcher, as torchrun starts them: each one's exit status can be seen."""
    write_config(config, folder, "test")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    environment = {**os.environ, **group, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "depthlight.train", str(folder), "--quiet"]
    return [
        subprocess.Popen(command, env=environment | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.DEVNULL)
        for rank in ("0", "1")
    ]


def stop_once(processes: list[subprocess.Popen[bytes]], there: Callable[[], bool]) -> list[int]:
    """Send SIGTERM to all as soon as ``there()``; their exit statuses."""
    while not there() and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    return [process.wait(timeout=10) for process in processes]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_processes_equal_one(tiny: Tiny, tmp_path: Path, record_property: Record) -> None:
    config = tiny(freeze_bn=True, batch=4, schedule={"lr": 1e-3, "warmup": 8, "samples": 80})
    Run(config, tmp_path / "one", quiet=True).run()
    assert launch(config, tmp_path / "two").wait() == 0
    one, two = (checkpoint.load_latest(tmp_path / name / CHECKPOINTS) for name in ("one", "two"))
    assert one is not None and two is not None
    assert two["progress"]["step"] == 20
    for part in ("net", "ema"):
        for name, value in one[part].items():
            if isinstance(value, torch.Tensor) and name != WITHOUT_EFFECT:
                difference = float((value - two[part][name]).abs().max())
                assert difference <= tolerance("ddp.weights"), name
                record_property("t8_difference", difference)
    rows = [read_rows(tmp_path / name / METRICS) for name in ("one", "two")]
    for ours, theirs in zip(*rows, strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)


def test_torchrun_starts_a_run_from_its_command_line(tiny: Tiny, tmp_path: Path) -> None:
    """As the manual says; what is told to machines is told once."""
    (tmp_path / "mine.toml").write_text("ema = 0.9\nbatch = 4\n")
    config = tiny()
    settings = [
        *(f"network_config.{name}={value}" for name, value in config.network_config.items()),
        *("crop=[64,96]", "workers=0", "threads=1", "device=cpu", "schedule.samples=8"),
    ]
    words = [str(tmp_path / "mine.toml"), "--data", config.data[0].path, *(f"--set={setting}" for setting in settings)]
    assert run_torchrun([*words, "-o", str(tmp_path / "run")])["lineage"][0]["samples"] == 8
    state = checkpoint.load_latest(tmp_path / "run" / CHECKPOINTS)
    assert state is not None and state["progress"]["step"] == 2
    assert json.loads((tmp_path / "run" / CONFIG_FILE).read_text())["recipe"] == "mine"


@pytest.mark.slow
def test_torchrun_resumes_a_run(tiny: Tiny, tmp_path: Path) -> None:
    Run(tiny(), tmp_path, quiet=True).run()
    write_config(tiny(), tmp_path, "test")
    told = run_torchrun(["--resume", "-o", str(tmp_path), "--set", "schedule.samples=24"])
    assert sum(segment["samples"] for segment in told["lineage"]) == 24


def run_torchrun(words: list[str]) -> dict[str, Any]:
    """What two ranks of ``depthlight train`` tell machines."""
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "depthlight", "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", *command, *words, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_ranks_are_torchruns_or_ours(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="--ranks 2 under torchrun"):
        start("cpu", [], [], tmp_path, ranks=2)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the ranks")
def test_killing_one_rank_ends_the_other(tiny: Tiny, tmp_path: Path, record_property: Record) -> None:
    config = tiny(checkpoint_minutes=0.0, schedule={"lr": 1e-3, "samples": 1_000_000})
    parent = launch(config, tmp_path)
    while parent.poll() is None and not list((tmp_path / CHECKPOINTS).glob("*.json")):
        time.sleep(0.05)
    ranks = children_of(parent.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], 9)
    begun = time.monotonic()
    assert parent.wait(timeout=30) != 0
    record_property("t8_kill_s", time.monotonic() - begun)
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    assert checkpoint.load_latest(tmp_path / CHECKPOINTS) is not None


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the ranks")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_the_whole_group_is_one_stop(number: int, tiny: Tiny, tmp_path: Path) -> None:
    """As service managers and terminals stop: a signal to every process, and the parent hands it on once more."""
    parent = launch(tiny(schedule={"lr": 1e-3, "samples": 1_000_000}), tmp_path)
    while parent.poll() is None and not (tmp_path / METRICS).is_file():
        time.sleep(0.05)
    for process in (parent.pid, *children_of(parent.pid)):
        os.kill(process, number)
    assert parent.wait(timeout=60) == 128 + number
    state = checkpoint.load_latest(tmp_path / CHECKPOINTS)
    assert state is not None and state["progress"]["samples"] > 0


@pytest.fixture(scope="module")
def budgeted(tiny: Tiny, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks with a budget of core-hours and a scene that cannot be read."""
    folder = tmp_path_factory.mktemp("budgeted")
    shutil.copytree(pool, folder / "holed")
    (folder / "holed" / "plane-2" / "left.png").write_bytes(b"no image")
    config = tiny(data=[{"path": str(folder / "holed")}], schedule={"lr": 1e-3, "warmup": 4, "core_hours": 2 / 3600})
    assert launch(config, folder).wait(timeout=100) == 0
    return folder


@pytest.mark.slow
def test_ranks_settle_one_budget_alike(budgeted: Path) -> None:
    state = checkpoint.load_latest(budgeted / CHECKPOINTS)
    assert state is not None
    schedule, progress = state["schedule"], state["progress"]
    assert 0 < schedule["decay_at"] < schedule["samples"] <= progress["samples"] < schedule["samples"] + 2
    assert 1.7 < progress["core_seconds"] < 4, "both ranks' seconds are counted, each once"
    rates = [float(row["lr"]) for row in read_rows(budgeted / METRICS)]
    assert rates[-1] < 0.5 * max(rates)


@pytest.mark.slow
def test_every_rank_names_its_bad_samples(budgeted: Path) -> None:
    for rank, name in enumerate(("bad.csv", "bad-rank1.csv")):
        rows = read_rows(budgeted / name)
        assert rows and all(int(row["position"]) % 2 == rank and "plane-2" in row["error"] for row in rows)


def test_a_stop_while_the_first_rank_evaluates(tiny: Tiny, pool: Path, tmp_path: Path) -> None:
    config = tiny(evaluate={"folder": str(pool), "minutes": 0.0}, schedule={"lr": 1e-3, "samples": 1_000_000})
    processes = torchrun(config, tmp_path)
    assert stop_once(processes, (tmp_path / evaluation.TABLE).is_file) == [143, 143]
    state = checkpoint.load_latest(tmp_path / CHECKPOINTS)
    assert state is not None and state["progress"]["step"] == int(read_rows(tmp_path / METRICS)[-1]["step"])


def test_a_signal_that_one_rank_saw_is_the_status_of_all(tiny: Tiny, tmp_path: Path) -> None:
    processes = torchrun(tiny(schedule={"lr": 1e-3, "samples": 1_000_000}), tmp_path)
    while not (tmp_path / METRICS).is_file() and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGINT)
    assert [process.wait(timeout=20) for process in processes] == [130, 130]
    assert checkpoint.load_latest(tmp_path / CHECKPOINTS) is not None


@pytest.mark.slow
def test_a_stop_while_the_first_rank_labels(tiny: Tiny, pool: Path, tmp_path: Path) -> None:
    Run(tiny(), tmp_path / "start", quiet=True).run()
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for index in range(400):
        (pairs / f"{index:03d}").symlink_to(pool / f"plane-{index % 8}")
    config = tiny(stage=3, start=str(tmp_path / "start" / MODEL_FILE), data=[{"kind": "pairs", "path": str(pairs)}])
    processes = torchrun(config, tmp_path / "run")
    labels = tmp_path / "run" / "labels" / "pairs"
    assert stop_once(processes, lambda: labels.is_dir() and any(labels.glob("*.png"))) == [143, 143]
    assert 0 < len(list(labels.glob("*.png"))) < 400


@pytest.mark.slow
def test_the_launcher_hands_on_a_stop_and_says_so(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(checkpoint_minutes=0.0, schedule={"lr": 1e-3, "samples": 1_000_000})
    parent = launch(config, tmp_path)
    assert stop_once([parent], lambda: any((tmp_path / CHECKPOINTS).glob("*.json"))) == [143]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_a_stop_however_the_ranks_end(number: int) -> None:
    """Sent to the parent alone. Ranks that are slower than the grace, or fail while they leave, do not change 143."""
    script = (
        "import os, signal, sys, time\n"
        "from depthlight.train import distributed\n"
        "distributed.GRACE_SECONDS = 0.5\n"
        "class Stubborn:\n"
        "    def __init__(self, command, env):\n"
        "        self.rank = env['RANK']\n"
        "        self.code = None\n"
        "    def poll(self): return self.code\n"
        "    def send_signal(self, number): self.code = 70 if self.rank == '1' else None\n"
        "    def kill(self): self.code = -9\n"
        "    def wait(self): return self.code\n"
        "distributed.subprocess.Popen = Stubborn\n"
        f"signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), {int(number)}))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "sys.exit(distributed.launch(['x'], 2, threads=1))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 128 + number


@pytest.mark.slow
def test_the_first_rank_decides_on_the_precision(tiny: Tiny, tmp_path: Path) -> None:
    """Each rank would measure another winner; both train in the first one's, or their gradients would differ."""
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from depthlight.train import machine\n"
        "from depthlight.train.config import load_config\n"
        "from depthlight.train.distributed import join, leave\n"
        "from depthlight.train.loop import Run, read_config\n"
        "group = join()\n"
        "fast = torch.float32 if group.is_first else torch.bfloat16\n"
        "machine._convolution_seconds = lambda dtype: 1.0 if dtype == fast else 2.0\n"
        "base, name = read_config(Path(sys.argv[1]))\n"
        "run = Run(load_config(name, base=base), Path(sys.argv[1]), ranks=group, quiet=True)\n"
        "Path(sys.argv[1], f'amp-{group.rank}').write_text(run.config.amp)\n"
        "leave()\n"
    )
    (tmp_path / "precision_of_a_rank.py").write_text(script)
    write_config(tiny(amp="auto"), tmp_path, "test")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", LAUNCH, "precision_of_a_rank", str(tmp_path)]
    assert subprocess.run(command, env=environment, check=False, timeout=60).returncode == 0
    assert [(tmp_path / f"amp-{rank}").read_text() for rank in (0, 1)] == ["fp32", "fp32"]


@pytest.mark.slow
def test_with_batch_norm_in_training_mode_two_ranks_differ_a_little(tiny: Tiny, tmp_path: Path) -> None:
    """Each rank normalises by its own samples. Weights and running statistics stay equal on the ranks all the same."""
    config = tiny(batch=4, schedule={"lr": 1e-3, "warmup": 8, "samples": 80})
    Run(config, tmp_path / "one", quiet=True).run()
    assert launch(config, tmp_path / "two").wait() == 0
    one, two = (checkpoint.load_latest(tmp_path / name / CHECKPOINTS) for name in ("one", "two"))
    assert one is not None and two is not None
    difference = max(
        float((value - two["net"][name]).abs().max())
        for name, value in one["net"].items()
        if value.is_floating_point() and "running" not in name
    )
    losses = [[float(row["loss"]) for row in read_rows(tmp_path / name / METRICS)] for name in ("one", "two")]
    apart = max(abs(ours - theirs) / ours for ours, theirs in zip(*losses, strict=True))
    print(f"BatchNorm in training mode, 20 steps: weights differ by up to {difference:.2g}, the loss by {apart:.1%}")
    assert difference > tolerance("ddp.weights"), "then the manual's caveat could go"
    assert apart < 0.2


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.ones(3)
    assert Ranks().exchange([tensor], [1.0, 2.0]) == [1.0, 2.0]
    assert Ranks().decide(True, torch.device("cpu")) and not Ranks().decide(False, torch.device("cpu"))
    assert torch.equal(tensor, torch.ones(3))


@pytest.mark.parametrize("world", [1, 2, 16])
def test_a_signal_survives_the_sum_over_the_ranks(world: int) -> None:
    ranks = Ranks(0, world)
    for seen in range(1, world + 1):
        for number in (signal.SIGINT, signal.SIGTERM):
            assert ranks.signal_of(seen * ranks.wish_of(number)) == number
    mixed = (world - 1) * ranks.wish_of(signal.SIGINT) + ranks.wish_of(signal.SIGTERM)
    assert ranks.signal_of(mixed) == signal.SIGTERM and ranks.wish_of(0) == 0


def test_a_batch_must_divide(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple"):
        Run(tiny(batch=3), tmp_path, ranks=Ranks(0, 2), quiet=True)
