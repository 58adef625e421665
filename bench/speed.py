"""Section ``speed``: networks, runtimes and precisions in turns, against the plain networks and OpenCV's StereoSGBM."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import summary
from bench.report import PICTURES, ROOT, in_words, machine, number, short_hash, table, write_section

from depthlight.backends.openvino import has_bf16
from depthlight.cli.bench import with_graphs
from depthlight.core.registry import DEFAULT_MODEL, SMALL_MODEL, bundled
from depthlight.eval import bench
from depthlight.eval.bench import PEAK, RANGE, Measured, Row
from depthlight.io.pictures import write_image

THREADS = 2
SIZE = (384, 1248)
LAS = ("las1.untrained", "las2-s.untrained", "las2-m.untrained")
LIGHT = (DEFAULT_MODEL, SMALL_MODEL)
SGBM = ("sgbm:3WAY", "sgbm:SGBM", "sgbm:HH", "sgbm")
PLAIN, KEPT = ("bench.speed_worker",), ("bench.speed_worker", "--keep-memory")
NAMES = {"las1": "LAS1", "las2-s": "LAS2-S", "las2-m": "LAS2-M", "peak": "dense 3×3 convolution"}
NAMES |= {"sgbm": "StereoSGBM HH, dense (`sgbm`)"} | {
    f"sgbm:{mode}": f"StereoSGBM {mode}" for mode in ("3WAY", "SGBM", "HH")
}


def rows() -> list[Row]:
    """What is measured, without graphs."""
    precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)
    place: dict[str, Any] = {"height": SIZE[0], "width": SIZE[1], "threads": THREADS}
    found = []
    for model in (*LAS, *LIGHT):
        ours = Row(model=model, backend="torch", **place)
        if model in LAS:
            found += [replace(ours, worker=PLAIN), replace(ours, worker=KEPT)]
        found += [ours, replace(ours, backend="onnxruntime")]
        found += [replace(ours, backend="openvino", precision=precision) for precision in precisions]
    found += [Row(model=model, backend="opencv", **place) for model in SGBM]
    return found + [Row(model=PEAK, backend="torch", precision=precision, **place) for precision in precisions]


def run(rounds: int, runs: int, data: Path | None, names: Path | None) -> None:
    """Measure ``runs`` passes of each row in each of ``rounds`` rounds, and write the section.

    With scenes (``data``, those listed in ``names``) the picture of error against time is written, too.
    """
    facts = machine("torch", "onnxruntime", "openvino", "opencv-python-headless")
    os.environ["PYTHONPATH"] = str(ROOT)  # where the plain worker is
    with tempfile.TemporaryDirectory() as folder:
        print("speed: graphs", flush=True)
        planned = with_graphs(rows(), Path(folder))
        found, failed = bench.run(
            planned,
            rounds=rounds,
            runs=runs,
            scenes=(data, names) if data else None,
            told=lambda note: print(f"speed: {note}", flush=True),
        )
    if failed:
        raise SystemExit("speed: " + "; ".join(failed.values()))
    facts["load_after"] = round(os.getloadavg()[0], 2)
    raw = {
        "machine": facts,
        "size": list(SIZE),
        "threads": THREADS,
        "light_sha256": bundled()[DEFAULT_MODEL].files["safetensors"].sha256,
        "range": RANGE,
        "rounds": rounds,
        "runs": runs,
        "rows": results(found),
    }
    write_section("speed", _text(raw), raw)
    summary.run()
    if data is not None:
        write_image(PICTURES / "pareto.png", bench.pareto(raw["rows"]))


def results(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """The benchmark's report, and how many times faster than its plain network a row is (round by round)."""
    plain = {one.row.model: one for one in found if one.row.worker == PLAIN}
    told = []
    for one, figures in zip(found, bench.report(found), strict=True):
        base = plain.get(one.row.model)
        told.append(figures | {"how": _how(one.row), "times_plain": base.ratio(one) if base else None})
    return told


def _how(row: Row) -> str:
    if row.backend == "opencv":
        return "OpenCV"
    if row.backend == "torch" and row.model != PEAK:
        kinds = {PLAIN: "plain", KEPT: "plain, memory kept"}
        return f"torch eager {row.precision}, {kinds.get(row.worker, 'ours')}"
    return f"{row.backend} {row.precision}"


def _text(raw: Mapping[str, Any]) -> str:
    facts = raw["machine"]
    height, width = raw["size"]
    intro = (
        f"One pair of {height}×{width} of the engine, {raw['range']} px, {raw['threads']} threads; "
        f"{raw['rounds']} rounds of {raw['runs']} passes of each in turn, each time in a new process after one pass "
        f"that does not count. {in_words(facts)}. Load average {facts['load_before']} before (a quiet machine is near "
        f"0) and {facts['load_after']} after. light is {DEFAULT_MODEL}, weights {short_hash(raw['light_sha256'])}; "
        "the other networks have fresh weights."
    )
    header = ["variant", "median ms", "quartiles ms", "peak MiB", "GMACs", "GMAC/s", "times the floor"]
    header += ["times as fast as plain", "of SGBM 3WAY"]
    lines = []
    for row in raw["rows"]:
        model = row["model"].removesuffix(".untrained")
        macs = row["macs"] and row["macs"] / 1e9
        lines.append(
            [
                f"{NAMES.get(model, model)}, {row['how']}",
                f"{row['median_ms']:.0f}",
                f"{row['quartile1_ms']:.0f}–{row['quartile3_ms']:.0f}",
                number(row["peak_mib"], 0),
                number(macs, 1),
                number(row["gmacs_per_second"], 0),
                number(row["of_floor"], 1),
                number(row["times_plain"]),
                number(row["of_sgbm_3way"]),
            ]
        )
    return f"{intro}\n\n{table(header, lines)}"
