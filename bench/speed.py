"""Section ``speed``: every variant in its own process, taking turns so that a drift of the machine hits all alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bench.report import ROOT, in_words, machine, number, short_hash, table, write_section
from bench.speed_worker import LAS, RANGE, THREADS, VARIANTS

from depthlight.core.registry import DEFAULT_MODEL, bundled

SIZE = (384, 1248)
KINDS = {
    "plain": "torch eager, plain",
    "eager": "torch eager, ours",
    "onnxruntime": "onnxruntime",
    "dense": "StereoSGBM HH, dense (`sgbm`)",
}
FAMILIES = {"las1": "LAS1", "las2-s": "LAS2-S", "las2-m": "LAS2-M", "light": "light", "opencv": "OpenCV"}
ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES")  # variables that would change it
Figures = dict[str, float]


def run(rounds: int, runs: int) -> None:
    """Measure ``runs`` passes of each variant in each of ``rounds`` rounds, and write the section."""
    facts = machine("torch", "onnxruntime", "opencv-python-headless")
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        print("speed: pair and graphs", flush=True)
        _worker("prepare", folder, *map(str, SIZE))
        for turn in range(rounds):
            for variant in VARIANTS:
                found[variant].append(json.loads(_worker(variant, folder, str(runs))))
                print(f"speed: round {turn + 1}/{rounds} {variant} {_median(found[variant][-1]):.3f} s", flush=True)
    facts["load_after"] = round(os.getloadavg()[0], 2)
    results = {variant: summary(variant, found) for variant in VARIANTS}
    raw = {
        "machine": facts,
        "size": list(SIZE),
        "threads": THREADS,
        "light_sha256": bundled()[DEFAULT_MODEL].files["safetensors"].sha256,
        "range": RANGE,
        "rounds": rounds,
        "runs": runs,
        "results": results,
        "seconds": {variant: [turn["seconds"] for turn in turns] for variant, turns in found.items()},
    }
    write_section("speed", _text(raw), raw)


def summary(variant: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figures:
    """Median and quartiles (ms) over all passes, peak memory (MiB, the largest), and ratios to the plain networks.

    A ratio is the median over rounds of the quotient of the two medians of a round, so a slow minute cancels.
    """
    turns = found[variant]
    times = [1000 * seconds for turn in turns for seconds in turn["seconds"]]
    low, median, high = (float(value) for value in np.percentile(times, [25, 50, 75]))
    figures = {"median_ms": median, "quartile1_ms": low, "quartile3_ms": high}
    figures["peak_mib"] = max(turn["peak_mib"] for turn in turns)
    figures["before_mib"] = statistics.median(turn["before_mib"] for turn in turns)
    for family in LAS:
        if plain := found.get(f"{family}:plain"):
            pairs = zip(turns, plain, strict=True)
            figures[f"of_{family}"] = statistics.median(_median(own) / _median(other) for own, other in pairs)
    return figures


def _median(turn: Mapping[str, Any]) -> float:
    return statistics.median(turn["seconds"])


def _worker(*arguments: str) -> str:
    """Output of the worker; its threads are fixed and the allocator is the system's own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    kept = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
    command = [sys.executable, "-m", "bench.speed_worker", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**kept, **threads}, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _text(raw: Mapping[str, Any]) -> str:
    facts = raw["machine"]
    height, width = raw["size"]
    intro = (
        f"One pair of {height}×{width} of the engine, {raw['range']} px, fp32, {raw['threads']} threads; "
        f"{raw['rounds']} rounds of {raw['runs']} passes of each in turn, each time in a new process after one pass "
        f"that does not count. {in_words(facts)}. Load average {facts['load_before']} before (a quiet machine is near "
        f"0) and {facts['load_after']} after. light is {DEFAULT_MODEL}, weights {short_hash(raw['light_sha256'])}."
    )
    header = ["variant", "median ms", "quartiles ms", "peak MiB"]
    header += [f"of plain {FAMILIES[family]}" for family in LAS]
    rows = []
    for variant, figures in raw["results"].items():
        family, kind = variant.split(":")
        spread = f"{figures['quartile1_ms']:.0f}–{figures['quartile3_ms']:.0f}"
        ratios = [number(figures.get(f"of_{other}"), 3) for other in LAS]
        how = KINDS.get(kind, f"StereoSGBM {kind}")
        median, peak = (f"{figures[key]:.0f}" for key in ("median_ms", "peak_mib"))
        rows.append([f"{FAMILIES[family]}, {how}", median, spread, peak, *ratios])
    return f"{intro}\n\n{table(header, rows)}"
