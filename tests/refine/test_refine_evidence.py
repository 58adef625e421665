"""The evidence tool: damage is deterministic, runs are resumable, and the tables say what was measured."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthlight.core.config import to_dict
from depthlight.eval.mono_scenes import DepthScenes
from depthlight.refine.config import changed

TOOL = Path(__file__).parents[2] / "tools" / "refine_evidence.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("refine_evidence_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scenes(tmp_path, photo):
    """Three images over a sphere on a plane, millimetres."""
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    depth = 4000 - 1500 * np.sqrt(np.clip(0.5 - x**2 - y**2, 0, None)) - 500 * y
    for index in range(3):
        folder = tmp_path / "scenes" / f"s{index}"
        folder.mkdir(parents=True)
        Image.fromarray(np.roll(photo, 7 * index, 1)).save(folder / "image.png")
        Image.fromarray(depth.astype(np.uint16)).save(folder / "depth.png")
    return DepthScenes(tmp_path / "scenes")


@pytest.fixture
def study(tool, scenes, tmp_path, model, pull, quick):
    config = changed(quick(steps=3, min_stride=4, camera="orthographic"), {})
    return tool.Study(scenes, tmp_path / "out", model, config, {"prior": pull, "plain": pull}, tool.damages(scenes))


def test_every_row_is_measured_and_nothing_twice(tool, study):
    said = []
    names = [name for name in tool.ROWS if not name.startswith("restarts-1")]
    study.run(names, say=said.append)
    assert len(said) == 3 * len(names)
    study.run(names, say=said.append)
    assert len(said) == 3 * len(names), "all was there"
    study.file("head", 1).write_text("{")
    study.run(names, say=said.append)
    assert len(said) == 3 * len(names) + 1, "the damaged one is done again"
    text = tool.table(study, names)
    assert len(text.splitlines()) == 2 + len(names) and "nan" not in text.split("boundary")[0]
    assert tool.by_damage(study, "refined").count("| clean | 3 |") == 1
    start, other = (json.loads(study.file(name, 0).read_text()) for name in ("start", "inverted-start"))
    assert start["normal_mean"] != other["normal_mean"]


def test_another_configuration_is_done_again(tool, study):
    study.run(["start", "refined"], say=lambda text: None)
    other = tool.replace(study, config=changed(study.config, {"steps": 2}))
    assert study.read("refined", 0) is not None and other.read("refined", 0) is None


def test_what_happens_to_an_image_does_not_hang_on_which_others_are_taken(tool, study):
    study = tool.replace(study, damage={"s1": "noisy", "s2": "jpeg"})
    study.run(["start"], say=lambda text: None)
    some = tool.replace(study, scenes=DepthScenes(study.scenes.root, ["s2"]))
    assert some.kind(0) == "jpeg" and some.read("start", 0)["damage"] == "jpeg"
    clean = tool.replace(some, damage={})
    assert clean.read("start", 0) is None, "another image is another request"


def test_a_row_without_its_prior_is_left_out(tool, study):
    alone = tool.replace(study, priors={"prior": study.priors["prior"]})
    alone.run(["plain-prior"], say=pytest.fail)
    assert "unconditional" not in tool.table(alone, ["plain-prior"])


def test_rows_are_valid_changes_of_every_recipe(tool):
    from depthlight.refine.config import load_recipe

    configs = {name: to_dict(changed(load_recipe("fast"), row.changes)) for name, row in tool.ROWS.items()}
    assert configs["depth-direct"]["optimise"] == ["depth"] and configs["restarts-3"]["restarts"] == 3


def test_the_shares_of_damage(tool):
    kinds = [tool.damage_of(index) for index in range(64)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"clean": 24, **dict.fromkeys(tool.DAMAGES, 8)}
    assert tool.damage_of(64) == "clean"


def test_damage_is_deterministic_and_does_damage(tool, scenes):
    scene = scenes[0]
    for kind in tool.DAMAGES:
        one, again = tool.damaged(scene, kind), tool.damaged(scene, kind)
        assert np.array_equal(one, again) and one.dtype == np.uint8 and one.shape == scene.image_HW3.shape
        assert np.abs(one.astype(int) - scene.image_HW3).mean() > 2
        assert not np.array_equal(one, tool.damaged(scenes[1], kind))
    assert tool.damaged(scene, "darkened").mean() < 0.6 * scene.image_HW3.mean()
    fog = tool.damaged(scene, "foggy").astype(float)
    far, near = scene.depth_HW > np.quantile(scene.depth_HW, 0.9), scene.depth_HW < np.quantile(scene.depth_HW, 0.1)
    assert fog[far].std() / scene.image_HW3[far].std() < fog[near].std() / scene.image_HW3[near].std()
    assert tool.damaged(scene, "clean") is scene.image_HW3


def test_the_sign_test(tool):
    assert tool.sign_test(5, 5) == 1.0 and tool.sign_test(0, 0) == 1.0
    assert tool.sign_test(10, 0) == pytest.approx(2 / 1024)
    assert tool.sign_test(8, 2) == tool.sign_test(2, 8) == pytest.approx(2 * (45 + 10 + 1) / 1024)


def test_a_comparison_is_paired(tool):
    base = [{"e": 2.0}, {"e": 4.0}, {"e": None}]
    found = tool.compare([{"e": 1.0}, {"e": 4.0}, {"e": 9.0}], base, "e")
    assert (found["n"], found["mean"], found["base"], found["better"]) == (2, 2.5, 3.0, 50.0)
    assert found["change"] == pytest.approx(-100 / 6) and found["p"] == 1.0
    assert math.isnan(tool.compare([{"e": None}], [{"e": 1.0}], "e")["mean"])
