"""What a run tells while it trains: the line on the terminal and the numbers for TensorBoard."""

from collections.abc import Callable
from pathlib import Path

import pytest

from depthlight.train import log as module
from depthlight.train.config import TrainConfig
from depthlight.train.log import RunLog, read_rows
from depthlight.train.loop import Run

Tiny = Callable[..., TrainConfig]


def test_a_line_tells_samples_per_second_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "have", lambda _: False)  # TensorBoard
    log = RunLog(tmp_path, total=20_000)
    now[0] = 500.0  # labelling, opening the data
    log.begin(1_000)
    now[0] = 510.0
    log.progress({"loss": 1.23456, "lr": 1e-3}, 1_040)
    now[0] = 600.0
    log.progress({"loss": 0.5}, 1_200)
    now[0] = 10_500.0
    log.progress({"loss": 0.5}, 21_000)
    log.total = 0
    log.progress({"loss": 0.5}, 21_000)
    assert capsys.readouterr().err.splitlines() == [
        "    1,040 samples  loss 1.235  lr 0.001  4.00 samples/s  1h19m left",
        "    1,200 samples  loss 0.5  2.00 samples/s  2h36m left",
        "   21,000 samples  loss 0.5  2.00 samples/s",
        "   21,000 samples  loss 0.5  2.00 samples/s",
    ]


def test_the_first_line_comes_after_log_every_steps(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(tiny(log_every=4), tmp_path).run()  # six steps of two samples
    lines = [line for line in capsys.readouterr().err.splitlines() if "samples/s" in line]
    assert len(lines) == 1 and lines[0].lstrip().startswith("8 samples  loss ") and lines[0].endswith("s left")


def test_the_numbers_for_tensorboard_are_those_of_the_tables(tiny: Tiny, tmp_path: Path, pool: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Run(tiny(log_every=1, evaluate={"folder": str(pool)}), tmp_path, quiet=True).run()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for tag, table, column in (
        ("train/loss", "metrics.csv", "loss"),
        ("train/lr", "metrics.csv", "lr"),
        ("eval/epe", "evaluation.csv", "epe"),
    ):
        rows = read_rows(tmp_path / table)
        found = events.Scalars(tag)
        assert [event.step for event in found] == [int(row["samples"]) for row in rows]
        assert [event.value for event in found] == pytest.approx([float(row[column]) for row in rows], abs=1e-4)
    assert {"train/epe", "train/grad_norm", "eval/bad2", "eval/plane_epe"} <= set(events.Tags()["scalars"])
