"""Section ``footprint``: what an installation takes, how fast it answers, how much there is to read and to test."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report import ROOT, in_words, machine, table, write_section

SHOWN = 10
REPEATS = 10
MIB = 2**20


def run(tests_seconds: float | None = None, *, run_tests: bool = False) -> None:
    """Measure and write the section; the tests' time is given, measured here, or left out."""
    facts = machine()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "venv"
        print("footprint: installing the core into a new environment", flush=True)
        python = install(home)
        packages = sizes(home)
        start_times = {name: wall(command) for name, command in _commands(python).items()}
    if run_tests:
        print("footprint: running the tests", flush=True)
        tests_seconds = _timed([sys.executable, "-m", "pytest", "-q"])
    raw = {
        "machine": facts,
        "packages_mib": packages,
        "total_mib": sum(packages.values()),
        "seconds": start_times,
        "tests": {"default": _collected("not slow"), "slow": _collected("slow"), "default_seconds": tests_seconds},
        "lines": lines(),
    }
    write_section("footprint", _text(raw), raw)


def install(home: Path) -> Path:
    """A new environment with this project and its core dependencies, and no pip; its python."""
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return python


def sizes(home: Path) -> dict[str, float]:
    """MiB on disk of each entry of site-packages, largest first; shared libraries (``x.libs``) count with ``x``."""
    site = next(home.glob("lib/python*/site-packages"))
    found: dict[str, float] = {}
    for entry in site.iterdir():
        name = re.sub(r"(-[^-]+\.dist-info|\.libs|\.py|\.pth)$", "", entry.name).replace("_python_headless", "")
        name = {"opencv": "cv2", "opencv_python_headless": "cv2", "PIL": "pillow"}.get(name, name)
        found[name] = found.get(name, 0.0) + _disk(entry) / MIB
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _disk(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(512 * file.lstat().st_blocks for file in files)


def _commands(python: Path) -> dict[str, list[str]]:
    program = str(python.with_name("depthlight"))
    return {
        "python -c pass": [str(python), "-c", "pass"],
        "python -c 'import depthlight'": [str(python), "-c", "import depthlight"],
        "depthlight --help": [program, "--help"],
        "depthlight stereo --help": [program, "stereo", "--help"],
    }


def wall(command: Sequence[str], repeats: int = REPEATS) -> float:
    """Median seconds of a whole process, after one run that does not count."""
    _timed(command)
    return statistics.median(_timed(command) for _ in range(repeats))


def _timed(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _collected(marker: str) -> int:
    """How many tests pytest finds for a marker expression."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", marker]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})
    if done.returncode not in (0, 5):  # 5: none found
        raise RuntimeError(f"pytest cannot collect the tests (status {done.returncode})")
    return sum("::" in line for line in done.stdout.splitlines())


def lines() -> dict[str, int]:
    """Lines of Python per part of the package, and of tests and tools."""
    package = ROOT / "src" / "depthlight"
    parts = {
        f"depthlight/{entry.name}": _lines(entry) for entry in sorted(package.iterdir()) if entry.name != "__pycache__"
    }
    others = {name: _lines(ROOT / name) for name in ("tests", "tools", "bench")}
    return {name: count for name, count in {**parts, **others}.items() if count}


def _lines(path: Path) -> int:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.suffix == ".py" else []
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def _text(raw: Mapping[str, Any]) -> str:
    packages, tests, count = raw["packages_mib"], raw["tests"], raw["lines"]
    largest = dict(list(packages.items())[:SHOWN])
    rest = raw["total_mib"] - sum(largest.values())
    total = sum(lines for name, lines in count.items() if name.startswith("depthlight/"))
    seconds = tests["default_seconds"]
    taken = "" if seconds is None else f" in {seconds / 60:.1f} minutes"
    return "\n\n".join(
        [
            f"{in_words(raw['machine'])}. Times are of whole processes, median of {REPEATS}; sizes are disk blocks.",
            f"### Core installation: {raw['total_mib']:.0f} MiB",
            table(
                ["package", "MiB"],
                [[name, f"{mib:.1f}"] for name, mib in {**largest, f"{len(packages) - SHOWN} others": rest}.items()],
            ),
            "### Start",
            table(["command", "seconds"], [[f"`{name}`", f"{value:.2f}"] for name, value in raw["seconds"].items()]),
            f"### Tests: {tests['default']} in the default run{taken}, {tests['slow']} more marked slow",
            f"### Code: {total} lines of Python in the package",
            table(["part", "lines"], [[name, str(lines)] for name, lines in count.items()]),
        ]
    )
