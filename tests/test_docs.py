"""Every command and Python block of README and docs works (P3), and every link between them leads somewhere.

A block after the line ``<!-- long -->`` takes hours or a network; its commands are only checked for their flags.
Commands run in one folder per page, which holds the files the pages speak of.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthlight.cli import main as cli
from depthlight.core import registry
from depthlight.io.disparity_files import write_disparity
from depthlight.train.config import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?P<long><!-- long -->\n+)?```(?P<kind>bash|python)\n(?P<code>.*?)```", re.DOTALL)
FLAGS = json.loads((ROOT / "tests" / "api_surface.json").read_text())["verbs"]
CALIB = (
    "cam0=[100 0 48; 0 100 32; 0 0 1]\ncam1=[100 0 50; 0 100 32; 0 0 1]\ndoffs=2\nbaseline=100\nwidth=96\nheight=64\n"
)


def blocks(page: Path, kind: str, *, long: bool) -> list[str]:
    found = BLOCK.finditer(page.read_text())
    return [match["code"] for match in found if match["kind"] == kind and bool(match["long"]) == long]


def commands(page: Path, *, long: bool) -> list[list[str]]:
    lines = "\n".join(blocks(page, "bash", long=long)).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.split("#")[0].replace("&&", ";").split(";")]
    return [shlex.split(part)[1:] for part in parts if part.strip().startswith("depthlight ")]


@pytest.fixture
def workshop(tmp_path, monkeypatch, make_pair):
    """A folder with the files the pages speak of, as the current folder."""
    left, right = make_pair(6, 64, 96)
    for name, image in {
        "left.png": left,
        "right.png": right,
        "side_by_side.png": np.hstack([left, right]),
        "lefts/a.png": left,
        "rights/a.png": right,
        "scenes/made-0/left.png": left,
        "scenes/made-0/right.png": right,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    write_disparity(tmp_path / "scenes/made-0/disp.png", np.full((64, 96), 6, np.float32), sidecar=False)
    (tmp_path / "calib.txt").write_text(CALIB)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _with_commands(*, long: bool) -> list[Path]:
    return [page for page in PAGES if commands(page, long=long)]


@pytest.mark.parametrize("page", _with_commands(long=False), ids=lambda page: page.name)
def test_commands_run(page, workshop, capsys):
    for command in commands(page, long=False):
        assert cli.run(command) == 0, f"depthlight {' '.join(command)}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", _with_commands(long=True), ids=lambda page: page.name)
def test_long_commands_name_real_flags(page):
    for verb, *words in commands(page, long=True):
        used = {word.split("=")[0] for word in words if word.startswith("-")}
        assert used <= set(FLAGS[verb]), f"depthlight {verb} has no {used - set(FLAGS[verb])}"
        if verb == "train":
            recipe = words[0] if words and not words[0].startswith("-") else "cpu"
            assert recipe in RECIPES.names() or recipe.endswith(".toml"), f"no recipe {recipe}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python", long=False)], ids=lambda page: page.name)
def test_python_runs(page, workshop):
    space: dict[str, object] = {}
    for code in blocks(page, "python", long=False):
        exec(compile(code, page.name, "exec"), space)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page):
    """What the site's build makes (``made/``), the build itself checks."""
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith(("http", "mailto"))]
    missing = [link for link in links if not (page.parent / link).exists() and not link.startswith("made/")]
    named = re.findall(r"`((?:docs|tools|tests|bench)/[\w./-]+\.\w+)`", text)
    missing += [path for path in named if not (ROOT / path).exists()]
    assert missing == []


def test_the_sites_model_cards_show_every_lineage(monkeypatch):
    pytest.importorskip("sphinx_gallery")
    spec = importlib.util.spec_from_file_location("conf_of_the_site", ROOT / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    assert f"## {registry.DEFAULT_MODEL}\n" in conf.models()

    from depthlight.nets.mono.imagenet import ORIGIN
    from depthlight.train.lineage import segment

    ours = segment(
        recipe="mono",
        stage=1,
        samples=1200,
        seed=7,
        start_sha256="ab" * 32,
        core_hours=2.5,
        commit="c" * 40,
        changed={"lr": 2},
    )
    card = dataclasses.replace(registry.bundled()[registry.DEFAULT_MODEL], lineage=(ORIGIN, ours))
    monkeypatch.setattr(registry, "bundled", lambda: {"mono.some": card})
    rows = [line for line in conf.models().splitlines() if line.startswith("|")]
    assert f"| {ORIGIN['source']} (Apache-2.0) | | | | `{ORIGIN['sha256'][:12]}` |" in rows
    assert "| mono, lr = 2 (`ccccccc`) | 1,200 | 2.5 | 7 | `abababababab` |" in rows
