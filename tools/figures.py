"""Regenerate every table and picture of the docs.

Usage: python tools/figures.py SECTION [options]      (see SECTION --help)

    accuracy     --data DIR --list FILE     public28: the bundled models and SGBM            about 3 minutes
    speed        [--rounds N --runs N] [--data DIR --list FILE]   384×1248, two threads; wants a quiet machine;
                                            with scenes also docs/pictures/pareto.png        about 20 minutes
    footprint    [--tests-seconds S | --run-tests]   installed size, start, tests, lines     about 2 minutes
    invariances  [--pairs N]                X1–X8 of the bundled default                     about 3 minutes
    materials   [--scenes N]                hard surfaces, docs/reliability.md               about 3 minutes
    reliability                             runs the bars' tests, docs/reliability.md         about 10 minutes
    pictures                                docs/pictures                                    under a minute
    uncertainty  [--data DIR --list FILE]   confidence against error, docs/how-to/metres.md  about 5 minutes
    weights      --data DIR --list FILE     what other weights change: accuracy, uncertainty, invariances, materials,
                                            pictures; no timings                             about 15 minutes
    all          --data DIR --list FILE     the same, speed and footprint
    training     --run DIR                  the main run's log and curve in docs/experiments.md

Needs the project installed with its [dev] extra. Tables go between markers in docs/benchmarks.md, numbers into
docs/benchmarks/<section>.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/

from depthlight.core.errors import DepthlightError

OF_WEIGHTS = ("accuracy", "uncertainty", "invariances", "materials", "pictures")
SECTIONS = ("speed", "footprint", *OF_WEIGHTS)  # speed first: all begins on a quiet machine
TOGETHER = {"all": SECTIONS, "weights": OF_WEIGHTS}


def run(section: str, options: argparse.Namespace) -> None:
    """One section; its modules are imported here, so that no section pays for another's."""
    if section == "accuracy":
        from bench import accuracy

        accuracy.run(options.data, options.list)
    elif section == "speed":
        from bench import speed

        speed.run(options.rounds, options.runs, options.data, options.list)
    elif section == "footprint":
        from bench import footprint

        footprint.run(options.tests_seconds, run_tests=options.run_tests)
    elif section == "invariances":
        from bench import invariances

        invariances.run(options.pairs)
    elif section == "materials":
        from bench import materials

        materials.run(options.scenes)
    elif section == "reliability":
        from bench import reliability

        reliability.run()
    elif section == "uncertainty":
        from bench import uncertainty

        uncertainty.run(60, options.data, options.list)
    elif section == "training":
        from bench import training

        training.run(options.run)
    else:
        from bench import pictures

        pictures.run()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(dest="section", required=True)
    subs = {name: verbs.add_parser(name) for name in (*SECTIONS, *TOGETHER, "reliability", "training")}
    for name in ("uncertainty", "speed"):
        subs[name].add_argument("--data", type=Path, help="folder of scene folders")
        subs[name].add_argument("--list", type=Path, help="the scenes to take")
    subs["training"].add_argument("--run", type=Path, required=True, help="folder of the run")
    for name in ("accuracy", *TOGETHER):
        subs[name].add_argument("--data", type=Path, required=True, help="folder of scene folders")
        subs[name].add_argument("--list", type=Path, required=True, help="the scenes to take, one name per line")
    for name in ("speed", "all"):
        subs[name].add_argument("--rounds", type=int, default=4)
        subs[name].add_argument("--runs", type=int, default=3, help="passes of a variant in a round")
    for name in ("footprint", "all"):
        tests = subs[name].add_mutually_exclusive_group()
        tests.add_argument("--tests-seconds", type=float, help="what the default test run took")
        tests.add_argument("--run-tests", action="store_true", help="run it and see")
    for name in ("invariances", *TOGETHER):
        subs[name].add_argument("--pairs", type=int, default=6)
    for name in ("materials", *TOGETHER):
        subs[name].add_argument("--scenes", type=int, default=24)
    return top


def main() -> int:
    options = parser().parse_args()
    try:
        for section in TOGETHER.get(options.section, (options.section,)):
            run(section, options)
    except DepthlightError as error:
        print(f"figures: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
