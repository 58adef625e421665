"""How well a few measured depths put metres under a relative depth map: `docs/benchmarks/anchor.json` and a table.

Usage: anchor_report.py PHOTOS [-o docs/benchmarks/anchor.json]

PHOTOS is a folder of real images with depth. Anchors are drawn among the pixels with truth, always the same ones; a
share of them is wrong, by a factor of 0.3 to 3. AbsRel is over all other pixels with truth, as a mean over the images
that are not refused because the relative map contradicts the anchors; those are counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depthlight.core.errors import DepthlightError, InputError
from depthlight.eval.mono_scenes import DepthScene, DepthScenes
from depthlight.infer.mono import MonoModel, load_mono
from depthlight.io.atomic import atomic_write_bytes
from depthlight.refine.anchor import AnchorConfig, anchor

COUNTS = (30, 100, 1000)
WRONG = (0.0, 0.3)  # shares of the anchors
ROWS = {
    "nearest": "the nearest anchor, without a network",
    "line": "one scale and one shift from the anchors",
    "anchored": "`dl.anchor`: and the correction through them",
    "truth": "one scale and one shift from all of the truth",
}
Map = NDArray[np.float32]


def drawn(scene: DepthScene, count: int, wrong: float) -> Map:
    """Measured depth, (H, W) metres, 0 = not measured."""
    rng = np.random.default_rng(zlib.crc32(f"{scene.name}/{count}/{wrong}".encode()))
    known = np.flatnonzero(scene.depth_HW > 0)
    chosen = rng.choice(known, count, replace=False)
    measured = np.zeros(scene.depth_HW.size, np.float32)
    measured[chosen] = scene.depth_HW.flat[chosen]
    off = chosen[: round(wrong * count)]
    measured[off] *= np.exp(rng.uniform(np.log(0.3), np.log(3), len(off))).astype(np.float32)
    return measured.reshape(scene.depth_HW.shape)


def nearest(measured_HW: Map) -> Map:
    """The depth of the nearest anchor."""
    free = (measured_HW <= 0).astype(np.uint8)
    _, label_HW = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    depth_of = np.zeros(int(label_HW.max()) + 1, np.float32)
    depth_of[label_HW[free == 0]] = measured_HW[free == 0]
    return np.asarray(depth_of[label_HW])


def abs_rel(depth_HW: Map, scene: DepthScene, measured_HW: Map) -> tuple[float, float]:
    """AbsRel, and the share of the pixels that have no depth and do not count."""
    judged = (scene.depth_HW > 0) & (measured_HW <= 0)
    there = judged & (depth_HW > 0)
    error = np.abs(depth_HW[there] / scene.depth_HW[there] - 1).mean()
    return float(error), 1 - float(there.sum() / judged.sum())


def measure(model: MonoModel, scenes: DepthScenes) -> list[dict[str, Any]]:
    """A figure per number of anchors, share of wrong ones and row."""
    relative = [model.predict(scene.image_HW3).values for scene in scenes]
    plain = AnchorConfig(smoothness=0.0)
    found = []
    for count in COUNTS:
        for wrong in WRONG:
            errors: dict[str, list[tuple[float, float]]] = {name: [] for name in ROWS}
            refused = []
            for scene, relative_HW in zip(scenes, relative, strict=True):
                measured = drawn(scene, count, wrong)
                try:
                    maps = {
                        "nearest": nearest(measured),
                        "line": anchor(relative_HW, measured, config=plain).depth,
                        "anchored": anchor(relative_HW, measured).depth,
                        "truth": anchor(relative_HW, scene.depth_HW, config=plain).depth,
                    }
                except InputError as error:
                    refused.append(f"{scene.name}: {error}")
                    continue
                for name, depth_HW in maps.items():
                    errors[name].append(abs_rel(depth_HW, scene, measured))
            figures = {
                name: {"abs_rel": float(np.mean([e for e, _ in of])), "unknown": float(np.mean([u for _, u in of]))}
                for name, of in errors.items()
            }
            found.append({"anchors": count, "wrong": wrong, "refused": refused, **figures})
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, AbsRel in percent."""
    head = [f"{row['anchors']} anchors" + (f", {row['wrong']:.0%} wrong" if row["wrong"] else "") for row in found]
    lines = ["| mean AbsRel, % | " + " | ".join(head) + " |", "|---|" + "---|" * len(found)]
    for name, words in ROWS.items():
        lines.append(f"| {words} | " + " | ".join(f"{100 * row[name]['abs_rel']:.1f}" for row in found) + " |")
    lines.append("| images refused | " + " | ".join(str(len(row["refused"])) for row in found) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    model, scenes = load_mono(), DepthScenes(options.photos)
    found = measure(model, scenes)
    facts = {"model": model.name, "weights_sha256": model.identity.weights_sha256, "images": len(scenes), "rows": found}
    if options.output:
        atomic_write_bytes(options.output, (json.dumps(facts, indent=1) + "\n").encode())
    print(table(found))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DepthlightError as error:
        sys.exit(f"anchor_report: {error}")
