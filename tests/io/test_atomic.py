"""Whatever goes wrong in a write, the old file stays and no scrap is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from depthlight.core.errors import OutputError
from depthlight.io.atomic import atomic_path, atomic_write_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_in_a_new_folder_and_replaced(tmp_path) -> None:
    target = tmp_path / "new" / "folder" / "file.bin"
    for data in (b"first", b"second"):
        atomic_write_bytes(target, data)
        assert target.read_bytes() == data
    assert names(target.parent) == ["file.bin"]


def test_the_temporary_file_is_beside_the_target_with_its_suffix(tmp_path) -> None:
    with atomic_path(tmp_path / "a.png") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png" and temporary.name.startswith(".")
        temporary.write_bytes(b"x")
        assert names(tmp_path) == [temporary.name], "the target is there before it is whole"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_at_any_step_keeps_the_old_file(step: str, tmp_path, monkeypatch) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    owner, name = {"write": (Path, "write_bytes"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(OutputError, match="No space left on device"):
            atomic_write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_an_error_of_the_caller_passes_through(tmp_path) -> None:
    def write_half() -> None:
        with atomic_path(tmp_path / "file.bin") as temporary:
            temporary.write_bytes(b"half")
            raise KeyError("caller")

    with pytest.raises(KeyError):
        write_half()
    assert names(tmp_path) == []


def test_a_target_that_is_a_folder(tmp_path) -> None:
    (tmp_path / "file.bin").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        atomic_write_bytes(tmp_path / "file.bin", b"x")
    assert names(tmp_path) == ["file.bin"]


def test_a_link_is_replaced_not_followed(tmp_path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    atomic_write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_a_parent_that_is_a_file(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        atomic_write_bytes(tmp_path / "file" / "x.bin", b"x")
