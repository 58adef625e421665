"""Runs that are killed, stopped, sharded, or meet a bad pair: every result is made once, whole, with the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image


def start(*args):
    command = [sys.executable, "-m", "depthlight.cli.main", "batch", *map(str, args), "-q"]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def look(out, seen):
    """Whatever is visible is whole, and what was there is still the same file; returns how many results there are."""
    for folder in [path for path in out.glob("[0-9]*") if path.name not in seen]:
        result = folder / "result.json"
        for name in json.loads(result.read_text())["files"]:
            if name.endswith(".png"):
                Image.open(folder / name).load()
        seen[folder.name] = (result.stat().st_ino, result.stat().st_mtime_ns)
    return len(seen)


@pytest.mark.parametrize(("count", "kills"), [(24, 2), pytest.param(200, 20, marks=pytest.mark.slow)])
def test_killed_at_random_and_started_again(tmp_path, make_pairs, call, count, kills):
    """B1."""
    work, out, seen, chance = make_pairs(count), tmp_path / "out", {}, random.Random(kills)
    for kill in range(kills):
        run, wanted = start(*work, "-o", out), look(out, seen) + chance.randint(0, max(1, count // kills - 2))
        while kill % 5 != 4 and run.poll() is None and look(out, seen) < wanted:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.1 if kill % 5 != 4 else chance.random())  # some before there is any work
        run.kill()
        run.communicate()
        look(out, seen)
    before = dict(seen)
    status, text, _ = call(*work, "-o", out, "--json")
    told = json.loads(text)
    assert (status, told["failed"], set(told["kept"])) == (0, {}, set(before))
    look(out, seen)
    names = {f"{index:03d}" for index in range(count)}
    assert {path.name for path in out.iterdir()} == names | {"batch-report.json", ".partial"}
    assert not list((out / ".partial").iterdir()), "what killed runs left is gone"
    for name, stamp in seen.items():
        status = (out / name / "result.json").stat()
        assert (status.st_ino, status.st_mtime_ns) == stamp, f"{name} was made twice"


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_one_bad_pair_does_not_stop_the_rest(tmp_path, make_pairs, call, count):
    """B2."""
    work, out = make_pairs(count), tmp_path / "out"
    good = (tmp_path / "lefts/007.png").read_bytes()
    (tmp_path / "lefts/007.png").write_bytes(good[: len(good) // 2])
    status, text, err = call(*work, "-o", out)
    assert status == 1 and f"{count - 1} done, 0 already there, 1 failed" in text
    assert f"1 of {count} items failed, first 007" in err and "lefts/007.png is damaged" in err
    report = json.loads((out / "batch-report.json").read_text())
    assert (report["done"], report["not_reached"], list(report["failed"])) == (count - 1, 0, ["007"])
    assert "damaged" in report["failed"]["007"] and not (out / "007").exists()
    (tmp_path / "lefts/007.png").write_bytes(good)
    status, text, _ = call(*work, "-o", out, "--json")
    assert (status, json.loads(text)["done"]) == (0, ["007"]), "failures are tried again"
    assert json.loads((out / "batch-report.json").read_text())["failed"] == {}


def test_shards_make_the_same_bytes(tmp_path, make_pairs, call, bytes_in):
    work = make_pairs(7)
    assert call(*work, "-o", tmp_path / "whole")[0] == 0
    for index in (3, 1, 2):
        assert call(*work, "-o", tmp_path / "parts", "--shard", f"{index}/3")[0] == 0
    assert bytes_in(tmp_path / "whole") == bytes_in(tmp_path / "parts")
    reports = [json.loads(path.read_text()) for path in sorted((tmp_path / "parts").glob("batch-report-*"))]
    assert [report["done"] for report in reports] == [3, 2, 2]
    assert len({report["items_sha256"] for report in reports}) == 1, "all saw the same manifest"


def test_another_request_replaces_a_result_and_all_of_its_files(tmp_path, make_pairs, call):
    work, out = make_pairs(2), tmp_path / "out"
    call(*work, "-o", out, "--set", "formats=['npy']")
    assert (out / "000/disparity.npy").exists()
    (out / "000/normals.png").write_bytes(b"of another kind of result")
    os.utime(tmp_path / "lefts/000.png")  # a new time is not a new picture
    assert json.loads(call(*work, "-o", out, "--json", "--set", "formats=['npy']")[1])["kept"] == ["000", "001"]
    assert json.loads(call(*work, "-o", out, "--json")[1])["done"] == ["000", "001"]
    listed = json.loads((out / "000/result.json").read_text())["files"]
    assert {path.name for path in (out / "000").iterdir()} == {*listed, "result.json"}
    (out / "001/valid.png").unlink()
    assert json.loads(call(*work, "-o", out, "--json")[1])["done"] == ["001"]


def test_a_stop_ends_after_the_item_at_hand(tmp_path, make_pairs):
    work, out = make_pairs(40), tmp_path / "out"
    run = start(*work, "-o", out)
    while run.poll() is None and len(list(out.glob("[0-9]*"))) < 2:
        time.sleep(0.005)
    run.send_signal(signal.SIGTERM)
    run.communicate()
    assert run.returncode == 128 + signal.SIGTERM
    report = json.loads((out / "batch-report.json").read_text())
    assert report["done"] == len(list(out.glob("[0-9]*"))) and report["done"] + report["not_reached"] == 40


def test_inputs_are_never_replaced(tmp_path, make_pairs, call):
    make_pairs(1)
    scene = tmp_path / "out/a"
    scene.mkdir(parents=True)
    for name, side in (("disparity.png", "lefts"), ("right.png", "rights")):
        (scene / name).write_bytes((tmp_path / side / "000.png").read_bytes())
    (tmp_path / "list.csv").write_text("left,right,name\nout/a/disparity.png,out/a/right.png,a\n")
    status, _, err = call(tmp_path / "list.csv", "-o", tmp_path / "out", "-m", "sgbm")
    assert (status, err.count("\n")) == (2, 1) and "would be replaced" in err
    assert {path.name for path in scene.iterdir()} == {"disparity.png", "right.png"}
