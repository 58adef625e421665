"""The temporal filter on engine sequences, and frames per second of the whole pipeline.

    python tools/video_report.py filter       # static and moving pixels, with and without the filter
    python tools/video_report.py speed        # 640x480 video: decode, match, write (a quiet machine, please)

Each writes its part of docs/benchmarks/video.json, and the tables of docs/how-to/video.md anew from it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import depthlight as dl
from depthlight.cli import main as cli
from depthlight.data.synth.camera import Sensor, expose
from depthlight.data.synth.layered import Stage
from depthlight.data.synth.layers import Layer, render
from depthlight.data.synth.shapes import SOLID
from depthlight.data.synth.textures import Textures
from depthlight.infer.temporal import TemporalFilter
from depthlight.io.video import video_writer

DOCS = Path(__file__).parents[1] / "docs"
TARGET, PAGE = DOCS / "benchmarks" / "video.json", DOCS / "how-to" / "video.md"
Map = NDArray[np.float32]
SEED, SIZE, NEAREST = 11, (288, 512), 110.0
STANDING, MOVING = 12, 3
SENSOR = Sensor(read_noise=2.5, shot_noise=0.12, chroma_noise=True)  # a small camera indoors
SETTINGS = [
    ("light", "onnxruntime", "fp32"),
    ("light", "openvino", "bf16"),
    ("light-s", "onnxruntime", "fp32"),
    ("light-s", "openvino", "bf16"),
]


def sequence(index: int, frames: int, *, pan: float = 0.0) -> Iterator[tuple[Any, Any, Map, NDArray[np.bool_]]]:
    """(left, right, true disparity, what belongs to a moving thing) of each frame of scene ``index``.

    ``pan``: the camera goes sideways; px per frame at the largest disparity, and then everything moves.
    """
    rng = np.random.default_rng([SEED, index])
    height, width = SIZE
    stage = Stage(rng, height, width, NEAREST, Textures(None))
    stage.backdrop(stage.texture("facade" if index % 2 else "foliage"), (0.0, 0.0, float(rng.uniform(4, 12))))
    for count, nearest in ((STANDING, 60.0), (MOVING, 80.0)):
        before = len(stage.layers)
        for _ in range(count):
            d, (h, w) = float(rng.uniform(10, nearest)), rng.uniform(0.25, 0.7, 2) * height
            x, y = rng.uniform(0, width - w / 2), rng.uniform(-h / 4, height - h / 2)
            stage.put(SOLID[rng.integers(len(SOLID))], x, y, h, w, (0.0, 0.0, d), kind="mixture")
    speeds = rng.uniform(1.5, 6, len(stage.layers)) * rng.choice([-1, 1], len(stage.layers))
    nearing = rng.uniform(-0.3, 0.3, len(stage.layers))
    for t in range(frames):
        layers = [
            _moved(layer, t * float(speeds[i] * (i >= before)), t * float(nearing[i] * (i >= before)), t * pan)
            for i, layer in enumerate(stage.layers)
        ]
        pair, without = render(layers, *SIZE), render(layers[:before], *SIZE)
        noise = np.random.default_rng([SEED, index, t])
        left, right = (expose(noise, view, SENSOR) for view in (pair.left_HW3, pair.right_HW3))
        yield left, right, pair.disparity_HW, (pair.disparity_HW > without.disparity_HW + 0.5) | bool(pan)


def _moved(layer: Layer, by: float, nearer: float, pan: float) -> Layer:
    a, b, c = layer.plane
    return Layer(layer.patch_hw4, layer.left + by + pan * c / NEAREST, layer.top, (a, b, max(1.0, c + nearer)))


def measure_filter(model: Any, scenes: int, frames: int) -> dict[str, Any]:
    """Std over time of static pixels, EPE of moving and of static ones; EPE where the camera moves."""
    rows: dict[str, Any] = {}
    for kind, pan in (("standing camera", 0.0), ("moving camera", 6.0)):
        sums: dict[str, list[NDArray[Any]]] = {}
        for index in range(scenes):
            shown = list(sequence(index, frames, pan=pan))
            truth_THW, thing_THW = (np.stack([frame[k] for frame in shown]) for k in (2, 3))
            plain_THW = np.stack([model.predict(left, right).disparity for left, right, *_ in shown])
            steady = TemporalFilter()
            steady_THW = np.stack([steady(frame[0], found) for frame, found in zip(shown, plain_THW, strict=True)])
            for name, found_THW in (("plain", plain_THW), ("steady", steady_THW)):
                for key, values in _errors(found_THW, truth_THW, thing_THW).items():
                    sums.setdefault(f"{name} {key}", []).append(values)
            print(kind, index, flush=True)
        means = {key: float(np.concatenate(parts).mean()) for key, parts in sums.items() if sum(map(len, parts))}
        rows[kind] = {key: round(value, 4) for key, value in means.items()} | {
            f"{key} change, %": round(100 * (means[f"steady {key}"] / means[f"plain {key}"] - 1), 1)
            for key in ("static std", "static epe", "moving epe", "uncovered epe")
            if means.get(f"plain {key}")
        }
        print(json.dumps(rows[kind], indent=1), flush=True)
    return {"model": model.name, "size": f"{SIZE[1]}x{SIZE[0]}", "scenes": scenes, "frames": frames, "rows": rows}


def _errors(found_THW: Map, truth_THW: Map, thing_THW: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Of static pixels std over time and error; of things that move, and of what they just uncovered, the error."""
    still_HW = (np.ptp(truth_THW, axis=0) < 0.01) & ~thing_THW.any(axis=0)
    error_THW = np.abs(found_THW.astype(np.float64) - truth_THW)
    changed_THW = np.abs(np.diff(truth_THW, axis=0, prepend=truth_THW[:1])) > 0.5
    uncovered_THW = changed_THW & ~thing_THW
    return {
        "static std": found_THW.astype(np.float64).std(axis=0)[still_HW],
        "static epe": error_THW[:, still_HW].ravel(),
        "moving epe": error_THW[thing_THW | uncovered_THW],
        "uncovered epe": error_THW[uncovered_THW],
    }


def measure_speed(threads: int, frames: int) -> dict[str, Any]:
    """640x480, the network alone and ``depthlight stereo`` from file to files: frames per second, CPU per frame."""
    rows: dict[str, Any] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "clip.mp4"
        views = _clip(clip, frames)
        for family, backend, precision in SETTINGS:
            key = f"{family}, {backend} {precision}"
            model = dl.load(family, backend=backend, precision=precision, threads=threads)
            model.predict(*views)
            start, used = time.perf_counter(), time.process_time()
            for _ in range(frames):
                model.predict(*views)
            alone = frames / (time.perf_counter() - start)
            row = {"network, frames/s": round(alone, 1), "network, CPU ms": _cpu_ms(used, frames)}
            for what, options in (("png", ()), ("npy", ("--format", "npy")), ("png, steady", ("--steady",))):
                out = Path(name) / f"{key} {what}".replace(" ", "-").replace(",", "")
                how = [
                    "--side-by-side",
                    "--model",
                    family,
                    "--backend",
                    backend,
                    "--precision",
                    precision,
                    "--threads",
                    str(threads),
                ]
                used = time.process_time()
                if cli.run(["stereo", str(clip), "-o", str(out), "-q", "--colours", "0,40", *how, *options]):
                    raise SystemExit(f"{key}, {what}: failed")
                cpu, found = _cpu_ms(used, frames), json.loads((out / "result.json").read_text())
                row |= {f"video to {what}, frames/s": found["frames_per_second"], f"video to {what}, CPU ms": cpu}
            rows[key] = row
            print(key, row, flush=True)
    return {
        "size": "640x480",
        "threads": threads,
        "load": [load, os.getloadavg()[0]],
        "rows": rows,
    }


def _cpu_ms(since: float, frames: int) -> float:
    """CPU time of this process per frame, ms: says what a quiet machine would need, whatever else runs here."""
    return round(1000 * (time.process_time() - since) / frames, 1)


def _clip(path: Path, frames: int) -> tuple[Any, Any]:
    """A textured scene going by, 12 px of disparity, side by side; returns its last pair."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 700 + 4 * frames, 3), dtype=np.uint8)
    scene = np.asarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX))
    with video_writer(path, 30, 1280, 480) as write:
        for t in range(frames):
            left, right = (np.ascontiguousarray(scene[:, 4 * t + x : 4 * t + x + 640]) for x in (0, 12))
            write(np.hstack([left, right]))
    return left, right


def write_tables(stored: dict[str, Any]) -> None:
    """The tables of the page, each between its markers."""
    for part, found in stored.items():
        names = list(dict.fromkeys(key for row in found["rows"].values() for key in row))
        busy = "load of the machine {:.0f} to {:.0f}".format(*found["load"]) if "load" in found else ""
        lines = [f"| {busy} | " + " | ".join(found["rows"]) + " |", "|---" * (1 + len(found["rows"])) + "|"]
        lines += [
            f"| {n} | " + " | ".join(str(row.get(n, "–")) for row in found["rows"].values()) + " |" for n in names
        ]
        start, end = f"<!-- {part} table -->\n", f"<!-- /{part} table -->"
        head, rest = PAGE.read_text().split(start)
        PAGE.write_text(head + start + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("filter", "speed", "tables"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--frames", type=int, help="24 for the filter, 120 for the speed")
    options = parser.parse_args()
    stored = json.loads(TARGET.read_text()) if TARGET.exists() else {}
    if options.what == "filter":
        stored["filter"] = measure_filter(dl.load(threads=options.threads), options.scenes, options.frames or 24)
    elif options.what == "speed":
        stored["speed"] = measure_speed(options.threads, options.frames or 120)
    TARGET.write_text(json.dumps(stored, indent=1) + "\n")
    write_tables(stored)


if __name__ == "__main__":
    main()
