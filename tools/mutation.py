"""Would the tests notice? Small faults are put into the code, and the share that some test finds is counted (bar P5).

Usage: mutation.py --work DIR [--count 300] [--seed 0]

mutmut (``pip install mutmut``) makes the faults, one at a time, in a clone of the last commit in DIR, and runs the
tests that call the changed function. ``count`` of all possible faults are drawn. What a subprocess runs is not changed,
so tests of the command line by subprocess find nothing here. The score goes into docs/benchmarks/mutation.json and
docs/reliability.md; look at what survived with ``mutmut show NAME`` in DIR/clone. Takes about an hour.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for bench/

from bench.report import machine, table, write_section  # noqa: E402

AREAS = {  # tests → the code they are held to
    "geometry": ("geometry/*",),
    "io": ("io/*",),
    "metrics": ("eval/metrics.py", "eval/confidence.py", "eval/mono_metrics.py", "eval/regions.py"),
    "checkpoints": ("nets/checkpoints.py",),
}
TESTS = (
    "tests/geometry",
    "tests/io",
    "tests/eval/test_eval_metrics.py",
    "tests/eval/test_confidence_metrics.py",
    "tests/eval/test_mono_metrics.py",
    "tests/eval/test_regions.py",
    "tests/nets/test_checkpoints.py",
)
SLOW = ("mutated_files", "1000_random_rigs", "200_mutated", "hostile", "rig_proof")  # minutes, and no finer than others
SURVIVED, UNTESTED = (0,), (5, 33)


def clone(work: Path) -> Path:
    """The last commit with mutmut's settings; kept if it is there, so that a stopped run goes on."""
    folder = work / "clone"
    if not folder.exists():
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        settings = {
            "source_paths": ["src/"],
            "only_mutate": [f"src/depthlight/{pattern}" for patterns in AREAS.values() for pattern in patterns],
            "pytest_add_cli_args_test_selection": [*TESTS, "-k", " and ".join(f"not {name}" for name in SLOW)],
            "also_copy": ["docs", "tools", "bench", "README.md"],
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")
    return folder


def results(folder: Path) -> dict[str, int | None]:
    """Name of a fault → exit code of its tests, None before they ran."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / "mutants").rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def area_of(name: str) -> str:
    """The area whose pattern the fault's module matches."""
    path = name.split(".x", 1)[0].replace("depthlight.", "", 1).replace(".", "/") + ".py"
    return next(
        (area for area, patterns in AREAS.items() if any(fnmatch(path, one) for one in patterns)),
        path.split("/")[0],
    )


def score(drawn: dict[str, int | None]) -> dict[str, Any]:
    """Per area: faults, and how many were found, survived, or are in code that no test calls."""
    counts: dict[str, Counter[str]] = {}
    for name, code in drawn.items():
        kind = "untested" if code in UNTESTED else "survived" if code in SURVIVED else "found"
        counts.setdefault(area_of(name), Counter())[kind] += 1
    return {area: {"faults": sum(found.values()), **found} for area, found in sorted(counts.items())}


def text(raw: dict[str, Any]) -> str:
    """The section of docs/reliability.md."""
    rows = []
    for area, found in {**raw["areas"], "all": raw["all"]}.items():
        share = f"{100 * found.get('found', 0) / found['faults']:.0f} %"
        numbers = (found["faults"], found.get("found", 0), found.get("survived", 0), found.get("untested", 0))
        rows.append([area, *(str(number) for number in numbers), share])
    header = ["area", "faults", "found", "survived", "in code that no test calls", "score"]
    program = f"mutmut {raw['machine']['packages']['mutmut']}, seed {raw['seed']}; {raw['machine']['date']}"
    intro = f"{raw['count']} faults, drawn at random from {raw['possible']:,} ({program})."
    return f"{intro}\n\n{table(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the clone")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = clone(options.work)
    if not results(folder):  # a name that no fault has: all are made, none is tried
        subprocess.run([sys.executable, "-m", "mutmut", "run", "none"], cwd=folder, check=False)
    names = random.Random(options.seed).sample(sorted(results(folder)), options.count)
    subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names], cwd=folder, check=True)
    drawn = {name: code for name, code in results(folder).items() if name in set(names)}
    areas = score(drawn)
    whole: Counter[str] = sum((Counter(found) for found in areas.values()), Counter())
    raw = {
        "machine": machine("mutmut", "pytest"),
        "count": options.count,
        "seed": options.seed,
        "possible": len(results(folder)),
        "areas": areas,
        "all": dict(whole),
        "survived": sorted(name for name, code in drawn.items() if code in SURVIVED + UNTESTED),
    }
    write_section("mutation", text(raw), raw, document=ROOT / "docs" / "reliability.md")


if __name__ == "__main__":
    main()
