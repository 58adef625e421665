"""T1, T2, T6: whatever interrupts a run, it ends with the same bits."""

import itertools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from depthlight.io import checkpoint
from depthlight.train.config import TrainConfig
from depthlight.train.log import METRICS, read_rows
from depthlight.train.loop import CHECKPOINTS, Run
from depthlight.train.release import MODEL_FILE

Tiny = Callable[..., TrainConfig]
Start = Callable[[TrainConfig, Path], subprocess.Popen[bytes]]


def outcome(folder: Path) -> tuple[bytes, list[dict[str, str]]]:
    """What must not differ: the final state's weights, optimizer and average, and every step's numbers."""
    state = checkpoint.load_latest(folder / CHECKPOINTS)
    assert state is not None
    flat = [t.numpy().tobytes() for part in ("net", "ema") for t in state[part].values() if hasattr(t, "numpy")]
    moments = [t.numpy().tobytes() for entry in state["optimizer"]["state"].values() for t in entry.values()]
    return b"".join(flat + moments), read_rows(folder / METRICS)


def wait_for_step(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    """Until a checkpoint of at least that step is there, or the process is gone."""
    while process.poll() is None:
        steps = [int(p.stem[5:]) for p in (folder / CHECKPOINTS).glob("step-*.json")]
        if steps and max(steps) >= step:
            return
        time.sleep(0.005)


def newest(folder: Path) -> int:
    return max((int(p.stem[5:]) for p in (folder / CHECKPOINTS).glob("step-*.json")), default=0)


def killed_and_resumed(config: TrainConfig, folder: Path, start: Start, kills: int) -> None:
    rng = random.Random(0)
    for _ in range(kills):
        process = start(config, folder)
        wait_for_step(process, folder, newest(folder) + 1)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.communicate()
        assert checkpoint.load_latest(folder / CHECKPOINTS) is not None
    assert start(config, folder).wait() == 0


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_ends_with_the_same_bits(
    kills: int, tiny: Tiny, start_process: Start, tmp_path: Path
) -> None:
    # a checkpoint after every step, so that many of the kills fall into a save
    config = tiny(
        checkpoint_minutes=0.0, schedule={"lr": 1e-3, "warmup": 4, "samples": 20 * kills, "decay_at": 15 * kills}
    )
    Run(config, tmp_path / "unbroken", quiet=True).run()
    killed_and_resumed(config, tmp_path / "killed", start_process, kills)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "unbroken")


@pytest.mark.parametrize("stops", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(
    number: int,
    stops: int,
    tiny: Tiny,
    start_process: Start,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    config = tiny(checkpoint_minutes=0.0, schedule={"lr": 1e-3, "samples": 4000})
    rng = random.Random(0)
    for stop in range(stops):
        process = start_process(config, tmp_path)
        wait_for_step(process, tmp_path, newest(tmp_path) + 2)
        time.sleep(rng.uniform(0, 0.15) if stop else 0)
        process.send_signal(number)
        begun = time.monotonic()
        assert process.wait(timeout=10) == 128 + number
        record_property("t2_s", time.monotonic() - begun)
        rows = read_rows(tmp_path / METRICS)
        assert int(rows[-1]["step"]) == newest(tmp_path), "the last step was not saved"
        assert (tmp_path / MODEL_FILE).is_file()


def test_stopped_ten_times_ends_with_the_same_bits(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T2's ten stops, at random places of the loop and in this process: starting one takes longer than its steps."""
    config = tiny(checkpoint_minutes=0.0, schedule={"lr": 1e-3, "warmup": 4, "samples": 120, "decay_at": 80})
    Run(config, tmp_path / "unbroken", quiet=True).run()
    rng = random.Random(0)
    for stop in range(10):
        number = (signal.SIGTERM, signal.SIGINT)[stop % 2]
        with monkeypatch.context() as patch:
            stop_in(patch, rng.choice(["_report_bad", "_advance", "_log_step", "save"]), rng.randint(1, 5), number)
            assert Run(config, tmp_path / "stopped", quiet=True).run() == 128 + number
    assert 10 <= newest(tmp_path / "stopped") < 60
    assert Run(config, tmp_path / "stopped", quiet=True).run() == 0
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "unbroken")


def stop_in(patch: pytest.MonkeyPatch, method: str, step: int, number: int) -> None:
    """Make the run get a signal as it calls a method for the ``step``-th time."""
    real, calls = getattr(Run, method), itertools.count(1)

    def stopped(self: Run, *args: object) -> object:
        if next(calls) == step:
            signal.raise_signal(number)
        return real(self, *args)

    patch.setattr(Run, method, stopped)


def test_a_stop_in_mid_run_changes_no_bits(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(workers=1)
    Run(config, tmp_path / "unbroken", quiet=True).run()
    run = Run(config, tmp_path / "stopped", quiet=True)
    real = Run._advance

    def stop_at_three(self: Run, *args: object) -> None:
        real(self, *args)  # type: ignore[arg-type]
        if self.progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_advance", stop_at_three)
        assert run.run() == 143
    assert run.progress.step == 4, "the flag is honoured at the next step"
    assert Run(config, tmp_path / "stopped", quiet=True).run() == 0
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "unbroken")


def test_same_seed_same_bits_whatever_the_workers(tiny: Tiny, tmp_path: Path) -> None:
    for workers in (0, 1, 2):
        Run(tiny(workers=workers), tmp_path / str(workers), quiet=True).run()
    Run(tiny(seed=1), tmp_path / "other", quiet=True).run()
    assert outcome(tmp_path / "0") == outcome(tmp_path / "1") == outcome(tmp_path / "2")
    assert outcome(tmp_path / "0") != outcome(tmp_path / "other")


def test_a_run_can_be_extended_without_a_seam(tiny: Tiny, tmp_path: Path) -> None:
    Run(tiny(), tmp_path / "long", quiet=True).run()
    short = {"lr": 1e-3, "warmup": 4, "samples": 6}
    Run(tiny(schedule=short), tmp_path / "extended", quiet=True).run()
    Run(tiny(), tmp_path / "extended", quiet=True).run()
    assert outcome(tmp_path / "extended") == outcome(tmp_path / "long")
