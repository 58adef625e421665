"""What the verbs' tests share: a call of the command line, a pair on disk."""

from __future__ import annotations

import pytest
from PIL import Image


@pytest.fixture
def save():
    """A function that writes an image and returns its path."""

    def write(path, image):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        return path

    return write


@pytest.fixture
def pair(tmp_path, make_pair, save):
    """A textured pair of 96×64 with a disparity of 8 px, as two files."""
    left, right = make_pair(8, 64, 96)
    return save(tmp_path / "l.png", left), save(tmp_path / "r.png", right)
