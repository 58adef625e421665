"""The training experiments of docs/experiments.md: one thing changed at a time, at an equal budget of core-hours.

Usage: experiments.py --pool DIR --runs DIR --scenes DIR --list FILE [--seed N] [--ranks N] (run NAME | next | table)

``next`` starts the first run that is not finished, or resumes it; ``table`` prints the rows for the page. DIR of --pool
holds one folder of scenes per family. Stop a run with SIGTERM; the same call goes on with it. All runs must see one
pool: its size is written down at the first call, and a pool that has grown since is refused.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from depthlight.io import checkpoint
from depthlight.train.loop import CHECKPOINTS

MIXTURE = {"layered": 0.40, "meshes": 0.25, "photowarp": 0.20, "rooms": 0.15}
HOURS = 2.0
# the recipes' when the first of them ran
FIRST_LOSS = ("loss.beta=1.0", "loss.clamp=0.0", "loss.bins=1.0", "fitted=0.0")
POOL_FILE = "experiments-pool.json"


@dataclass(frozen=True)
class Experiment:
    """What differs from the baseline. With ``after``, the hours of both runs together are the budget."""

    question: str
    settings: tuple[str, ...] = ()
    without: str = ""  # a family left out of the mixture
    after: str = ""  # the experiment whose weights it starts from
    hours: float = HOURS


EXPERIMENTS = {
    "baseline": Experiment("our recipe"),
    "light-s": Experiment("a network of at most 8 GMACs", ("network='light-s'",)),
    "loss": Experiment(
        "beta 0.25 px, clamp 4 px, cross-entropy x 3", ("loss.beta=0.25", "loss.clamp=4.0", "loss.bins=3.0")
    ),
    "symmetric": Experiment("without asymmetric photometrics", ("augment.asymmetric=false",)),
    "no-photowarp": Experiment("without photo warps", without="photowarp"),
    "las2-s": Experiment("LAS2-S: 2-D aggregation only", ("network='las2-s'",)),
    "las1": Experiment("LAS1: hybrid 3-D to 2-D aggregation", ("network='las1'",)),
    "stage1-short": Experiment("our recipe, three quarters of the time (what stage2 starts from)", hours=0.75 * HOURS),
    "stage2": Experiment(
        "stage 2 in the last quarter", ("stage=2", "schedule.lr=2e-4"), after="stage1-short", hours=0.25 * HOURS
    ),
}


def folder_of(name: str, args: argparse.Namespace) -> Path:
    """Where a run lives; the first seed's folder has no number."""
    folder: Path = args.runs / (f"exp-{name}-seed{args.seed}" if args.seed else f"exp-{name}")
    return folder


def command(name: str, args: argparse.Namespace) -> list[str]:
    """The depthlight call that starts or resumes a run."""
    folder = folder_of(name, args)
    resumed = (folder / "config.json").is_file()
    head = [sys.executable, "-m", "depthlight", "train", *(["--resume"] if resumed else ["cpu"]), "-o", str(folder)]
    head += ["--ranks", str(args.ranks)]
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
        f"seed={args.seed}",
        f"schedule.core_hours={experiment.hours}",
        f"evaluate.folder='{args.scenes}'",
        f"evaluate.list='{args.list}'",
        "evaluate.minutes=30",
        *FIRST_LOSS,
        *experiment.settings,
        *args.set,
    ]
    if experiment.after:
        settings.append(f"start='{folder_of(experiment.after, args) / 'model.safetensors'}'")
    return [*head, *(part for setting in settings for part in ("--set", setting))]


def rows(folder: Path) -> list[dict[str, str]]:
    """The run's own evaluations, oldest first."""
    table = folder / "evaluation.csv"
    if not table.is_file():
        return []
    with table.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def finished(folder: Path) -> bool:
    """Whether the run was evaluated at the end of its schedule, which its budget has fixed in the checkpoint."""
    found, state = rows(folder), checkpoint.load_latest(folder / CHECKPOINTS)
    end = state["schedule"]["samples"] if state else 0
    return bool(end and found) and int(found[-1]["samples"]) >= end


def same_pool(args: argparse.Namespace) -> str:
    """Write the pool's size down, or what is wrong if it is no longer that."""
    sizes = {family: len(list((args.pool / family).glob("*/left.*"))) for family in MIXTURE}
    file = args.runs / POOL_FILE
    if not file.is_file():
        args.runs.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(sizes))
    before = json.loads(file.read_text())
    return "" if sizes == before else f"the pool holds {sizes} scenes; the experiments began with {before}"


def table(args: argparse.Namespace) -> None:
    """One row for each run of each seed."""
    for name, experiment in EXPERIMENTS.items():
        for folder in (args.runs / f"exp-{name}", *sorted(args.runs.glob(f"exp-{name}-seed*"))):
            for row in rows(folder)[-1:]:
                figures = " | ".join(f"{float(row[key]):.2f}" for key in ("epe", "bad1", "bad2", "d1"))
                mark = "" if finished(folder) else " (not finished)"
                label = folder.name.removeprefix("exp-") + mark
                print(f"| {label} | {experiment.question} | {row['core_hours']} | {row['samples']} | {figures} |")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "next", "table"])
    parser.add_argument("name", nargs="?", choices=list(EXPERIMENTS))
    for option in ("--pool", "--runs", "--scenes", "--list"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the run; another one gets a folder of its own")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train as one")
    parser.add_argument("--set", action="append", default=[], help="further settings, the same for all runs")
    return parser.parse_args(arguments)


def main() -> int:
    args = parse()
    if args.what == "table":
        table(args)
        return 0
    if problem := same_pool(args):
        print(f"experiments: {problem}", file=sys.stderr)
        return 2
    name = args.name or next((n for n in EXPERIMENTS if not finished(folder_of(n, args))), None)
    if name is None:
        print("all experiments are finished")
        return 0
    after = EXPERIMENTS[name].after
    if after and not finished(folder_of(after, args)):
        print(f"experiments: {name} starts from {after}, which is not finished", file=sys.stderr)
        return 2
    print(f"experiment {name}, seed {args.seed}: {EXPERIMENTS[name].question}", flush=True)
    return subprocess.run(command(name, args), check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
