"""What a model file says of its past: segments, what changed between them, and the weights it began with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from depthlight.core import registry
from depthlight.core.errors import CheckpointError
from depthlight.nets.checkpoints import read_metadata
from depthlight.train import lineage
from depthlight.train.config import TrainConfig
from depthlight.train.lineage import settings_of
from depthlight.train.loop import Run
from depthlight.train.release import MODEL_FILE
from depthlight.train.stage2 import SelfDistillation

Tiny = Callable[..., TrainConfig]
TWO = {"lr": 1e-3, "warmup": 4, "samples": 4}
FOUR = TWO | {"samples": 8}


def entries(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(read_metadata(folder / MODEL_FILE)["lineage"])
    return found


def trained(config: TrainConfig, folder: Path, recipe: str = "tiny") -> Run:
    run = Run(config, folder, recipe=recipe, quiet=True)
    assert run.run() == 0
    return run


def test_a_resumed_run_is_one_segment_until_something_changes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "git_commit", lambda: "a" * 40)
    trained(tiny(schedule=TWO), tmp_path)
    trained(tiny(schedule=TWO, evaluate={"minutes": 7.0}), tmp_path)
    assert [one["samples"] for one in entries(tmp_path)] == [4], "how often it is measured decides no weight"
    trained(tiny(schedule=FOUR, loss={"bins": 3.0}), tmp_path)
    first, second = entries(tmp_path)
    assert (first["samples"], second["samples"]) == (4, 4)
    assert second["changed"] == {"loss.bins": 3.0, "schedule.samples": 8} and "changed" not in first
    assert first["start_sha256"] == "" and len(second["start_sha256"]) == 64
    monkeypatch.setattr(lineage, "git_commit", lambda: "b" * 40)
    run = trained(tiny(schedule=FOUR | {"samples": 10}, loss={"bins": 3.0}), tmp_path)
    assert [one["commit"][0] for one in entries(tmp_path)] == ["a", "a", "b"]
    assert [one["samples"] for one in entries(tmp_path)] == [4, 4, 2]
    total = sum(one["core_hours"] for one in entries(tmp_path))
    assert total == pytest.approx(run.progress.core_seconds / 3600, abs=2e-3)


def test_nothing_of_the_machine_is_told(tiny: Tiny, pool: Path) -> None:
    told = json.dumps(settings_of(tiny(evaluate={"folder": str(pool)})))
    assert str(pool.parent) not in told and f"scenes:{pool.name} x 0" in told


def test_models_and_sources_are_told_without_their_folders(tiny: Tiny) -> None:
    data = [
        {"kind": "synth", "path": "/home/me/photos", "options": {"families": {"rooms": 1.0}, "meshes": "/home/me/m"}},
        {"kind": "kitti2015", "path": "/home/me/kitti", "options": {"split": "training"}},
    ]
    told = settings_of(tiny(data=data, teacher={"models": ["light", "/home/me/runs/one/model.safetensors"]}))
    assert "/home/me" not in json.dumps(told)
    assert told["teacher.models"] == ["light", "model.safetensors"]
    assert told["data"] == [
        'synth:photos {"families": {"rooms": 1.0}} x 0',
        'kitti2015:kitti {"split": "training"} x 0',
    ]


def test_the_start_is_kept_and_a_resume_does_not_see_another(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny(schedule=TWO), tmp_path / "one")
    trained(tiny(schedule=TWO, seed=5), tmp_path / "other")
    model = tmp_path / "start.safetensors"
    shutil.copy(tmp_path / "one" / MODEL_FILE, model)
    config = tiny(start=str(model), stage=2, schedule=TWO, network_config={})
    whole = trained(tiny(start=str(model), stage=2, schedule=FOUR, network_config={}), tmp_path / "whole")
    trained(config, tmp_path / "parts")
    shutil.copy(tmp_path / "other" / MODEL_FILE, model)
    parts = trained(tiny(start=str(model), stage=2, schedule=FOUR, network_config={}), tmp_path / "parts")
    assert isinstance(whole.stage, SelfDistillation) and isinstance(parts.stage, SelfDistillation)
    teachers = (whole.stage.teacher.state_dict(), parts.stage.teacher.state_dict())
    assert all(torch.equal(value, teachers[1][name]) for name, value in teachers[0].items())
    for name, value in whole.averaged().items():
        assert torch.equal(value, parts.averaged()[name]), name
    before = entries(tmp_path / "one")[0]
    assert entries(tmp_path / "parts")[0] == before, "the lineage of the start is still there"
    model.unlink()
    Run(config, tmp_path / "parts", quiet=True)  # nor is the file needed any more


def test_a_bundled_start_brings_the_lineage_of_its_card(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(start="light", network_config={}, schedule={"lr": 1e-5, "warmup": 1, "samples": 2}, crop=[64, 96])
    trained(config, tmp_path)
    card = registry.bundled()[registry.DEFAULT_MODEL]
    assert entries(tmp_path)[:-1] == [dict(one) for one in card.lineage]
    assert entries(tmp_path)[-1]["start_sha256"] == card.files["safetensors"].sha256


def test_a_changed_copy_of_the_start_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    trained(tiny(schedule=TWO), tmp_path / "one")
    trained(tiny(schedule=TWO, seed=5), tmp_path / "other")
    config = tiny(start=str(tmp_path / "one" / MODEL_FILE), schedule=TWO, network_config={})
    trained(config, tmp_path / "run")
    shutil.copy(tmp_path / "other" / MODEL_FILE, tmp_path / "run" / "start.safetensors")
    with pytest.raises(CheckpointError, match="was started from other weights"):
        Run(config, tmp_path / "run", quiet=True)


def test_the_commit_is_read_without_git(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert lineage._read_head(git) == ""
    (git / "packed-refs").write_text(f"# pack-refs\n{'c' * 40} refs/heads/main\n")
    assert lineage._read_head(git) == "c" * 40
    (git / "refs/heads/main").write_text(f"{'d' * 40}\n")
    assert lineage._read_head(git) == "d" * 40
    (git / "HEAD").write_text(f"{'e' * 40}\n")
    assert lineage._read_head(git) == "e" * 40
