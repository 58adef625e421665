"""The experiments tool: what it starts, and when it takes a run as finished."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from depthlight.io import checkpoint
from depthlight.train import evaluation
from depthlight.train.config import load_config
from depthlight.train.log import append_row
from depthlight.train.loop import CHECKPOINTS

TOOL = Path(__file__).parents[2] / "tools" / "experiments.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("experiments_tool", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def words(root: Path, *more: str) -> list[str]:
    return ["--pool", str(root / "pool"), "--runs", str(root), "--scenes", "s", "--list", "l", *more]


def settings(command: list[str]) -> list[str]:
    return [command[i + 1] for i, word in enumerate(command) if word == "--set"]


def make_run(folder: Path, *, end: int, evaluated: int) -> None:
    state = {"format": checkpoint.FORMAT, "schedule": {"samples": end}, "progress": {"samples": end}}
    checkpoint.save(folder / CHECKPOINTS, state, step=1, keep=1)
    figures = {"epe": 1.0, "bad1": 20.0, "bad2": 10.0, "d1": 5.0}
    append_row(folder / evaluation.TABLE, {"samples": evaluated, "core_hours": "2.000", **figures})


def test_every_experiment_is_a_run_of_the_budget(tool: ModuleType, tmp_path: Path) -> None:
    for name, experiment in tool.EXPERIMENTS.items():
        config = load_config("cpu", settings=settings(tool.command(name, tool.parse(words(tmp_path, "run", name)))))
        before = tool.EXPERIMENTS[experiment.after].hours if experiment.after else 0.0
        assert config.schedule.core_hours + before in (tool.HOURS, 0.75 * tool.HOURS)
        assert len(config.data) == (3 if experiment.without else 4)
    assert config.stage == 2 and config.start.endswith("exp-stage1-short/model.safetensors")


def test_a_second_seed_has_a_folder_of_its_own(tool: ModuleType, tmp_path: Path) -> None:
    args = tool.parse(words(tmp_path, "run", "stage2", "--seed", "3", "--ranks", "2"))
    command = tool.command("stage2", args)
    config = load_config("cpu", settings=settings(command))
    assert config.seed == 3
    assert str(tmp_path / "exp-stage2-seed3") in command and command[command.index("--ranks") + 1] == "2"
    assert config.start == str(tmp_path / "exp-stage1-short-seed3" / "model.safetensors")
    assert tool.folder_of("stage2", tool.parse(words(tmp_path, "next"))) == tmp_path / "exp-stage2"


def test_finished_means_evaluated_at_the_settled_end(tool: ModuleType, tmp_path: Path) -> None:
    for name, end, evaluated in (("open", 0, 900), ("short", 1000, 999), ("done", 1000, 1002)):
        make_run(tmp_path / name, end=end, evaluated=evaluated)
    assert [tool.finished(tmp_path / name) for name in ("none", "open", "short", "done")] == [False, False, False, True]


def test_the_table_has_every_seed_and_says_what_is_unfinished(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "exp-baseline", end=1000, evaluated=1000)
    make_run(tmp_path / "exp-baseline-seed1", end=0, evaluated=500)
    tool.table(tool.parse(words(tmp_path, "table")))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["| baseline", "| baseline-seed1 (not finished)"]


def test_a_grown_pool_is_refused(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        scene = tmp_path / "pool" / "layered" / name
        scene.mkdir(parents=True)
        (scene / "left.jpg").touch()
        problem = tool.same_pool(tool.parse(words(tmp_path, "next")))
        assert bool(problem) == (name == "two")
    assert "2" in problem and "1" in problem
    monkeypatch.setattr(sys, "argv", ["experiments.py", *words(tmp_path, "next")])
    assert tool.main() == 2
