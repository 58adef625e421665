"""The tables of settings in ``docs/how-to/refine.md`` name every setting, and its defaults are the code's."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest
import torch

from depthlight.core.config import to_dict
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.prior.denoiser import Denoiser, DenoiserConfig
from depthlight.refine import guidance_diffusion as diffusion
from depthlight.refine.config import GuidanceConfig, RefineConfig, load_recipe
from depthlight.refine.guidance_small import load_guidance
from depthlight.refine.stereo_config import StereoRefineConfig

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "refine.md"
OF_THE_PRIOR = "the prior's"


def tables():
    """Every table of settings: the names of its columns, and its rows by the setting."""
    found = []
    for text in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
        if head[0] == "setting" and len(head) > 2:
            found.append((head, {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in rows}))
    return found


def value(cell):
    """What a cell of a table stands for."""
    if cell == OF_THE_PRIOR:
        return None
    found = tomllib.loads(f"x = {cell.strip('`')}")["x"]
    return tuple(found) if isinstance(found, list) else found


def names(config, *, without=()):
    return {field.name for field in dataclasses.fields(config)} - {*without}


def test_there_are_four_tables():
    assert [len(head) for head, _ in tables()] == [5, 5, 4, 4]


def test_settings_of_a_photo():
    _, rows = tables()[0]
    assert set(rows) == names(RefineConfig, without={"guidance"})
    fast = load_recipe("fast")
    for name, row in rows.items():
        assert value(row["default"]) == getattr(RefineConfig(), name) == getattr(load_recipe("paper"), name), name
        assert value(row["`fast`"]) == getattr(fast, name), name
        assert row["meaning"], name


def test_settings_of_the_guidance():
    _, rows = tables()[1]
    assert set(rows) == names(GuidanceConfig)
    configs = {"default": GuidanceConfig(), **{f"`{name}`": load_recipe(name).guidance for name in ("paper", "fast")}}
    for name, row in rows.items():
        for column, config in configs.items():
            assert value(row[column]) == getattr(config, name), (name, column)


@pytest.mark.parametrize(("column", "told"), [("small, told", True), ("small, not told", False)])
def test_what_small_priors_take_by_themselves(column, told, tmp_path):
    torch.manual_seed(0)
    net = Denoiser(dataclasses.replace(DenoiserConfig.tiny(), conditional=told))
    metadata = {"name": "relight.test", "family": "relight", "network": json.dumps(to_dict(net.config))}
    save_safetensors(tmp_path / "prior.safetensors", net, metadata)
    guidance = load_guidance(str(tmp_path / "prior.safetensors"), GuidanceConfig(), device=torch.device("cpu"))
    _, rows = tables()[2]
    assert {name: value(row[column]) for name, row in rows.items()} == {name: getattr(guidance, name) for name in rows}


def test_what_stable_diffusion_takes_by_itself():
    _, rows = tables()[2]
    taken = diffusion.SCALE, diffusion.T_HIGH, diffusion.T_LOW, diffusion.ANNEAL, diffusion.WEIGHTING
    assert tuple(value(row["Stable Diffusion"]) for row in rows.values()) == taken


def test_the_recipe_that_is_shown_is_one(tmp_path):
    shown = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for text in shown:
        (tmp_path / "mine.toml").write_text(text)
        assert load_recipe(str(tmp_path / "mine.toml")).lights == 6
    assert len(shown) == 1


def test_settings_of_a_pair():
    _, rows = tables()[3]
    assert set(rows) == names(StereoRefineConfig)
    for name, row in rows.items():
        assert value(row["default"]) == getattr(StereoRefineConfig(), name), name
