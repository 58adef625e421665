"""Section ``training``: the main run's own evaluations as the log and the curve of docs/experiments.md."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from bench.report import EXPERIMENTS, PICTURES, number, table, write_section

from depthlight.core.errors import InputError
from depthlight.io.charts import line_chart
from depthlight.io.pictures import write_image
from depthlight.nets.checkpoints import read_metadata

COLUMNS = {"epe": "EPE", "bad1": "bad1", "bad2": "bad2", "bad3": "bad3", "d1": "D1"}
CURVE = "main_run.png"


def run(folder: Path) -> None:
    """Write the table and the curve of the run in ``folder``."""
    source = folder / "evaluation.csv"
    if not source.is_file():
        raise InputError(f"{folder} has no evaluation yet", expected="a run that has measured itself (evaluation.csv)")
    with source.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    lineage = json.loads(read_metadata(folder / "model.safetensors").get("lineage", "[]"))
    write_section("main-run", _text(rows, lineage), {"lineage": lineage, "rows": rows}, document=EXPERIMENTS)
    hours = [float(row["core_hours"]) for row in rows]
    series = {"EPE (px)": [(x, float(row["epe"])) for x, row in zip(hours, rows, strict=True)]}
    if len(rows) > 1:
        write_image(PICTURES / CURVE, line_chart(series, title="The main run on public28", x_label="core-hours"))


def _text(rows: list[dict[str, str]], lineage: list[dict[str, Any]]) -> str:
    head = ["samples", "core-hours", "learning rate", *COLUMNS.values()]
    lines = [
        [row["samples"], row["core_hours"], row["lr"], *(number(float(row[key])) for key in COLUMNS)] for row in rows
    ]
    samples, hours = (sum(one.get(key, 0) for one in lineage) for key in ("samples", "core_hours"))
    commit = lineage[-1]["commit"][:7] if lineage else ""
    facts = f"{samples:,} samples, {hours:.2f} core-hours, {len(lineage)} segments, the last one at {commit}"
    curve = f"\n\n![EPE on public28 over core-hours](pictures/{CURVE})" if len(rows) > 1 else ""
    return f"{table(head, lines)}\n\nAs of its last checkpoint: {facts}.{curve}"
