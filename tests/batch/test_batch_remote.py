"""Tables, images, calibrations and results at URLs, by fsspec's ``memory://``."""

from __future__ import annotations

import json

import fsspec
import pytest


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.rm("/batch", recursive=True) if system.exists("/batch") else None
    return system


def read_all(system, root):
    return {path.removeprefix(root): system.cat_file(path) for path in system.find(root) if "batch-report" not in path}


def test_the_same_from_and_to_a_url(tmp_path, memory, make_pairs, call, bytes_in):
    work = make_pairs(3)
    for side in ("lefts", "rights"):
        memory.put(str(tmp_path / side), "/batch/in/", recursive=True)
    assert call(*work, "-o", tmp_path / "out")[0] == 0
    there = ("memory://batch/in/lefts/*.png", "--right", "memory://batch/in/rights/*.png", "-m", "sgbm")
    assert call(*there, "-o", "memory://batch/out")[0] == 0
    here, found = bytes_in(tmp_path / "out"), read_all(memory, "/batch/out/")
    assert here.keys() == found.keys()
    for name, content in here.items():
        if name.endswith("result.json"):
            facts, other = json.loads(content), json.loads(found[name])
            assert facts.pop("request")["inputs"].keys() == other.pop("request")["inputs"].keys()
            assert facts == other
        else:
            assert content == found[name], name
    status, text, _ = call(*there, "-o", "memory://batch/out", "--json")
    assert (status, json.loads(text)["kept"]) == (0, ["000", "001", "002"])
    memory.pipe_file("/batch/in/lefts/001.png", (tmp_path / "lefts/002.png").read_bytes())
    memory.rm_file("/batch/in/rights/002.png")
    status, text, err = call(*there, "-o", "memory://batch/out", "--json")
    told = json.loads(text)
    assert (status, told["done"], list(told["failed"])) == (1, ["001"], ["002"]), "a changed and a missing file"
    assert "memory://batch/in/rights/002.png cannot be read: there is no such file" in err
    assert "002" in json.loads(memory.cat_file("/batch/out/batch-report.json"))["failed"]


def test_a_table_with_paths_beside_it(tmp_path, memory, make_pairs, call):
    make_pairs(1)
    for side in ("lefts", "rights"):
        memory.put(str(tmp_path / side / "000.png"), f"/batch/t/{side}/a.png")
    memory.pipe_file("/batch/t/lefts/bad.png", b"no picture")
    memory.pipe_file(
        "/batch/t/list.csv", b"left,right,name\nlefts/a.png,rights/a.png,x/a\nlefts/bad.png,rights/a.png,x/b\n"
    )
    status, _, err = call(
        "memory://batch/t/list.csv", "-m", "sgbm", "-o", "memory://batch/o", "--set", "formats=['npy']"
    )
    assert status == 1 and "x/b: memory://batch/t/lefts/bad.png is not an image" in err
    assert memory.isfile("/batch/o/x/a/disparity.npy") and not memory.exists("/batch/o/x/b")
    assert call("memory://batch/t/list.csv", "-m", "sgbm", "-o", "memory://batch/o", "-q")[0] == 1
    assert not memory.exists("/batch/o/x/a/disparity.npy"), "files of the earlier request are gone"


def test_what_a_storage_raises_is_one_line(tmp_path, memory, make_pairs, call, monkeypatch):
    work = make_pairs(2)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(memory), "put_file", refuse)
    status, _, err = call(*work, "-o", "memory://batch/o")
    assert status in (1, 2) and "cannot write memory://batch/o/00" in err and "Permission denied" in err
    assert not memory.exists("/batch/o/000/result.json")
