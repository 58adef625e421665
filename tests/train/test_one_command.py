"""``depthlight train finetune`` and ``adapt`` from the command line to a prediction, with the bundled weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

import depthlight
from depthlight.cli import main
from depthlight.core import registry
from depthlight.data.scenes import SceneFolder
from depthlight.nets.checkpoints import read_metadata
from depthlight.train.release import MODEL_FILE

SMALLEST = (
    "schedule.samples=4",
    "schedule.decay_at=2",
    "crop=[32,32]",
    "batch=2",
    "workers=0",
    "threads=1",
    "amp=fp32",
)


def train(recipe: str, data: Path, out: Path) -> None:
    settings = [word for setting in SMALLEST for word in ("--set", setting)]
    assert main.run(["train", recipe, "--data", str(data), "-o", str(out), "--quiet", *settings]) == 0


def check_model(out: Path, recipe: str, pool: Path) -> None:
    """It predicts, is not the model it began with, and says that it came from that."""
    model = depthlight.load(str(out / MODEL_FILE))
    scene = SceneFolder(pool)[0]
    disparity = model.predict(scene.left_HW3, scene.right_HW3).disparity
    assert disparity.shape == (64, 128) and np.isfinite(disparity).all()
    lineage = json.loads(read_metadata(out / MODEL_FILE)["lineage"])
    card = registry.bundled()[registry.DEFAULT_MODEL]
    assert lineage[:-1] == [dict(one) for one in card.lineage]
    assert (lineage[-1]["recipe"], lineage[-1]["samples"]) == (recipe, 4)
    assert model.identity.weights_sha256 != card.files["safetensors"].sha256


def test_finetune_on_labelled_scenes(pool: Path, tmp_path: Path) -> None:
    train("finetune", pool, tmp_path / "run")
    check_model(tmp_path / "run", "finetune", pool)


def test_adapt_to_pairs_without_truth(pool: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    shutil.copytree(pool, pairs, ignore=shutil.ignore_patterns("disp*.png"))
    train("adapt", pairs, tmp_path / "run")
    assert len(list((tmp_path / "run" / "labels" / "pairs").glob("*.png"))) == 8
    check_model(tmp_path / "run", "adapt", pool)
