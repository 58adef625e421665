"""What an item of ``depthlight batch`` costs: docs/benchmarks/batch.json and the tables of docs/explanation/scaling.md.

Usage: python tools/batch_report.py [--note TEXT] [--print-only]

CPU seconds (user and system, of the process that works) are counted, as wall time means little on a machine that does
other things: those of a run over many pairs less those of a run over few, by their difference in pairs. What is left is
the start. The pairs are the engine's. ``--print-only`` writes the tables anew from the stored figures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from depthlight.batch.desk import Desk
from depthlight.batch.manifest import Work, manifest_of

ROOT = Path(__file__).parents[1]
STORED, PAGE = ROOT / "docs/benchmarks/batch.json", ROOT / "docs/explanation/scaling.md"
CASES: dict[str, tuple[str, tuple[str, ...], int]] = {  # name: size, options, pairs
    "stereo, `light`": ("480x640", (), 8),
    "stereo, `light`, both views checked": ("480x640", ("--set", "left_right=true"), 5),
    "stereo, `light`, 1280×720": ("720x1280", (), 4),
    "stereo, `sgbm`": ("480x640", ("-m", "sgbm"), 12),
    "labels, without the ensemble": ("480x640", ("--kind", "labels", "--set", "ensemble=false"), 4),
    "labels": ("480x640", ("--kind", "labels"), 3),
}
FEW = 1
ROWS = 100_000


def cpu(*commands: Sequence[str]) -> float:
    """CPU seconds of processes at the same time, and of their children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) for command in commands]
    if max([process.wait() for process in running]):
        raise SystemExit("one of them failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def batch(*args: str) -> list[str]:
    return [sys.executable, "-m", "depthlight.cli.main", "batch", "-q", *args]


def table(scratch: Path, size: str, count: int) -> str:
    """A list of so many engine pairs of a size."""
    pool = scratch / size
    make = (sys.executable, "-m", "depthlight.cli.main", "synth", str(pool), "-n", "12", "--size", size, "-q")
    if not pool.exists():
        cpu(make)
    scenes = sorted(path.parent for path in pool.glob("*/left.*"))[:count]
    rows = [f"{size}/{scene.name}/left.png,{size}/{scene.name}/right.png,{scene.name}" for scene in scenes]
    (scratch / f"{size}-{count}.csv").write_text("\n".join(["left,right,name", *rows]) + "\n")
    return str(scratch / f"{size}-{count}.csv")


def case(scratch: Path, size: str, options: tuple[str, ...], count: int) -> dict[str, Any]:
    """Cost of an item, of finding it done, and of the start."""
    few, many, out = table(scratch, size, FEW), table(scratch, size, count), scratch / "out"
    first = cpu(batch(few, "-o", str(scratch / "few"), *options))
    all_of_them = cpu(batch(many, "-o", str(out), *options))
    again = cpu(batch(few, "-o", str(scratch / "few"), *options))
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith("batch-report")]
    facts = {
        "size": size,
        "cpu_seconds": round((all_of_them - first) / (count - FEW), 3),
        "start_cpu_seconds": round(again, 2),
        "bytes": sum(path.stat().st_size for path in files) // count,
        "files": len(files) // count,
    }
    subprocess.run(["rm", "-r", str(out), str(scratch / "few")], check=True)
    return facts


def if_done(scratch: Path, rounds: int = 50) -> float:
    """CPU seconds to find a pair done."""
    work = Work(kind="stereo", table=table(scratch, "480x640", 8), settings={"model": "sgbm"})
    manifest = manifest_of([work])
    desk = Desk(manifest.kinds, str(scratch / "done"))
    for item in manifest.items:
        desk.do(item)
    begun = time.process_time()
    if {desk.do(item).state for _ in range(rounds) for item in manifest.items} != {"kept"}:
        raise SystemExit("a pair was done again")
    return (time.process_time() - begun) / rounds / len(manifest.items)


def two_at_once(scratch: Path) -> float:
    """CPU seconds of two shards that run together, as a multiple of those of the same shards one after the other."""
    pairs = table(scratch, "480x640", 8)
    shards = [batch(pairs, "-o", str(scratch / "shards"), "--shard", f"{index}/2") for index in (1, 2)]
    alone = sum(cpu(shard) for shard in shards)
    subprocess.run(["rm", "-r", str(scratch / "shards")], check=True)
    return cpu(*shards) / alone


def listing(scratch: Path) -> float:
    """CPU seconds to read a manifest of :data:`ROWS` pairs, a list of files that are not even there."""
    rows = (f"set/{index // 1000}/{index}_l.png,set/{index // 1000}/{index}_r.png" for index in range(ROWS))
    (scratch / "long.csv").write_text("\n".join(["left,right", *rows]) + "\n")
    code = "import sys; from depthlight.batch.manifest import *; manifest_of([Work(kind='stereo', table=sys.argv[1])])"
    return cpu([sys.executable, "-c", code, str(scratch / "long.csv")]) - cpu(
        [sys.executable, "-c", code.split("; ")[1]]
    )


def measure(note: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        cases = {name: case(Path(scratch), *settings) for name, settings in CASES.items()}
        return {
            "note": note,
            "cases": cases,
            "cpu_seconds_if_done": round(if_done(Path(scratch)), 5),
            "two_at_once": round(two_at_once(Path(scratch)), 2),
            "listing_cpu_seconds_per_million": round(listing(Path(scratch)) * 1_000_000 / ROWS, 1),
        }


def tables(stored: dict[str, Any]) -> str:
    lines = [
        "| work | CPU s per pair | pairs per core and hour | core-hours per million pairs | TB per million | files |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for name, facts in stored["cases"].items():
        cost = facts["cpu_seconds"]
        hours, volume = cost * 1e6 / 3600, facts["bytes"] / 1e6
        lines.append(f"| {name} | {cost:.2f} | {3600 / cost:,.0f} | {hours:,.0f} | {volume:.2f} | {facts['files']} |")
    shown = stored["cases"]["stereo, `light`"]
    told = (
        f"640×480 where no size is given; one thread; {stored['note']}",
        (
            f"Start of a process: {shown['start_cpu_seconds']:.1f} CPU s. A pair that is done already: "
            f"{1000 * stored['cpu_seconds_if_done']:.1f} ms of CPU. Reading a table of a million pairs: "
            f"{stored['listing_cpu_seconds_per_million']:.0f} CPU s. Two shards at once on the two cores: "
            f"{stored['two_at_once']:.2f} times the CPU of one after the other."
        ),
    )
    lines += [line for text in told for line in ("", textwrap.fill(text, 120))]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--note", default="")
    parser.add_argument("--print-only", action="store_true")
    given = parser.parse_args()
    stored = json.loads(STORED.read_text()) if given.print_only else measure(given.note)
    STORED.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    page, text = PAGE.read_text(), f"<!-- batch table -->\n{tables(stored)}\n<!-- /batch table -->"
    PAGE.write_text(re.sub(r"<!-- batch table -->.*<!-- /batch table -->", lambda _: text, page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
