"""The help of ``depthlight train`` names every recipe, and costs no torch."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from depthlight.train.config import RECIPES

WITHOUT_TORCH = """
import sys
from depthlight.cli.main import run
assert run(["--help"]) == 0 and "depthlight.cli.train" not in sys.modules
assert run(["train", "--help"]) == 0 and "torch" not in sys.modules
"""


@pytest.mark.parametrize("recipe", RECIPES.names())
def test_the_help_names_every_recipe(call, recipe):
    status, out, _ = call("train", "--help")
    assert status == 0
    assert recipe in re.split(r"[\s,]+", out)


def test_the_help_needs_no_torch():
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True, stdout=subprocess.DEVNULL)
