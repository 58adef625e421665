"""What the tests of batch work share: small pairs on disk, and the command line."""

from __future__ import annotations

import pytest
from PIL import Image

from depthlight.cli import main as cli


@pytest.fixture
def call(capsys):
    """A function of one ``batch`` command line; returns (status, standard output, standard error)."""

    def run(*args):
        status = cli.run(["batch", *map(str, args)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def make_pairs(tmp_path, make_pair):
    """A function that writes so many pairs into ``lefts`` and ``rights``."""

    def write(count, height=24, width=48):
        for index in range(count):
            for side, image in zip(
                ("lefts", "rights"), make_pair(2 + index % 5, height, width, seed=index), strict=True
            ):
                path = tmp_path / side / f"{index:03d}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(image).save(path)
        return tmp_path / "lefts/*.png", "--right", tmp_path / "rights/*.png", "-m", "sgbm"

    return write


def contents(folder):
    """Every file of a run but its report, by name."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("batch-report")}


@pytest.fixture
def bytes_in():
    return contents
