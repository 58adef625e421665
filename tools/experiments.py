"""The training experiments of docs/experiments.md: one thing changed at a time, at an equal budget of core-hours.

Usage: experiments.py --pool DIR --runs DIR --scenes DIR --list FILE (run NAME | next | table)

``next`` starts the first run that is not finished, or resumes it; ``table`` prints the rows for the page. DIR of --pool
holds one folder of scenes per family. Stop a run with SIGTERM; the same call goes on with it.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MIXTURE = {"layered": 0.40, "meshes": 0.25, "photowarp": 0.20, "rooms": 0.15}
HOURS = 2.0
SMALL = {"pyramid": [16, 24, 40, 64, 96], "match": 32, "groups": 4, "volume": [4, 8, 16, 32], "upsample": 32}


@dataclass(frozen=True)
class Experiment:
    """What differs from the baseline."""

    question: str
    settings: tuple[str, ...] = ()
    without: str = ""  # a family left out of the mixture


EXPERIMENTS = {
    "baseline": Experiment("our recipe"),
    "light-s": Experiment("a network of at most 8 GMACs", (f"network_config={json.dumps(SMALL)}",)),
    "loss-adaptive": Experiment("multi-modal target (arXiv 2306.15612)", ("loss.target='adaptive'",)),
    "symmetric": Experiment("without asymmetric photometrics", ("augment.asymmetric=false",)),
    "no-photowarp": Experiment("without photo warps", without="photowarp"),
    "las2-s": Experiment("LAS2-S: 2-D aggregation only", ("network='las2-s'",)),
    "las1": Experiment("LAS1: hybrid 3-D to 2-D aggregation", ("network='las1'",)),
    "stage2": Experiment(
        "stage 2 from the baseline's weights", ("stage=2", "schedule.core_hours=0.5", "schedule.lr=2e-4")
    ),
}


def toml(text: str) -> str:
    """JSON objects as TOML inline tables (the only difference that matters here)."""
    key, value = text.split("=", 1)
    if value.startswith("{"):
        inner = ", ".join(f"{name} = {json.dumps(item)}" for name, item in json.loads(value).items())
        return f"{key}={{{inner}}}"
    return text


def command(name: str, args: argparse.Namespace) -> list[str]:
    """The depthlight call that starts or resumes a run."""
    folder = args.runs / f"exp-{name}"
    resumed = (folder / "config.json").is_file()
    head = [sys.executable, "-m", "depthlight", "train", *(["--resume"] if resumed else ["cpu"]), "-o", str(folder)]
    if resumed:
        return head
    experiment = EXPERIMENTS[name]
    sources = ", ".join(
        f"{{kind = 'scenes', path = '{args.pool / family}', weight = {share}}}"
        for family, share in MIXTURE.items()
        if family != experiment.without
    )
    settings = [
        f"data=[{sources}]",
        f"schedule.core_hours={HOURS}",
        f"evaluate.folder='{args.scenes}'",
        f"evaluate.list='{args.list}'",
        "evaluate.minutes=30",
        *(toml(text) for text in experiment.settings),
        *args.set,
    ]
    if name == "stage2":
        settings.append(f"start='{args.runs / 'exp-baseline' / 'model.safetensors'}'")
    return [*head, *(part for setting in settings for part in ("--set", setting))]


def rows(folder: Path) -> list[dict[str, str]]:
    """The run's own evaluations, oldest first."""
    table = folder / "evaluation.csv"
    if not table.is_file():
        return []
    with table.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def finished(folder: Path) -> bool:
    """Whether the run's last evaluation came after its learning rate had decayed."""
    found = rows(folder)
    return bool(found) and float(found[-1]["lr"]) < 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="run, next or table")
    parser.add_argument("name", nargs="?", choices=list(EXPERIMENTS))
    for option in ("--pool", "--runs", "--scenes", "--list"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="further settings, the same for all runs")
    args = parser.parse_args()
    if args.what == "table":
        for name, experiment in EXPERIMENTS.items():
            for row in rows(args.runs / f"exp-{name}")[-1:]:
                figures = " | ".join(f"{float(row[key]):.2f}" for key in ("epe", "bad1", "bad2", "d1"))
                print(f"| {name} | {experiment.question} | {row['core_hours']} | {row['samples']} | {figures} |")
        return 0
    name = args.name or next(n for n in EXPERIMENTS if not finished(args.runs / f"exp-{n}"))
    print(f"experiment {name}: {EXPERIMENTS[name].question}", flush=True)
    return subprocess.run(command(name, args), check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
