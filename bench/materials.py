"""Section ``materials``: the same scenes in hard and easy materials, the bundled default beside SGBM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bench.report import ROOT, in_words, machine, number, short_hash, table, write_section

from depthlight.core.registry import DEFAULT_MODEL, bundled
from depthlight.eval.confidence import bad_of_kept
from depthlight.eval.hard_content import MATERIALS, NEAREST, NOISE, SIZE, hard_pair
from depthlight.infer.load import load

DOC = ROOT / "docs" / "reliability.md"
MATCHERS = (DEFAULT_MODEL, "sgbm")


def run(scenes: int) -> None:
    """Measure ``scenes`` geometries in every material; write the section of docs/reliability.md."""
    raw = {
        "machine": machine("onnxruntime", "numpy", "opencv-python-headless"),
        "model": DEFAULT_MODEL,
        "weights_sha256": bundled()[DEFAULT_MODEL].files["safetensors"].sha256,
        "scenes": scenes,
        "size": SIZE,
        "materials": {name: measure(name, scenes) for name in MATERIALS},
    }
    write_section("materials", _text(raw), raw, document=DOC)


def measure(material: str, scenes: int) -> dict[str, dict[str, float]]:
    """Matcher → means over the scenes of EPE (px), bad2 and bad2 of the surest 80 % (%), of what both views see."""
    matchers = {name: load(name, threads=1) for name in MATCHERS}
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in MATCHERS}
    for index in range(scenes):
        pair = hard_pair(material, index)
        assert pair.disparity_HW is not None and pair.visible_HW is not None
        for name, matcher in matchers.items():
            found = matcher.predict(pair.left_HW3, pair.right_HW3)
            error_N = np.abs(found.disparity - pair.disparity_HW)[pair.visible_HW]
            sure = bad_of_kept(error_N, found.confidence[pair.visible_HW])
            rows[name].append((float(error_N.mean()), 100 * float((error_N > 2).mean()), sure))
    return {
        name: dict(zip(("epe", "bad2", "bad2_kept80"), np.mean(found, axis=0).tolist(), strict=True))
        for name, found in rows.items()
    }


def _text(raw: Mapping[str, Any]) -> str:
    height, width = raw["size"]
    intro = (
        f"{raw['scenes']} scenes of the engine at {width}×{height}, disparities up to {NEAREST:g} px. In each row all "
        f"surfaces are of that material; shapes, camera and light stay. Noise of {NOISE:g} levels. Pixels that both "
        f"views see, means over scenes. {raw['model']} (weights {short_hash(raw['weights_sha256'])}), fp32, range "
        f"0-192; {in_words(raw['machine'])}."
    )
    rows = []
    for material, found in raw["materials"].items():
        ours, theirs = (found[name] for name in MATCHERS)
        numbers = (ours["epe"], ours["bad2"], ours["bad2_kept80"], theirs["epe"], theirs["bad2"])
        rows.append([material, *(number(value) for value in numbers)])
    header = ["material", "EPE, px", "bad2, %", "bad2 of the surest 80 %", "SGBM: EPE, px", "SGBM: bad2, %"]
    return f"{intro}\n\n{table(header, rows)}"
