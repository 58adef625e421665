"""T10: each stage lowers the validation error of a tiny network on a tiny set, within a fixed number of samples."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depthlight.data.augment import strong_colour_jitter
from depthlight.data.scenes import SceneFolder
from depthlight.eval.protocol import PROTOCOLS
from depthlight.eval.runner import evaluate
from depthlight.infer.load import load
from depthlight.io.images import read_image
from depthlight.io.pictures import write_image
from depthlight.train.config import TrainConfig
from depthlight.train.loop import Run
from depthlight.train.release import MODEL_FILE

Tiny = Callable[..., TrainConfig]
NETWORK = {
    "pyramid": [16, 16, 16, 16, 16],
    "match": 16,
    "groups": 4,
    "volume": [8, 8, 8, 8],
    "upsample": 16,
    "max_disp": 32,
}
GENTLE = {"scale": [0.9, 1.1], "erase": 0.0, "photometric": 0.5, "blur": 0.0, "noise": 0.2, "shift": 0.0}


def train(tiny: Tiny, folder: Path, samples: int, **changes: Any) -> Path:
    schedule = {"lr": 2e-3, "warmup": 40, "samples": samples}
    values = {"network_config": NETWORK, "batch": 4, "augment": GENTLE, "schedule": schedule} | changes
    Run(tiny(**values), folder, quiet=True).run()
    return folder / MODEL_FILE


@pytest.fixture(scope="module")
def unseen(scene_writer: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes that no run has seen."""
    root = tmp_path_factory.mktemp("unseen")
    for index in range(8):
        scene_writer(root / f"plane-{index}", 200 + index)
    return root


@pytest.fixture(scope="module")
def perturbed(scene_writer: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes that no run has seen, each view after stage 2's strong colour jitter."""
    root = tmp_path_factory.mktemp("perturbed")
    rng = np.random.default_rng(0)
    for index in range(8):
        folder = root / f"plane-{index}"
        scene_writer(folder, 100 + index)
        files = [folder / "left.png", folder / "right.png"]
        left, right = strong_colour_jitter(*(read_image(file) for file in files), rng)
        write_image(files[0], left)
        write_image(files[1], right)
    return root


def validation_epe(model: Path, scenes: Path) -> float:
    protocol = replace(PROTOCOLS["default"], max_disp=32)
    return float(evaluate(load(str(model)), SceneFolder(scenes), protocol).to_dict()["mean"]["epe"])


@pytest.fixture(scope="module")
def unlabelled(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unlabelled")
    for scene in pool.iterdir():
        (root / scene.name).mkdir()
        for view in ("left.png", "right.png"):
            shutil.copy(scene / view, root / scene.name / view)
    return root


def test_each_stage_lowers_the_error(
    tiny: Tiny, unlabelled: Path, unseen: Path, perturbed: Path, tmp_path: Path
) -> None:
    early = train(tiny, tmp_path / "early", 80)
    late = train(tiny, tmp_path / "late", 400)
    errors = {"early": validation_epe(early, unseen), "late": validation_epe(late, unseen)}
    third = train(
        tiny,
        tmp_path / "third",
        160,
        stage=3,
        start=str(early),
        data=[{"path": str(unlabelled), "kind": "pairs"}],
        teacher={"models": [str(late)]},
        loss={"clamp": 10.0},
    )
    errors["third"] = validation_epe(third, unseen)
    assert errors["late"] < 0.5 * errors["early"], errors
    assert errors["third"] < 0.8 * errors["early"], errors
    check_stage_two(tiny, late, perturbed, tmp_path)


def check_stage_two(tiny: Tiny, start: Path, perturbed: Path, tmp_path: Path) -> None:
    """Distillation alone, no truth: better on perturbed pairs than its start.

    BatchNorm is frozen, so that nothing but the terms can change the network.
    """
    schedule = {"lr": 1e-3, "warmup": 40, "samples": 300}
    changes: dict[str, Any] = {"start": str(start), "freeze_bn": True, "schedule": schedule}
    errors = {"start": validation_epe(start, perturbed)}
    errors["both"] = validation_epe(train(tiny, tmp_path / "both", 300, stage=2, **changes), perturbed)
    assert errors["both"] < 0.9 * errors["start"], errors
