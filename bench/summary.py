"""The README's table: what the bundled models reach, how fast, beside OpenCV's matcher; from the measured sections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.report import RAW, ROOT, number, put_section, table

from depthlight.core.registry import DEFAULT_MODEL, SMALL_MODEL

SGBM = "sgbm"
LABELS = {DEFAULT_MODEL: "`light`, the default", SMALL_MODEL: "`light-s`", SGBM: "OpenCV SGBM, 8 directions, filled"}
RUNTIMES = ("onnxruntime", "openvino")


def run() -> None:
    """Write the table anew from docs/benchmarks/{accuracy,speed}.json."""
    accuracy, speed = (json.loads((RAW / f"{name}.json").read_text()) for name in ("accuracy", "speed"))
    height, width = speed["size"]
    header = ["28 real scenes, none trained on", "EPE, px", "bad1, %", "bad2, %", "ms, as installed", "ms, OpenVINO"]
    lines = []
    for model, label in LABELS.items():
        mean = accuracy["results"][model]["mean"]
        times = _milliseconds(speed["rows"], model)
        shown = [number(times.get(runtime), 0) for runtime in RUNTIMES]
        lines.append([label, number(mean["epe"]), number(mean["bad1"], 1), number(mean["bad2"], 1), *shown])
    note = (
        f"Every pixel with ground truth counts; a {height}×{width} pair on {speed['threads']} CPU threads, fp32, "
        "0-192 px. How this was measured, and more of it: [benchmarks](docs/benchmarks.md)."
    )
    put_section("summary", f"{table(header, lines)}\n\n{note}", ROOT / "README.md")


def _milliseconds(rows: list[Mapping[str, Any]], model: str) -> dict[str, float]:
    """Median by runtime; OpenCV's is what SGBM comes with."""
    mine = [row for row in rows if row["model"] == model and row["precision"] == "fp32"]
    return {RUNTIMES[0] if row["backend"] == "opencv" else row["backend"]: row["median_ms"] for row in mine}
