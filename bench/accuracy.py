"""Section ``accuracy``: every bundled model and SGBM on public28."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bench import summary
from bench.report import in_words, machine, note_on_card, number, short_hash, table, write_section

from depthlight.backends.openvino import has_bf16
from depthlight.core.errors import CheckFailedError
from depthlight.core.registry import CLASSICAL, SMALL_MODEL, bundled, task_of
from depthlight.data.scenes import SceneFolder, read_list
from depthlight.eval.confidence import relative_drop
from depthlight.eval.protocol import get_protocol
from depthlight.eval.runner import evaluate
from depthlight.infer.load import load

COLUMNS = {
    "epe": "EPE",
    "bad1": "bad1",
    "bad2": "bad2",
    "bad3": "bad3",
    "d1": "D1",
    "density": "density",
    "ause": "AUSE",
    "bad2_kept80": "bad2 of the surest 80 %",
    "bad2_drop80": "drop %",
}
SUBSETS = {"KITTI (kitti12, kitti15)": ("kitti12", "kitti15"), "Middlebury 2003–2006": ("midd03", "midd05", "midd06")}
Figures = Mapping[str, float | None]


def run(data: Path, names: Path) -> None:
    """Measure and write the section.

    Raises:
        CheckFailedError: a scene could not be measured.
    """
    facts = machine("onnxruntime", "opencv-python-headless", "numpy")
    dataset = SceneFolder(data, read_list(names))
    ours = [name for name in bundled() if task_of(name) == "stereo"]
    results = {model: _measure(model, dataset) for model in (*ours, *CLASSICAL)}
    if has_bf16():  # as the small one beats SGBM's speed where bf16 is fast
        results[f"{SMALL_MODEL}, openvino bf16"] = _measure(SMALL_MODEL, dataset, backend="openvino", precision="bf16")
    write_section("accuracy", _text(results, facts), {"machine": facts, "results": results})
    summary.run()
    for model in ours:
        mean = results[model]["mean"]
        note_on_card(model, metrics={f"public28.{key}": round(mean[key], 3) for key in COLUMNS})


def _measure(model: str, dataset: SceneFolder, **how: str) -> dict[str, Any]:
    print(f"accuracy: {' '.join((model, *how.values()))}", flush=True)
    result = evaluate(load(model, **how), dataset, get_protocol("public28"))
    if result.failures:
        raise CheckFailedError(f"{model} failed on {', '.join(failure.name for failure in result.failures)}")
    figures = result.to_dict()
    scenes = [scene["all"] | {"source": result.group_of(name)} for name, scene in figures["scenes"].items()]
    figures["subsets"] = {label: _mean(s for s in scenes if s["source"] in names) for label, names in SUBSETS.items()}
    for scene in figures["scenes"].values():
        del scene["seconds"]  # an accuracy run is no timing
    return figures


def _mean(scenes: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean over scenes, as ``groups`` of the result has it."""
    chosen = list(scenes)
    if not chosen:
        return {"n": 0}
    mean: dict[str, float | None] = {
        key: float(np.mean([scene[key] for scene in chosen])) for key in COLUMNS if key != "bad2_drop80"
    }
    return {**mean, "bad2_drop80": relative_drop(mean["bad2"] or 0.0, mean["bad2_kept80"] or 0.0), "n": len(chosen)}


def _text(results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    first = next(iter(results.values()))
    protocol = first["protocol"]
    rules = f"Protocol `{protocol['name']}`: {protocol['description']}; {first['counts']['scenes']} scenes."
    parts = [rules, in_words(facts) + ".", "### Mean over all scenes", _table("model", _models(results))]
    for label in SUBSETS:
        count = first["subsets"][label]["n"]
        rows = {model: result["subsets"][label] for model, result in results.items()}
        parts += [f"### {label}: mean over {count} scenes", _table("model", rows)]
    for key in ("epe", "bad2"):
        parts += [f"### {COLUMNS[key]} by source", _by_source(results, key)]
    return "\n\n".join(parts)


def _by_source(results: Mapping[str, Mapping[str, Any]], key: str) -> str:
    """One figure: a row per source, a column per model. All the others are in the raw results."""
    groups = next(iter(results.values()))["groups"]
    lines = [
        [f"{source} ({groups[source]['n']})", *(number(r["groups"][source][key], 2) for r in results.values())]
        for source in groups
    ]
    return table(["source (scenes)", *results], lines)


def _models(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Figures]:
    return {f"{model} {short_hash(result['weights_sha256'])}": result["mean"] for model, result in results.items()}


def _table(first: str, rows: Mapping[str, Figures]) -> str:
    digits = {"epe": 2, "ause": 3}
    return table(
        [first, *COLUMNS.values()],
        [[name, *(number(f.get(key), digits.get(key, 1)) for key in COLUMNS)] for name, f in rows.items()],
    )
