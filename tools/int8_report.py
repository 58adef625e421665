"""What 8 bits cost: a network's graph in fp32 and quantised, on labelled scenes; writes docs/benchmarks/int8.json.

Usage: int8_report.py SCENES [--list FILE] [--model NAME ...] [--weights FILE] [--out FILE] [--limit N]

SCENES is a folder of scenes, FILE the names of those to take (public28). The graph is quantised as
``depthlight export NAME --to onnx --int8`` does it, calibrated on engine pairs, never on the scenes: once with all
convolutions in int8, once with the 2-D ones alone. A row is offered if its EPE is at most 5 % above that of fp32 (X11).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from depthlight.backends import OnnxBackend
from depthlight.core.tolerances import tolerance
from depthlight.data.samples import StereoDataset
from depthlight.data.scenes import SceneFolder, read_list
from depthlight.data.synth.engine import plain_pairs
from depthlight.eval.runner import evaluate
from depthlight.export.int8 import PARTS, quantise
from depthlight.export.model import CALIBRATION_PAIRS, Source, trained_source
from depthlight.export.onnx import export_onnx
from depthlight.export.pairs import CALIBRATION_SEED, PAIR_SIZE
from depthlight.infer.stereo import StereoModel
from depthlight.io.atomic import atomic_write_bytes

FIGURES = ("epe", "bad1", "bad2", "bad3", "d1")


class First:
    """The first scenes of a dataset."""

    def __init__(self, whole: StereoDataset, count: int) -> None:
        self.name, self._whole, self._count = whole.name, whole, count

    def __len__(self) -> int:
        return min(self._count, len(self._whole))

    def __getitem__(self, index: int) -> Any:
        return self._whole[index]

    def sample_name(self, index: int) -> str:
        return self._whole.sample_name(index)


def report(source: Source, dataset: StereoDataset, threads: int | None) -> dict[str, Any]:
    """Accuracy and seconds of the float graph and of each quantised one."""
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "fp32.onnx"
        export_onnx(source.net, graph, max_disp=source.facts.max_disp, facts=source.facts)
        base = _measure(graph, "fp32", source, dataset, threads)
        rows = []
        calibration = plain_pairs(CALIBRATION_PAIRS, seed=CALIBRATION_SEED, size=PAIR_SIZE)
        for part in PARTS:
            target = Path(scratch) / f"{part}.onnx"
            count = quantise(graph, target, calibration, part=part)
            row = _measure(target, "int8", source, dataset, threads)
            rise = row["mean"]["epe"] / base["mean"]["epe"] - 1
            offered = rise <= tolerance("int8.rise")
            rows.append({"part": part, "convolutions": count, **row, "epe_rise": rise, "offered": offered})
    return {"model": asdict(source.facts), "fp32": base, "int8": rows}


def _measure(path: Path, precision: str, source: Source, dataset: StereoDataset, threads: int | None) -> dict[str, Any]:
    backend = OnnxBackend(path, max_disp=source.facts.max_disp, threads=threads, precision=precision)
    model = StereoModel(source.facts.name, backend, weights_sha256=None, max_disp=source.facts.max_disp)
    result = evaluate(model, dataset)
    if result.failures:
        raise SystemExit(f"{result.failures[0].name}: {result.failures[0].error}")
    facts = result.to_dict()
    return {
        "scenes": len(result.scenes),
        "mean": {name: facts["mean"][name] for name in FIGURES},
        "seconds_median": float(np.median([scene.seconds for scene in result.scenes])),
        "bytes": path.stat().st_size,
    }


def tell(row: dict[str, Any]) -> None:
    """One line per way of quantising."""
    base = row["fp32"]
    for part in row["int8"]:
        print(
            f"{row['model']['name']}, {part['part']} convolutions: EPE {base['mean']['epe']:.3f} to "
            f"{part['mean']['epe']:.3f} px ({100 * part['epe_rise']:+.1f} %), "
            f"{base['seconds_median']:.2f} to {part['seconds_median']:.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--list", type=Path, dest="names")
    parser.add_argument("--model", action="append", help="default: the bundled one; may be given again")
    parser.add_argument("--weights", type=Path, help="a checkpoint for the one --model")
    parser.add_argument("--limit", type=int, help="only the first N scenes, to try the tool")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/int8.json"))
    args = parser.parse_args()
    dataset: Any = SceneFolder(args.scenes, read_list(args.names) if args.names else None)
    if args.limit:
        dataset = First(dataset, args.limit)
    rows = [report(trained_source(name, weights=args.weights), dataset, args.threads) for name in args.model or [None]]
    for row in rows:
        tell(row)
    facts = {
        "protocol": "default",
        "dataset": dataset.name,
        "scenes": len(dataset),
        "calibration": f"{CALIBRATION_PAIRS} layered engine pairs, seed {CALIBRATION_SEED}",
        "rows": rows,
    }
    atomic_write_bytes(args.out, (json.dumps(facts, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
