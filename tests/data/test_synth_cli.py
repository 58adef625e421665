"""``depthlight synth``: a pool from the command line, continued, and wrong input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from depthlight.cli.main import run

SMALL = ["--size", "64x128", "--families", "layered", "--disparity", "8-40", "--camera", "off", "-q"]


def test_writes_continues_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, sheet = tmp_path / "pool", tmp_path / "sheet.png"
    assert run(["synth", str(pool), "-n", "2", "--json", "--sheet", str(sheet), *SMALL]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["written"], first["kept"]) == (2, 0)
    assert cv2.imread(str(sheet)).shape == (2 * 240, 3 * 480, 3)
    assert run(["synth", str(pool), "-n", "2", "--start", "1", "--json", *SMALL]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["written"], again["kept"]) == (1, 1)
    assert sorted(path.name for path in pool.iterdir()) == ["000000", "000001", "000002", "synth.json"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "7"], "--size"),
        (["--size", "infx640"], "--size"),
        (["--size", "nanx640"], "--size"),
        (["--size", "288.9x640"], "--size"),
        (["--size", "288x" + "9" * 5000], "--size"),
        (["--disparity", "far"], "--disparity"),
        (["--families", "layered=lots"], "--families"),
        (["--families", "leyered"], "layered"),
        (["--textures", "nowhere"], "nowhere"),
        (["--disparity", "8-999"], "max_max_disp"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert run(["synth", str(tmp_path / "pool"), "-n", "1", "-q", *options]) == 2
    message = capsys.readouterr().err.strip()
    assert words in message and "\n" not in message
    assert not (tmp_path / "pool").exists()
