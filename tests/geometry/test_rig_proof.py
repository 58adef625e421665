"""The proof behind docs/metres.md: one rig, from rendered raw pictures to metres through the command line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "rig_proof.py"


@pytest.fixture(scope="module")
def tool():
    specification = importlib.util.spec_from_file_location("rig_proof", TOOL)
    module = importlib.util.module_from_spec(specification)
    sys.modules["rig_proof"] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 3])  # a pinhole and a fisheye rig
def test_raw_cameras_to_metres(tool, tmp_path, index):
    row = tool.prove(index, 0, tmp_path)
    assert row["median depth error %"] <= tool.BAR
    assert row["baseline error %"] < 0.5
    assert row["rows px"] < 0.3
    assert row["pixels"] > 150_000


def test_the_table_counts_what_held(tool):
    row = dict.fromkeys(tool.COLUMNS, "x") | {"median depth error %": 0.5, "below 2 %": 0.9}
    text = tool.table([row, {**row, "median depth error %": 1.5}], 7)
    assert "1 of 2 rigs have a median depth error of at most 1 %" in text
    assert "the largest 1.50 %" in text
    assert text.count("| x |") > 1
