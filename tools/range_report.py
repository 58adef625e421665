"""Ranges beyond a network's own, tiles against the whole, and predicted against measured memory.

    python tools/range_report.py range        # wide ranges on engine pairs
    python tools/range_report.py tiles        # whole against tiled, by context
    python tools/range_report.py memory       # peak memory, one process per size; --model light-s,torch
    python tools/range_report.py large        # a pair of 50 megapixels under 4 GiB: one and a half hundred passes' work

Each writes its part of docs/benchmarks/range.json, and the tables of docs/explanation/range.md and
docs/how-to/large-images-and-ranges.md anew from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import depthlight as dl
from depthlight.eval.wide_pairs import WidePair, moved_pair, thin_pair
from depthlight.infer.folder import save_prediction
from depthlight.infer.memory import bytes_needed
from depthlight.infer.search_range import look, plan_windows, search
from depthlight.infer.stereo import StereoModel
from depthlight.infer.tiles import plan_tiles, run_tiles

DOCS = Path(__file__).parents[1] / "docs"
TARGET = DOCS / "benchmarks" / "range.json"
PAGES = {
    "range": DOCS / "explanation" / "range.md",
    "tiles": DOCS / "how-to" / "large-images-and-ranges.md",
    "memory": DOCS / "how-to" / "large-images-and-ranges.md",
    "large": DOCS / "how-to" / "large-images-and-ranges.md",
}
Map = NDArray[np.float32]
FARS = (330, 200, 260)  # px by which the thin things of scene i are out of range
SIZES = ((256, 512), (375, 450), (384, 1248), (480, 640), (500, 741), (576, 1024), (768, 1024), (720, 1280))
SIZES += ((1024, 1536), (1080, 1920))
WAYS: dict[str, dict[str, Any]] = {  # the default model, but for the last
    "onnxruntime": {"backend": "onnxruntime"},
    "torch": {"backend": "torch"},
    "openvino": {"backend": "openvino"},
    "openvino-bf16": {"backend": "openvino", "precision": "bf16"},
    "light-s": {"name": "light-s", "backend": "onnxruntime"},
}
LARGE = (5792, 8672)
CONTEXTS = (64, 96, 128, 160, 192, 224)


def measure_range(model: StereoModel, scenes: int) -> dict[str, Any]:
    """EPE (px) and share of errors above 3 px over pixels that both views see, pooled over the scenes."""
    rows: dict[str, list[tuple[Map, Map]]] = {}

    def add(name: str, found: Map, pair: WidePair, counted_HW: NDArray[np.bool_]) -> None:
        rows.setdefault(name, []).append((found[counted_HW], pair.disparity_HW[counted_HW]))

    def predict(pair: WidePair, low: int = 0, high: int | None = None) -> Map:
        return model.predict(pair.left_HW3, pair.right_HW3, min_disp=low, max_disp=high).disparity

    def half(pair: WidePair) -> Map:
        return look(model.backend, pair.left_HW3[None], pair.right_HW3[None], 2, model.max_disp, 0)[0][0]

    def one_pass(pair: WidePair, high: int) -> Map:
        views = (np.ascontiguousarray(v.transpose(2, 0, 1)[None], np.float32) for v in (pair.left_HW3, pair.right_HW3))
        return model.backend.run(*views, high)[0][0]

    flexible = model.backend.name == "torch"
    for i in range(scenes):
        near, far = thin_pair(i, 0), thin_pair(i, FARS[i % len(FARS)])
        both_HW = near.thin_HW & far.thin_HW
        inside, wide = predict(near), predict(far, 0, 512)
        methods: dict[str, Callable[[], Map]] = {
            "plain": lambda far=far: predict(far),
            "half size": lambda far=far: half(far),
        }
        if flexible:
            methods["one pass of 512"] = lambda far=far: one_pass(far, 512)
        add("thin, shifted into range", inside, near, both_HW)
        add("thin, range 0-512", wide, far, both_HW)
        add("all, thin things shifted into range", inside, near, near.visible_HW)
        add("all, range 0-512", wide, far, far.visible_HW)
        for name, method in methods.items():
            found = method()
            add(f"thin, {name}", found, far, both_HW)
            add(f"all, {name}", found, far, far.visible_HW)
        moved = moved_pair(near, 288)
        seen_HW = moved.visible_HW
        kept = near.disparity_HW[:, : seen_HW.shape[1]]
        same = WidePair(
            near.left_HW3[:, : seen_HW.shape[1]], near.right_HW3[:, : seen_HW.shape[1]], kept, *[seen_HW] * 2
        )
        add("whole scene, shifted into range", predict(same), same, seen_HW)
        add("whole scene at +288 px, range 0-512", predict(moved, 0, 512), moved, seen_HW)
        add("whole scene at +288 px, range 288-480", predict(moved, 288, 480), moved, seen_HW)
        add("whole scene at +288 px, half size", half(moved), moved, seen_HW)
        below = moved_pair(near, -24)
        add("whole scene at -24 px, range -32-160", predict(below, -24, 160), below, below.visible_HW)
        add("whole scene at -24 px, range -32-192", predict(below, -24, 192), below, below.visible_HW)
        unmoved = WidePair(
            near.left_HW3[:, 24:], near.right_HW3[:, 24:], near.disparity_HW[:, 24:], *[below.visible_HW] * 2
        )
        inside_HW = below.visible_HW & (np.arange(unmoved.disparity_HW.shape[1]) >= unmoved.disparity_HW)
        add("whole scene, not moved (of -24 px)", predict(unmoved), unmoved, inside_HW)
        add("whole scene at -24 px, plain", predict(below), below, below.visible_HW)
        print(f"scene {i} done", flush=True)
    return {name: _figures(parts) for name, parts in rows.items()}


def _figures(parts: list[tuple[Map, Map]]) -> dict[str, Any]:
    error_N = np.concatenate([np.abs(found.astype(np.float64) - truth) for found, truth in parts])
    return {"epe": round(float(error_N.mean()), 3), "bad3": round(100 * float((error_N > 3).mean()), 2)} | {
        "pixels": len(error_N)
    }


def measure_tiles(model: StereoModel) -> dict[str, Any]:
    """Whole against tiles of at most 512×512 px of their own, by context: max, 99th percentile, largest seam step."""
    pair = thin_pair(3, 0, size=(576, 1024))
    windows = plan_windows(model.backend, model.max_disp, 0, model.max_disp)
    views = pair.left_HW3[None], pair.right_HW3[None]
    whole = search(model.backend, *views, windows)[0][0]
    rows = {}
    for context in CONTEXTS:
        tiles = plan_tiles(576, 1024, 576 * 1024 * 0.7, 0, windows.high, context=context)
        tiled = run_tiles(lambda one, other, _: search(model.backend, one, other, windows), *views, tiles)[0][0]
        change = np.abs(tiled - whole)
        rows[str(context)] = {
            "tiles": len(tiles),
            "max": round(float(change.max()), 4),
            "p99": round(float(np.percentile(change, 99)), 5),
            "mean": round(float(change.mean()), 6),
            "seam": round(_seam(tiled - whole, tiles), 4),
        }
        print(context, rows[str(context)], flush=True)
    return rows


def _seam(change_HW: Map, tiles: list[Any]) -> float:
    """The largest step (px) across a border between tiles that the whole does not have."""
    steps = [0.0]
    for tile in tiles:
        rows, columns = tile.kept
        if rows.start:
            steps.append(float(np.abs(np.diff(change_HW[rows.start - 1 : rows.start + 1, columns], axis=0)).max()))
        if columns.start:
            steps.append(float(np.abs(np.diff(change_HW[rows, columns.start - 1 : columns.start + 1], axis=1)).max()))
    return max(steps)


def measure_memory(models: list[str]) -> list[dict[str, Any]]:
    """Peak memory of a prediction, measured in a process of its own, against what was predicted there."""
    rows = []
    for name in models:
        for height, width in SIZES:
            command = [sys.executable, __file__, "one", "--model", name, "--size", str(height), str(width)]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(rows[-1], flush=True)
    return rows


def one_process(name: str, height: int, width: int, cap_gib: float | None) -> dict[str, Any]:
    """Resident memory before a prediction, at its peak, and the predicted peak (of the whole picture), MiB."""
    model = load(name)
    model.max_memory = None if cap_gib is None else int(cap_gib * 2**30)
    views = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    before = peak_bytes() / 2**20
    windows = plan_windows(model.backend, model.max_disp, 0, model.max_disp)
    pixels = -(-height // 32) * 32 * (-(-width // 32) * 32)
    predicted = before + bytes_needed(model.backend, windows, 1, pixels, pixels) / 2**20
    model.predict(*views)
    peak = peak_bytes() / 2**20
    return {
        "model": name,
        "size": f"{width}x{height}",
        "before": round(before),
        "predicted": round(predicted),
        "measured": round(peak),
        "ratio": round(predicted / peak, 3),
    }


def peak_bytes() -> int:
    """The most memory this process has held; ``getrusage`` would count what its parent held when it was forked."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure_large(model: StereoModel, height: int, width: int, cap_gib: float) -> dict[str, Any]:
    """A pair of that size, predicted and saved under a cap: time, and peak memory of the process."""
    block = np.random.default_rng(0).integers(0, 256, (181, 271, 3), dtype=np.uint8)
    left = np.ascontiguousarray(np.tile(block, (-(-height // 181), -(-width // 271), 1))[:height, :width])
    views = left, np.roll(left, -20, axis=1)
    model.max_memory = int(cap_gib * 2**30)
    found = model.predict(*views)
    peaks = [peak_bytes() / 2**30]
    with tempfile.TemporaryDirectory() as folder:
        save_prediction(Path(folder), found, views[0])
    peaks.append(peak_bytes() / 2**30)
    return {
        "size": f"{width}x{height}",
        "cap_gib": cap_gib,
        "peak_gib": round(peaks[0], 3),
        "peak_with_saving_gib": round(peaks[1], 3),
        "seconds": round(found.seconds),
    }


def load(name: str) -> StereoModel:
    """One of :data:`WAYS`, or a network family with fresh weights, in torch."""
    if name in WAYS:
        model = dl.load(**WAYS[name], threads=1)
        if not isinstance(model, StereoModel):
            raise SystemExit(f"{model.name} is not a network")
        return model
    import torch

    from depthlight.backends import TorchBackend
    from depthlight.nets.stereo import build

    torch.manual_seed(0)
    return StereoModel(name, TorchBackend(build(name), device="cpu", threads=1), weights_sha256=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("range", "tiles", "memory", "large", "one", "tables"))
    parser.add_argument("--model", default="onnxruntime")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--cap", type=float, help="GiB, for one and large")
    parser.add_argument("--size", type=int, nargs=2, help="height and width, for one and large")
    options = parser.parse_args()
    if options.what == "one":
        print(json.dumps(one_process(options.model, *(options.size or SIZES[0]), options.cap)))
        return
    if options.what == "tables":
        write_tables(json.loads(TARGET.read_text()))
        return
    if options.what == "large":
        found: Any = measure_large(load(options.model), *(options.size or LARGE), options.cap or 4.0)
        print(found)
    elif options.what == "memory":
        found = measure_memory(options.model.split(","))
    else:
        model = load(options.model)
        found = measure_range(model, options.scenes) if options.what == "range" else measure_tiles(model)
        found = {"model": model.name, "backend": model.backend.name, "rows": found}
    stored = json.loads(TARGET.read_text()) if TARGET.exists() else {}
    if options.what == "memory":  # rows of other models stay
        found = [row for row in stored.get("memory", []) if row["model"] not in options.model.split(",")] + found
    stored[options.what if options.what in ("memory", "large") else f"{options.what}.{options.model}"] = found
    TARGET.write_text(json.dumps(stored, indent=1) + "\n")
    write_tables(stored)


def _side_by_side(parts: dict[str, Any]) -> list[str]:
    """What was searched, a row each; EPE and bad3 of every runtime beside one another."""
    if not parts:
        return []
    rows = dict.fromkeys(name for part in parts.values() for name in part["rows"])
    cells: dict[str, list[str]] = {}
    for name in rows:
        found = [part["rows"].get(name) for part in parts.values()]
        cells[name] = [f"{row['epe']:.2f} | {row['bad3']:.1f}" if row else "– | –" for row in found]
    model = next(iter(parts.values()))["model"]
    head = " | ".join(f"{runtime}: EPE px | above 3 px, %" for runtime in parts)
    table = [f"| `{model}`: pixels, search | {head} |", "|---" * (1 + 2 * len(parts)) + "|"]
    return table + [f"| {name} | {' | '.join(found)} |" for name, found in cells.items()]


def write_tables(stored: dict[str, Any]) -> None:
    """The tables of the pages, each between the markers of its kind."""
    tables: dict[str, list[str]] = {"range": [], "tiles": [], "memory": [], "large": []}
    for key, part in stored.items():
        kind = key.partition(".")[0]
        if kind == "large":
            tables[kind] += [
                "| pair | cap, GiB | peak, GiB | with saving | seconds, one thread |",
                "|---|---|---|---|---|",
            ]
            peaks = f"{part['peak_gib']:.2f} | {part['peak_with_saving_gib']:.2f}"
            tables[kind].append(f"| {part['size']} | {part['cap_gib']:g} | {peaks} | {part['seconds']} |")
        elif kind == "memory":
            tables[kind] += ["| model | size | predicted MiB | measured MiB |", "|---|---|---|---|"]
            tables[kind] += [f"| {r['model']} | {r['size']} | {r['predicted']} | {r['measured']} |" for r in part]
        elif kind == "tiles":
            tables[kind] += [
                "| context px | tiles | p99 px | largest px | largest seam step px |",
                "|---|---|---|---|---|",
            ]
            tables[kind] += [
                f"| {c} | {r['tiles']} | {r['p99']} | {r['max']} | {r['seam']} |" for c, r in part["rows"].items()
            ]
    tables["range"] = _side_by_side({key.partition(".")[2]: p for key, p in stored.items() if key.startswith("range.")})
    for kind, lines in tables.items():
        if not lines:
            continue
        start, end = f"<!-- {kind} table -->\n", f"<!-- /{kind} table -->"
        text = PAGES[kind].read_text()
        head, rest = text.split(start)
        PAGES[kind].write_text(head + start + "\n".join(lines).rstrip() + "\n" + end + rest.split(end)[1])


if __name__ == "__main__":
    main()
