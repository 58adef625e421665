"""T3: a save that fails at any point leaves the last good checkpoint; T4: a damaged one is never used."""

import json
import os
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from depthlight.core.errors import CheckpointError, DepthlightWarning, OutputError
from depthlight.io import checkpoint

torch = pytest.importorskip("torch")


def state(step: int) -> dict[str, Any]:
    return {"format": checkpoint.FORMAT, "step": step, "net": {"w": torch.full((50,), float(step))}}


def step_of(folder: Path) -> int | None:
    found = checkpoint.load_latest(folder)
    return None if found is None else int(found["step"])


def test_nothing_there_is_not_an_error(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path / "none") is None


def test_the_newest_comes_back_and_the_oldest_go(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        checkpoint.save(tmp_path, state(step), step=step, keep=2)
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded["net"]["w"], state(1000)["net"]["w"])
    assert len(list(tmp_path.iterdir())) == 4


class FailAt:
    """Counts the calls of every file operation a save makes and fails the n-th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, error: OSError) -> None:
        self.calls, self.number, self.error = 0, number, error
        for owner, name in (
            (pathlib.Path, "write_bytes"),
            (pathlib.Path, "open"),
            (os, "fsync"),
            (pathlib.Path, "replace"),
            (pathlib.Path, "mkdir"),
        ):
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self.number:
                if real.__name__ == "write_bytes":  # a full disk takes the first half
                    pathlib.Path(args[0]).touch()
                    os.truncate(args[0], len(args[1]) // 2)
                raise self.error
            return real(*args, **kwargs)

        return call


# two files, each: folder made, temporary opened and written (write_bytes opens it too), opened again for fsync, fsync,
# rename, fsync of the folder
POINTS = range(1, 13)


@pytest.mark.parametrize("point", POINTS)
def test_a_failed_save_leaves_the_last_good_one(point: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, state(1), step=1, keep=3)
    error = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        fault = FailAt(patch, point, error)
        try:
            checkpoint.save(tmp_path, state(2), step=2, keep=3)
            failed = False
        except OutputError as raised:
            failed = True
            assert "No space left" in str(raised) and str(tmp_path) in str(raised)
    assert fault.calls >= point, "the save makes fewer calls than there are points"
    checkpoint.clean(tmp_path)
    # fsync of the folder is allowed to fail silently; everything else must be told
    assert failed or step_of(tmp_path) == 2
    assert step_of(tmp_path) in (1, 2)
    assert not list(tmp_path.glob(".*")), "a temporary file was left"
    checkpoint.save(tmp_path, state(3), step=3, keep=3)
    assert step_of(tmp_path) == 3


def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        checkpoint.save(blocked / "checkpoints", state(1), step=1, keep=1)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "gone", "manifest", "manifest-keys"])
def test_a_damaged_checkpoint_is_passed_over(damage: str, tmp_path: Path) -> None:
    for step in (1, 2):
        path = checkpoint.save(tmp_path, state(step), step=step, keep=3)
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    elif damage == "manifest":
        path.with_suffix(".json").write_text('{"sha25')
    else:
        path.with_suffix(".json").write_text("{}")
    with pytest.warns(DepthlightWarning, match="step-000000002"):
        assert step_of(tmp_path) == 1


@pytest.mark.parametrize("position", range(0, 2000, 100))
def test_every_flipped_bit_is_found(position: int, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, state(1), step=1, keep=3)
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << position % 8
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="every checkpoint"), pytest.warns(DepthlightWarning):
        checkpoint.load_latest(tmp_path)


def test_a_state_without_manifest_does_not_exist(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), step=1, keep=3)
    checkpoint.save(tmp_path, state(2), step=2, keep=3).with_suffix(".json").unlink()
    (tmp_path / ".step-000000003.ab12.tmp.pt").write_bytes(b"half")
    assert step_of(tmp_path) == 1
    checkpoint.clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000001.json", "step-000000001.pt"]


def test_loading_runs_no_code(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pathlib.Path.touch, (canary,))

    checkpoint.save(tmp_path, {"format": checkpoint.FORMAT, "net": Payload()}, step=1, keep=1)
    with pytest.raises(CheckpointError), pytest.warns(DepthlightWarning):
        checkpoint.load_latest(tmp_path)
    assert not canary.exists()


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {**state(1), "format": 99}, step=1, keep=1)
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load(path.with_suffix(".json"))
    assert json.loads(path.with_suffix(".json").read_text())["step"] == 1
