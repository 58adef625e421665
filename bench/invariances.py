"""Section ``invariances``: what should not change the bundled default's disparity, and by how much it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report import in_words, machine, short_hash, table, write_section

from depthlight.core.errors import DepthlightError, InputError
from depthlight.core.registry import DEFAULT_MODEL, bundled
from depthlight.core.tolerances import TOLERANCES, tolerance
from depthlight.data.samples import StereoSample, iterate
from depthlight.data.scenes import SceneFolder
from depthlight.data.synth.engine import FAMILIES
from depthlight.eval import invariance
from depthlight.infer.load import load
from depthlight.infer.stereo import StereoModel

FROZEN = Path(__file__).resolve().parents[1] / "tests" / "eval" / "frozen_pairs"


def run(count: int) -> None:
    """Measure ``count`` engine pairs, the pairs of the tests, and torch's part; write the section."""
    facts = machine("onnxruntime", "torch", "numpy")
    fresh, families = fresh_pairs(count)
    frozen = list(iterate(SceneFolder(FROZEN, ["layered", "meshes"])))
    values = {
        "engine pairs": invariance.measure(_loader("onnxruntime"), fresh),
        "frozen pairs": invariance.measure(_loader("onnxruntime"), frozen),
        "torch": _runtime("torch", fresh[:2]),
    }
    raw = {
        "machine": facts,
        "model": DEFAULT_MODEL,
        "weights_sha256": bundled()[DEFAULT_MODEL].files["safetensors"].sha256,
        "families": families,
        "pairs": {"engine": len(fresh), "frozen": len(frozen)},
        "values": values,
        "targets": {bar.name: tolerance(bar.target) for bar in invariance.BARS},
    }
    write_section("invariances", _text(raw), raw)


def fresh_pairs(count: int) -> tuple[list[StereoSample], list[str]]:
    """``count`` engine pairs, spread over the families that this installation has; and those families.

    Raises:
        InputError: there is none.
    """
    by_family: dict[str, list[StereoSample]] = {}
    for family in FAMILIES:
        try:
            by_family[family] = invariance.engine_pairs(family, -(-count // len(FAMILIES)) + 1)
        except DepthlightError as error:
            print(f"invariances: {family} is left out: {error}", flush=True)
    if not by_family:
        raise InputError("the engine has no family that works here")
    turns = [pair for turn in zip(*by_family.values(), strict=True) for pair in turn]
    return turns[:count], list(by_family)


def _loader(backend: str) -> Any:
    def made(threads: int) -> StereoModel:
        model = load(DEFAULT_MODEL, backend=backend, threads=threads)
        if not isinstance(model, StereoModel):
            raise InputError(f"{DEFAULT_MODEL} is no network")
        return model

    return made


def _runtime(backend: str, pairs: list[StereoSample]) -> dict[str, float]:
    make = _loader(backend)
    found = {"x1.threads.max": invariance.threads(make, pairs)}
    model = make(1)
    return {
        "x1.repeat.max": invariance.repeat(model, pairs),
        **found,
        "x2.batch.max": invariance.batches(model, pairs),
    }


def _text(raw: Mapping[str, Any]) -> str:
    count = raw["pairs"]
    intro = (
        f"{raw['model']} (weights {short_hash(raw['weights_sha256'])}), fp32, onnxruntime; X1 and X2 of torch in their "
        f"own column. {count['engine']} pairs of 288×640 of the engine ({', '.join(raw['families'])}; camera off, seed "
        f"{invariance.PAIR_SEED}), and the {count['frozen']} frozen pairs of 256×512 that the tests use. "
        f"{in_words(raw['machine'])}."
    )
    rows = []
    for bar in invariance.BARS:
        fresh, frozen = (raw["values"][kind][bar.name] for kind in ("engine pairs", "frozen pairs"))
        torch = raw["values"]["torch"].get(bar.name)
        sign = "≥" if bar.larger_is_better else "≤"
        stored = f"{sign} {TOLERANCES[bar.name]:g}" if bar.name in TOLERANCES else f"{sign} {tolerance(bar.target):g}"
        target = f"{sign} {tolerance(bar.target):g}"
        numbers = [_value(fresh), "–" if torch is None else _value(torch), target, "yes" if bar.holds(fresh) else "no"]
        rows.append([f"{bar.what} ({bar.unit})", *numbers, _value(frozen), stored])
    header = ["quantity", "engine pairs", "torch", "target", "reached", "frozen pairs", "stored value (test)"]
    return f"{intro}\n\n{table(header, rows)}"


def _value(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"
