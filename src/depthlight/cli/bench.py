"""``depthlight bench``: networks × backends × precisions × sizes × threads, in turns, against OpenCV's SGBM."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from ..backends import BACKENDS, GRAPH_SUFFIXES, PRECISIONS, RESERVED_PRECISIONS
from ..core import registry
from ..core.errors import CheckFailedError, InputError, UnknownNameError
from ..core.extras import have, require
from ..eval import bench as benchmark
from ..eval.bench import PEAK, RANGE, UNTRAINED, Row
from ..infer.folder import need_apart
from ..infer.load import WEIGHT_SUFFIXES, read_graph_facts
from ..infer.sgbm import MODES
from ..io.atomic import atomic_write_bytes
from ..io.names import safe_name
from ..io.pictures import write_image
from .common import JsonFlag, QuietFlag, emit_json, say

RESULT, PICTURE = "bench.json", "pareto.png"
COLUMNS = {
    "median_ms": ("median ms", 1, 1.0),
    "peak_mib": ("peak MiB", 0, 1.0),
    "macs": ("GMACs", 1, 1e-9),
    "gmacs_per_second": ("GMAC/s", 0, 1.0),
    "parameters": ("M params", 2, 1e-6),
    "of_sgbm_3way": ("× 3WAY", 2, 1.0),
    "of_floor": ("× floor", 2, 1.0),
}


def bench(
    models: Annotated[
        str,
        typer.Option(
            "--models",
            "-m",
            help="Comma-separated: names, files, FAMILY.untrained, sgbm (dense), sgbm:MODE, peak (dense convolution).",
        ),
    ] = "light,sgbm",
    backends: Annotated[
        str | None, typer.Option("--backends", help="Comma-separated; all that are installed by default.")
    ] = None,
    precisions: Annotated[str, typer.Option("--precisions", help="Comma-separated: fp32, bf16.")] = "fp32",
    sizes: Annotated[str, typer.Option("--sizes", help="Comma-separated HEIGHTxWIDTH, px.")] = "384x1248",
    threads: Annotated[
        str | None, typer.Option("--threads", help="Comma-separated numbers; the processor's cores by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often every row has its turn.")] = 3,
    runs: Annotated[int, typer.Option(min=1, help="Passes of a row in a turn.")] = 3,
    data: Annotated[
        Path | None, typer.Option(help="Folder of scenes with truth: adds accuracy, and a picture.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option("--list", help="File with the scenes to take, one name per line.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for bench.json and pareto.png.")] = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Time, memory, size and accuracy of models.

    Every row runs in processes of its own, and the rows take turns. A pass is the network alone, on an engine pair of
    that size. OpenCV's bare StereoSGBM 3WAY over 192 disparities is always among the rows: ratios to it hold on a busy
    machine, milliseconds do not.
    """
    if names is not None and data is None:
        raise InputError("--list was given without --data", hint="Give the folder of scenes with --data")
    if out is not None:
        need_apart([out], [data, names], [RESULT, PICTURE])
    rows = _rows(
        _words(models),
        _backends(backends),
        _known(_words(precisions), PRECISIONS, "precision"),
        _sizes(sizes),
        _threads(threads),
    )
    with tempfile.TemporaryDirectory() as scratch:
        found, failed = benchmark.run(
            with_graphs(rows, Path(scratch)),
            rounds=rounds,
            runs=runs,
            scenes=(data, names) if data else None,
            told=lambda note: say(note, quiet=quiet, as_json=True),
        )
    why = {benchmark.describe(row): reason for row, reason in failed.items()}
    measured = benchmark.report(found)
    facts = {"range": RANGE, "rounds": rounds, "runs": runs, **_machine(), "rows": measured, "failed": why}
    if out is not None:
        atomic_write_bytes(out / RESULT, (json.dumps(facts, indent=2) + "\n").encode())
        if data is not None:
            write_image(out / PICTURE, benchmark.pareto(facts["rows"]))
    if as_json:
        emit_json(facts)
    elif not quiet:
        _table(facts["rows"])
    if why:
        raise CheckFailedError(
            f"{len(why)} of {len(rows)} rows could not be measured, first: {next(iter(why.values()))}"
        )


def with_graphs(rows: Sequence[Row], folder: Path) -> list[Row]:
    """The rows, with a graph written into ``folder`` for each network that a graph's runtime shall run and has none.

    Raises:
        MissingExtraError: torch or onnx is not installed.
        DepthlightError: a model cannot be loaded or exported.
    """
    made: dict[str, str] = {}
    for row in rows:
        if row.model not in made and _needs_graph(row):
            made[row.model] = str(_export(row.model, folder / f"{safe_name(Path(row.model).name)}.onnx"))
    return [replace(row, graph=made[row.model]) if _needs_graph(row) else row for row in rows]


def _needs_graph(row: Row) -> bool:
    if row.backend not in ("onnxruntime", "openvino") or Path(row.model).suffix.lower() in GRAPH_SUFFIXES:
        return False
    if row.model.endswith(UNTRAINED) or Path(row.model).suffix.lower() in WEIGHT_SUFFIXES:
        return True
    card = registry.bundled().get(registry.resolve(row.model))
    return card is None or "onnx" not in card.files


def _export(model: str, path: Path) -> Path:
    require("torch", extra="export", purpose="networks are exported from it")
    from ..export.model import trained_source, untrained_source
    from ..export.onnx import export_onnx

    source = untrained_source(model.removesuffix(UNTRAINED)) if model.endswith(UNTRAINED) else trained_source(model)
    export_onnx(source.net, path, max_disp=source.facts.max_disp, facts=source.facts)
    return path


def _rows(
    models: Sequence[str],
    backends: Sequence[str],
    precisions: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    threads: Sequence[int],
) -> list[Row]:
    """The rows that can be: onnxruntime has fp32 only, and what is no network has one way to run."""
    rows = []
    for model, (height, width), count in product(models, sizes, threads):
        for backend, precision in _ways(model, backends, precisions):
            rows.append(
                Row(model=model, backend=backend, precision=precision, height=height, width=width, threads=count)
            )
    if not rows:
        raise InputError("there is nothing to measure", expected="a backend that has the precision asked for")
    return list(dict.fromkeys(rows))


def _ways(model: str, backends: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    if model.startswith("sgbm"):
        mode = model.partition(":")[2]
        if model != "sgbm" and (model[4] != ":" or mode not in MODES):
            raise UnknownNameError("model", model, ["sgbm", *(f"sgbm:{name}" for name in MODES)])
        return [("opencv", "fp32")]
    if model == PEAK:
        return [("torch", precision) for precision in precisions]
    if model.endswith(UNTRAINED):
        _known([model.removesuffix(UNTRAINED)], registry.NETWORK_FAMILIES, "network family")
    elif Path(model).suffix.lower() in GRAPH_SUFFIXES:
        unfit = ("torch", "onnxruntime") if Path(model).suffix.lower() == ".xml" else ("torch",)
        backends = [backend for backend in backends if backend not in unfit]
        if read_graph_facts(Path(model)).precision in RESERVED_PRECISIONS:
            return [(backend, "int8") for backend in backends]
    elif not Path(model).is_file():
        registry.need_task(registry.resolve(model), "stereo")
    return [way for way in product(backends, precisions) if way != ("onnxruntime", "bf16")]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _known(words: list[str], known: Sequence[str], kind: str) -> list[str]:
    for word in words:
        if word not in known:
            raise UnknownNameError(kind, word, known)
    return words


def _backends(text: str | None) -> list[str]:
    if text is not None:
        return _known(_words(text), BACKENDS, "backend")
    return [backend for backend in BACKENDS if have(backend)]


def _sizes(text: str) -> list[tuple[int, int]]:
    found = [re.fullmatch(r"([0-9]{2,5})[x×]([0-9]{2,5})", word) for word in _words(text)]
    if not found or None in found:
        raise InputError(f"--sizes is {text!r}", expected="HEIGHTxWIDTH, such as 384x1248,480x640")
    return [(int(match[1]), int(match[2])) for match in found if match]


def _threads(text: str | None) -> list[int]:
    words = _words(text) if text is not None else [str(os.cpu_count() or 1)]
    if not words or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise InputError(f"--threads is {text!r}", expected="numbers of at least 1, such as 1,2")
    return [int(word) for word in words]


def _machine() -> dict[str, Any]:
    """Cores, kind of machine, and how busy it is after the measurement."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"machine": {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}", "load": load}}


def _table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("model", "how", "quartiles ms", *(title for title, _, _ in COLUMNS.values()), "EPE"):
        table.add_column(name, justify="left" if name in ("model", "how") else "right")
    for row in rows:
        how = f"{row['backend']} {row['precision']} {row['height']}x{row['width']} t{row['threads']}"
        spread = f"{row['quartile1_ms']:.0f}–{row['quartile3_ms']:.0f}"
        numbers = [_number(row[key], digits, unit) for key, (_, digits, unit) in COLUMNS.items()]
        table.add_row(Path(row["model"]).name, how, spread, *numbers, _number((row["accuracy"] or {}).get("epe"), 2, 1))
    Console(width=140).print(table)


def _number(value: float | None, digits: int, unit: float) -> str:
    return "–" if value is None else f"{value * unit:.{digits}f}"
