"""B3: on a local Ray cluster workers are killed, the job completes, and the bytes are those of a local run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from depthlight.batch.desk import Desk
from depthlight.batch.kinds import Kind, Opened
from depthlight.batch.manifest import Item, Manifest, Work, manifest_of
from depthlight.batch.ray import DEATHS, run_on_ray
from depthlight.core.errors import InputError

pytestmark = pytest.mark.slow


def workers():
    """Processes of this process's Ray that do items."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            found[int(folder.name)] = (parent, (folder / "cmdline").read_bytes())
        except OSError:
            continue

    def ours(pid):
        return pid == os.getpid() or (pid in found and ours(found[pid][0]))

    return [pid for pid, (_, command) in found.items() if command.startswith(b"ray::MapWorker") and ours(pid)]


def test_a_killed_worker_does_not_show(tmp_path, make_pairs, bytes_in):
    make_pairs(60, 96, 160)
    (tmp_path / "lefts/007.png").write_bytes(b"no picture")
    settings = {"model": "sgbm"}
    sides = {side: str(tmp_path / f"{side}s/*.png") for side in ("left", "right")}
    manifest = manifest_of([Work(kind="stereo", settings=settings, **sides)])
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    desk = Desk(manifest.kinds, here)
    wanted = {row.name: row.state for row in map(desk.do, manifest.items)}
    states, killed = {}, 0
    for row in run_on_ray(manifest, manifest.items, there, "local"):
        assert row.name not in states, "each item is told once"
        states[row.name] = row.state
        if not killed:
            for pid in workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    assert killed == 1
    assert states.keys() == wanted.keys()
    assert {name for name, state in states.items() if state == "failed"} == {"007"}
    Desk(manifest.kinds, there).store.clean(item.name for item in manifest.items)
    assert bytes_in(tmp_path / "here") == bytes_in(tmp_path / "there")


@dataclass(frozen=True, kw_only=True)
class Fatal(Kind):
    """Work under which a worker dies if the photo says so."""

    name: ClassVar = "fatal"
    needs: ClassVar = ("photo",)
    owned: ClassVar = ("result.json",)

    def open(self):
        def do(paths, folder):
            if paths["photo"].read_text() == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            (folder / "result.json").write_text("{}")

        return Opened({}, do)


def test_what_kills_its_workers_fails_and_nothing_else_does(tmp_path):
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    items = []
    for index in range(8):
        photo = tmp_path / f"{index}.txt"
        photo.write_text("die" if index == 3 else "live")
        items.append(Item(str(index), 0, {"photo": str(photo)}))
    rows = {row.name: row for row in run_on_ray(Manifest((Fatal(),), ()), items, str(tmp_path / "out"), "local")}
    assert {name for name, row in rows.items() if row.state == "failed"} == {"3"} and len(rows) == 8
    assert f"{DEATHS} workers died" in rows["3"].error


def test_no_cluster_is_told():
    with pytest.raises(InputError, match="no Ray cluster"):
        next(run_on_ray(Manifest((Fatal(),), ()), [Item("a", 0, {})], "out", "127.0.0.1:1"))


def test_a_stop_ends_a_run_on_ray(tmp_path, make_pairs):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "depthlight.cli.main", "batch", *map(str, make_pairs(80, 96, 160)), "-q"]
    run = subprocess.Popen([*command, "-o", str(out), "--ray", "local"], stderr=subprocess.PIPE)
    while run.poll() is None and len(list(out.glob("[0-9]*"))) < 2:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    run.communicate()
    report = json.loads((out / "batch-report.json").read_text())
    assert run.returncode == 128 + signal.SIGTERM and 0 < report["not_reached"] < 80
    assert not list((out / ".partial").iterdir())
