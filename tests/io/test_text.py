"""The reader of small text files: regular, small, UTF-8, or one line that says what is wrong."""

from __future__ import annotations

import os

import pytest

from depthlight.core.errors import FileFormatError, LimitError
from depthlight.io.text import MAX_BYTES, read_text


@pytest.mark.parametrize("data", ["", "a\nb\n", "schön", "\ufeffa"])
def test_text_comes_back(tmp_path, data):
    (tmp_path / "t").write_text(data, encoding="utf-8")
    assert read_text(tmp_path / "t", what="a text") == data.removeprefix("\ufeff")


def test_the_limit_is_exact(tmp_path):
    (tmp_path / "t").write_bytes(b"x" * MAX_BYTES)
    assert len(read_text(tmp_path / "t", what="a text")) == MAX_BYTES
    (tmp_path / "t").write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(LimitError, match="too large for a text"):
        read_text(tmp_path / "t", what="a text")


@pytest.mark.timeout(20)
def test_what_is_no_text_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    for name, says in (
        ("pipe", "not a regular file"),
        (".", "not a regular file"),
        ("none", "does not exist"),
        ("bytes", "UTF-8 .byte 2."),
        ("a\0b", "cannot read"),
    ):
        with pytest.raises(FileFormatError, match=says):
            read_text(tmp_path / name, what="a text")
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_text("/dev/null", what="a text")
