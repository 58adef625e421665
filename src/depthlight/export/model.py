"""From a model to a checked file: export, gate, publish. A file that fails its gate never gets its final name."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ..backends import GraphFacts, OnnxBackend, OpenVinoBackend, StereoBackend, TorchBackend
from ..backends.openvino import has_bf16
from ..core import registry
from ..core.errors import CheckFailedError, InputError, OutputError, UnknownNameError
from ..core.extras import require
from ..core.tolerances import tolerance
from ..data.synth.engine import plain_pairs
from ..infer.load import load
from ..infer.stereo import StereoModel
from ..io.atomic import atomic_path, atomic_write_bytes
from ..io.names import inside, safe_name
from ..nets.stereo.base import StereoNet
from .int8 import PARTS, Int8Row, compare_errors, quantise
from .onnx import OPSET, export_onnx
from .openvino import export_openvino
from .pairs import CALIBRATION_SEED, JUDGE_SEED, PAIR_SIZE, gate_pair
from .parity import SIZES, ParityRow, compare, require_parity
from .untrained import untrained

Target = Literal["onnx", "openvino"]
TARGETS: tuple[Target, ...] = ("onnx", "openvino")
CALIBRATION_PAIRS = JUDGE_PAIRS = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """A network with its weights, and what its graph will say about itself. ``trained`` ones are gated in full."""

    net: StereoNet
    facts: GraphFacts
    trained: bool = True


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The file made, the report beside it, and what the report says."""

    file: Path
    report: Path
    facts: dict[str, Any]


def trained_source(
    name: str | None, *, weights: str | os.PathLike[str] | None = None, max_disp: int | None = None
) -> Source:
    """The network that :func:`depthlight.load` knows by this name (or file), for a range of ``max_disp`` px.

    Raises:
        InputError: it is no network, or the range is not one of its.
        MissingExtraError, CheckpointError, UnknownNameError: as :func:`depthlight.load`.
    """
    model = load(name, weights=weights, backend="torch", device="cpu")
    if not isinstance(model, StereoModel) or not isinstance(model.backend, TorchBackend):
        raise InputError(f"{model.name} is no network and cannot be exported")
    model.backend.check_range(max_disp or model.max_disp)
    net: StereoNet = model.backend.net
    facts = GraphFacts(
        name=model.name,
        family=net.family,
        max_disp=max_disp or model.max_disp,
        weights_sha256=model.identity.weights_sha256,
    )
    return Source(net=net, facts=facts)


def untrained_source(family: str, *, max_disp: int | None = None) -> Source:
    """The network of a family without trained weights: for measuring speed, and for testing runtimes.

    Raises:
        UnknownNameError: no such family.
        InputError: the range is not one of its.
    """
    require("torch", extra="torch")
    if family not in registry.NETWORK_FAMILIES:
        raise UnknownNameError("network family", family, registry.NETWORK_FAMILIES)
    net = untrained(family)
    if max_disp is not None:
        TorchBackend(net, device="cpu").check_range(max_disp)
    facts = GraphFacts(name=f"{family}.untrained", family=family, max_disp=max_disp or net.max_disp)
    return Source(net=net, facts=facts, trained=False)


def export_model(
    source: Source,
    folder: Path,
    *,
    to: str,
    int8: bool = False,
    threads: int | None = None,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Exported:
    """Write the graph into ``folder`` with a parity report beside it.

    The file is ``<name>.onnx``, ``<name>.int8.onnx``, or ``<name>.xml`` and ``.bin``; the report has its name and
    ``.parity.json``. If the gate fails, the report is ``.failed.json`` and files of earlier exports stay as they were.

    Raises:
        CheckFailedError: the graph differs from its network, or int8 costs too much accuracy (X11).
        InputError: unknown or impossible target.
        MissingExtraError: onnx, onnxscript or openvino is not installed.
        OutputError: the folder cannot be written to.
    """
    if to not in TARGETS:
        raise UnknownNameError("export format", to, TARGETS)
    if int8 and to != "onnx":
        raise InputError("--int8 is made by onnxruntime", hint="Use --to onnx")
    if int8 and not source.trained:
        raise InputError("int8 is judged by its accuracy, and an untrained network has none", hint="Give weights")
    if to == "openvino":
        require("openvino", extra="openvino", purpose="it writes its own format")
    with _scratch(folder) as scratch:
        stem = safe_name(source.facts.name)
        graph = scratch / f"{stem}.onnx"
        export_onnx(source.net, graph, max_disp=source.facts.max_disp, facts=source.facts)
        made, backends = graph, [_onnx(graph, source.facts, threads)]
        if to == "openvino":
            made = scratch / f"{stem}.xml"
            export_openvino(graph, made, source.facts)
            backends = _openvino(made, source.facts, threads)
        what, pair = gate_pair()
        rows = compare(source.net, backends, pair, max_disp=source.facts.max_disp, sizes=sizes)
        report = _report(source, made.suffix, what, rows)
        failure = _failure(source, made.name, rows)
        if int8 and failure is None:
            made = scratch / f"{stem}.int8.onnx"
            tries = _quantised(graph, made, source.facts.max_disp, threads)
            report["model"]["precision"] = "int8"
            report["int8"] = {
                "calibration": f"{CALIBRATION_PAIRS} layered engine pairs, seed {CALIBRATION_SEED}",
                "judged_on": f"{JUDGE_PAIRS} layered engine pairs, seed {JUDGE_SEED}",
                "tries": [asdict(row) | {"rise": row.rise, "holds": row.holds} for row in tries],
            }
            failure = _int8_failure(made.name, tries)
        return _publish(folder, made, report, failure)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder of its own inside ``folder``, on the same file system, gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".export-")
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}", hint="Check that it is writable") from None
    with scratch as path:
        yield Path(path)


def _onnx(path: Path, facts: GraphFacts, threads: int | None) -> StereoBackend:
    return OnnxBackend(path, max_disp=facts.max_disp, threads=threads)


def _openvino(path: Path, facts: GraphFacts, threads: int | None) -> list[StereoBackend]:
    """In fp32, and in bf16 where the processor has it."""
    precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)
    return [OpenVinoBackend(path, max_disp=facts.max_disp, precision=p, threads=threads) for p in precisions]


def _gated(source: Source, row: ParityRow) -> bool:
    return source.trained or row.precision == "fp32"


def _failure(source: Source, name: str, rows: Sequence[ParityRow]) -> CheckFailedError | None:
    try:
        require_parity([row for row in rows if _gated(source, row)], what=name)
    except CheckFailedError as error:
        return error
    return None


def _quantised(graph: Path, target: Path, max_disp: int, threads: int | None) -> list[Int8Row]:
    """Quantise all convolutions, then fewer of them, until the accuracy holds; ``target`` is the last try."""
    calibration = plain_pairs(CALIBRATION_PAIRS, seed=CALIBRATION_SEED, size=PAIR_SIZE)
    judges = plain_pairs(JUDGE_PAIRS, seed=JUDGE_SEED, size=PAIR_SIZE)
    rows: list[Int8Row] = []
    for part in PARTS:
        quantise(graph, target, calibration, part=part)
        rows.append(compare_errors(graph, target, judges, part=part, max_disp=max_disp, threads=threads))
        if rows[-1].holds:
            break
    return rows


def _int8_failure(name: str, rows: Sequence[Int8Row]) -> CheckFailedError | None:
    best = min(rows, key=lambda row: row.rise)
    if best.holds:
        return None
    return CheckFailedError(
        f"{name} would raise the error by {100 * best.rise:.1f} % (EPE {best.epe_fp32:.2f} to {best.epe_int8:.2f} px, "
        f"more than 1 px off {best.bad1_fp32:.1f} to {best.bad1_int8:.1f} %)",
        expected=f"at most {100 * tolerance('int8.rise'):.0f} %",
        hint="Use fp32 or bf16",
    )


def _report(source: Source, suffix: str, pair: str, rows: Sequence[ParityRow]) -> dict[str, Any]:
    packages = ("depthlight", "torch", "onnxruntime", *(("openvino",) if suffix == ".xml" else ()))
    return {
        "model": asdict(source.facts),
        "trained": source.trained,
        "opset": OPSET,
        "pair": pair,
        "reference": "the network in torch, float64",
        "versions": {package: version(package) for package in packages},
        "rows": [
            asdict(row) | {"limits": row.limits, "gated": _gated(source, row), "holds": row.holds} for row in rows
        ],
    }


def _publish(folder: Path, made: Path, report: dict[str, Any], failure: CheckFailedError | None) -> Exported:
    """Move what was made to its final name, its report last; after a failure only the report stays."""
    good, bad = (inside(folder, f"{made.name}.{kind}.json") for kind in ("parity", "failed"))
    report = {"file": made.name, "passed": failure is None, "failure": str(failure or "") or None, **report}
    text = (json.dumps(report, indent=2) + "\n").encode()
    if failure is not None:
        atomic_write_bytes(bad, text)
        failure.details["report"] = str(bad)
        raise failure
    if made.suffix == ".xml":
        _move(made.with_suffix(".bin"), folder)
    file = _move(made, folder)
    atomic_write_bytes(good, text)
    bad.unlink(missing_ok=True)
    return Exported(file=file, report=good, facts=report)


def _move(made: Path, folder: Path) -> Path:
    target = inside(folder, made.name)
    with atomic_path(target) as temporary:
        made.replace(temporary)
    return target
