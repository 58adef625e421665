"""In CI a skipped test is a failure, also when a whole module is skipped while it is collected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py").read_text()
MODULES = {
    "module": "import pytest\npytest.importorskip('no_such_module')\ndef test_a(): pass\n",
    "single": "import pytest\n@pytest.mark.skip\ndef test_a(): pass\n",
    "none": "def test_a(): pass\n",
}


@pytest.mark.parametrize(
    ("kind", "in_ci", "passes"),
    [
        ("module", True, False),
        ("single", True, False),
        ("none", True, True),
        ("module", False, True),
    ],
)
def test_skips_in_ci(tmp_path, kind, in_ci, passes):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_skipping.py").write_text(MODULES[kind])
    (tmp_path / "test_passing.py").write_text("def test_b(): pass\n")
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | ({"CI": "true"} if in_ci else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env=environment,
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode == 0) == passes
