"""Scene folders: whole or absent, continued after an interruption, the same whoever writes them."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from depthlight.core.errors import ConfigError, DepthlightError, LimitError, OutputError
from depthlight.data.samples import StereoSample
from depthlight.data.synth import writer
from depthlight.data.synth.camera import CameraConfig
from depthlight.data.synth.engine import VERSIONS, Engine, SynthConfig
from depthlight.data.synth.writer import contact_sheet, scene_files, write_pool, write_scene

CONFIG = SynthConfig(
    height=64, width=128, families={"layered": 1.0}, max_max_disp=40.0, camera=CameraConfig(strength=0.0)
)


@pytest.fixture(scope="module")
def sample() -> StereoSample:
    return Engine(CONFIG).sample(3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_scene_reads_back(sample: StereoSample, tmp_path: Path) -> None:
    assert write_scene(tmp_path / "a", sample)
    read = {path.name: path for path in (tmp_path / "a").iterdir()}
    assert set(read) == {"left.png", "right.png", "disp.png", "disp_right.png", "nocc.png", "calib.txt", "meta.json"}
    assert np.array_equal(cv2.imread(str(read["left.png"]))[:, :, ::-1], sample.left_HW3)
    for name, values in (("disp.png", sample.disparity_HW), ("disp_right.png", sample.right_disparity_HW)):
        stored = cv2.imread(str(read[name]), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16 and stored.min() >= 1
        assert np.abs(stored / 256 - values).max() <= 1 / 512 + 1e-6
    assert np.array_equal(cv2.imread(str(read["nocc.png"]), cv2.IMREAD_UNCHANGED) == 255, sample.visible_HW)
    assert json.loads(read["meta.json"].read_text())["family"] == "layered"
    assert "baseline=" in read["calib.txt"].read_text()


def test_unknown_is_zero_and_out_of_range_is_refused(sample: StereoSample) -> None:
    assert sample.disparity_HW is not None
    valid = np.ones(sample.disparity_HW.shape, np.bool_)
    valid[:5] = False
    far = np.zeros_like(sample.disparity_HW)
    part = StereoSample(sample.left_HW3, sample.right_HW3, "x", disparity_HW=far, valid_HW=valid)
    stored = cv2.imdecode(np.frombuffer(scene_files(part)["disp.png"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert (stored[:5] == 0).all() and (stored[5:] == 1).all()
    beyond = StereoSample(sample.left_HW3, sample.right_HW3, "x", disparity_HW=far + 256, valid_HW=valid)
    with pytest.raises(LimitError, match=r"255\.99"):
        scene_files(beyond)


def test_interrupted_write_leaves_nothing_and_resumes(
    sample: StereoSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def full_disk(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.os, "fsync", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_scene(tmp_path / "a", sample)
    assert list(tmp_path.iterdir()) == []
    assert write_scene(tmp_path / "a", sample)
    assert not write_scene(tmp_path / "a", sample)


def test_a_pool_is_continued_and_old_leftovers_are_removed(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert dict(write_pool(whole, CONFIG, range(4))) == dict.fromkeys(range(4), True)
    partial = write_pool(broken, CONFIG, range(4))
    next(partial)
    partial.close()
    dead, alive = broken / ".000001.dead.tmp", broken / ".000002.alive.tmp"
    for folder, age in ((dead, 2), (alive, 0)):  # what a kill left, and what another process may be writing
        folder.mkdir()
        (folder / "left.png").write_bytes(b"half")
        os.utime(folder, times=(time.time() - age * writer.STALE_SECONDS,) * 2)
    assert dict(write_pool(broken, CONFIG, range(4))) == {0: False, 1: True, 2: True, 3: True}
    assert not dead.exists() and (alive / "left.png").is_file()
    shutil.rmtree(alive)
    assert contents(whole) == contents(broken)


def test_processes_write_what_one_writes(tmp_path: Path) -> None:
    list(write_pool(tmp_path / "one", CONFIG, range(3)))
    assert sorted(write_pool(tmp_path / "two", CONFIG, range(3), jobs=2)) == [(0, True), (1, True), (2, True)]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_config_does_not_mix_into_a_pool(tmp_path: Path) -> None:
    list(write_pool(tmp_path, CONFIG, range(1)))
    other = SynthConfig(height=64, width=128, families={"layered": 1.0}, max_max_disp=40.0, seed=9)
    with pytest.raises(ConfigError, match=r"other settings \(camera, seed\)"):
        list(write_pool(tmp_path, other, range(2)))


def test_other_textures_and_another_engine_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    textures = tmp_path / "textures"
    textures.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(textures / name)
    config = SynthConfig(height=64, width=128, families={"layered": 1.0}, max_max_disp=40.0, textures=str(textures))
    list(write_pool(tmp_path / "pool", config, range(1)))
    moved = tmp_path / "elsewhere" / "textures"
    shutil.copytree(textures, moved)
    list(write_pool(tmp_path / "pool", replace(config, textures=str(moved)), range(2)))
    (textures / "c.png").write_bytes((textures / "a.png").read_bytes())
    with pytest.raises(ConfigError, match=r"other settings \(textures\)"):
        list(write_pool(tmp_path / "pool", config, range(3)))
    (textures / "c.png").unlink()
    monkeypatch.setitem(VERSIONS, "layered", 9)
    with pytest.raises(ConfigError, match=r"other settings \(version\)"):
        list(write_pool(tmp_path / "pool", config, range(3)))


def test_the_engine_of_every_family_in_the_mixture_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = replace(CONFIG, families={"layered": 1.0, "rooms": 1.0, "photowarp": 0.0})
    list(write_pool(tmp_path / "mixed", mixed, range(1)))
    list(write_pool(tmp_path / "one", CONFIG, range(1)))
    manifest = tmp_path / "one" / writer.MANIFEST
    settings = json.loads(manifest.read_text())
    assert settings["version"] == {"layered": VERSIONS["layered"]}
    manifest.write_text(json.dumps(settings | {"version": VERSIONS["layered"]}))  # as it was once written
    assert dict(write_pool(tmp_path / "one", CONFIG, range(1))) == {0: False}
    monkeypatch.setitem(VERSIONS, "photowarp", 9)
    assert dict(write_pool(tmp_path / "mixed", mixed, range(1))) == {0: False}
    monkeypatch.setitem(VERSIONS, "layered", 1)  # below the other's
    for folder, config in (("mixed", mixed), ("one", CONFIG)):
        with pytest.raises(ConfigError, match=r"other settings \(version\)"):
            list(write_pool(tmp_path / folder, config, range(1)))


def test_a_failing_worker_is_told_in_one_line(tmp_path: Path) -> None:
    textures = tmp_path / "textures"
    textures.mkdir()
    (textures / "broken.png").write_bytes(b"not an image")
    config = SynthConfig(height=64, width=128, families={"layered": 1.0}, textures=str(textures))
    for jobs in (1, 2):
        with pytest.raises(DepthlightError, match=r"broken\.png"):
            list(write_pool(tmp_path / f"pool{jobs}", config, range(12), jobs=jobs))


def test_contact_sheet_has_a_row_per_sample(sample: StereoSample) -> None:
    sheet = contact_sheet([sample, sample], width=128)
    assert sheet.shape == (128, 384, 3)
    assert np.array_equal(sheet[:64, :128], sample.left_HW3)
