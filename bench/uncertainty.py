"""Section ``uncertainty``: confidence against error, and how well the sigma made from it covers the errors.

Fits the constants of ``depthlight.infer.uncertainty`` on engine pairs of one seed, puts them into the weights' cards,
and counts on pairs of another seed and on real scenes how many errors lie within one, two, three and five sigma.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bench.report import ROOT, machine, note_on_card, number, table, write_section
from numpy.typing import NDArray

from depthlight.core.registry import bundled
from depthlight.data.samples import StereoSample, iterate
from depthlight.data.scenes import SceneFolder, read_list
from depthlight.data.synth.engine import Engine, SynthConfig
from depthlight.infer.load import load
from depthlight.infer.uncertainty import ConfidenceModel

DOC = ROOT / "docs" / "how-to" / "metres.md"
FIT_SEED, CHECK_SEED = 101, 202
SIZE = (384, 640)
PER_PAIR = 8000  # pixels drawn from a pair, so that large pictures count no more than small ones
ONE_SIGMA = 0.683
WITHIN = (1, 2, 3, 5)


def run(pairs: int, data: Path | None = None, scenes: Path | None = None) -> None:
    """Fit on ``pairs`` engine pairs, check on two thirds as many others and on the scene folders; write the section."""
    models = {name: _measured(name, pairs, data, scenes) for name, card in bundled().items() if "onnx" in card.files}
    for name, found in models.items():
        note_on_card(name, uncertainty={key: float(f"{value:.3g}") for key, value in found["model"].items()})
    raw = {"machine": machine("onnxruntime", "numpy"), "models": models}
    write_section("uncertainty", "\n\n".join(_text(name, found) for name, found in models.items()), raw, document=DOC)


def _measured(name: str, pairs: int, data: Path | None, scenes: Path | None) -> dict[str, Any]:
    fitted = fit(*errors(name, engine_pairs(FIT_SEED, pairs)))
    checked_on = {"engine, other seed": errors(name, engine_pairs(CHECK_SEED, max(1, 2 * pairs // 3)))}
    if data is not None:
        names = None if scenes is None else read_list(scenes)
        checked_on["real scenes"] = errors(name, iterate(SceneFolder(data, names)))
    return {
        "weights_sha256": bundled()[name].files["safetensors"].sha256,
        "model": vars(fitted),
        "coverage": {source: coverage(fitted, *values) for source, values in checked_on.items()},
    }


def engine_pairs(seed: int, count: int) -> Iterable[StereoSample]:
    """Pairs of all families, camera effects on."""
    engine = Engine(SynthConfig(seed=seed, height=SIZE[0], width=SIZE[1], max_max_disp=180.0))
    return (engine.sample(index) for index in range(count))


def errors(
    model: str, samples: Iterable[StereoSample]
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]:
    """|error| px, confidence and pair number of valid pixels with truth, :data:`PER_PAIR` of each pair."""
    matcher = load(model, threads=1)
    rng = np.random.default_rng(0)
    found: list[tuple[NDArray[Any], ...]] = []
    for index, sample in enumerate(samples):
        if sample.disparity_HW is None or sample.valid_HW is None:
            continue
        prediction = matcher.predict(sample.left_HW3, sample.right_HW3)
        rows, columns = np.nonzero(sample.valid_HW & prediction.valid)
        if not len(rows):
            continue
        pick = rng.choice(len(rows), min(PER_PAIR, len(rows)), replace=False)
        place = rows[pick], columns[pick]
        error = np.abs(prediction.disparity[place].astype(np.float64) - sample.disparity_HW[place])
        found.append((error, prediction.confidence[place], np.full(len(pick), index)))
    error_N, confidence_N, pair_N = (np.concatenate(column) for column in zip(*found, strict=True))
    return error_N, confidence_N, pair_N


def fit(error_N: NDArray[np.float64], confidence_N: NDArray[np.float32], _: NDArray[np.intp]) -> ConfidenceModel:
    """Least squares on the logarithms of the 68 % quantiles in quarter decades of ``1 - confidence``."""
    doubt_N = 1 - confidence_N.astype(np.float64)
    edges = np.concatenate([[-1.0], 10 ** np.arange(-5.5, 0.01, 0.25)])
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (doubt_N >= low) & (doubt_N < high)
        if inside.sum() > 300:
            rows.append((np.median(doubt_N[inside]), np.quantile(error_N[inside], ONE_SIGMA), inside.sum()))
    doubt, spread, weight = np.array(rows).T
    best = None
    for floor in 10 ** np.arange(-5, -2, 0.01):  # for a given floor the rest is a straight line
        design = np.stack([np.ones_like(doubt), np.log(doubt + floor)], axis=1)
        root = weight[:, None] ** 0.25
        solution, *_ = np.linalg.lstsq(design * root, np.log(spread)[:, None] * root, rcond=None)
        loss = float((((design @ solution)[:, 0] - np.log(spread)) ** 2 * np.sqrt(weight)).sum())
        if best is None or loss < best[0]:
            best = (loss, ConfidenceModel(float(np.exp(solution[0, 0])), float(floor), float(solution[1, 0])))
    if best is None:
        raise RuntimeError("no bin to fit")
    return best[1]


def coverage(
    model: ConfidenceModel, error_N: NDArray[np.float64], confidence_N: NDArray[np.float32], pair_N: NDArray[np.intp]
) -> dict[str, Any]:
    """Shares of the errors within multiples of sigma, and how the first of them spreads over the pairs."""
    sigma_N = model.sigma(confidence_N)
    shares = [float((error_N[pair_N == pair] <= sigma_N[pair_N == pair]).mean()) for pair in np.unique(pair_N)]
    return {
        "pairs": len(shares),
        "pixels": len(error_N),
        "within": {str(k): float((error_N <= k * sigma_N).mean()) for k in WITHIN},
        "one_sigma_by_pair": {str(p): float(np.percentile(shares, p)) for p in (10, 50, 90)},
        "median_error": float(np.median(error_N)),
        "median_sigma": float(np.median(sigma_N)),
    }


def _text(model: str, raw: Mapping[str, Any]) -> str:
    used = raw["model"]
    rows = []
    for name, found in raw["coverage"].items():
        by_pair = found["one_sigma_by_pair"]
        rows.append(
            [
                f"{name} ({found['pairs']} pairs)",
                *(f"{100 * found['within'][str(k)]:.0f} %" for k in WITHIN),
                f"{100 * by_pair['10']:.0f} to {100 * by_pair['90']:.0f} %",
                f"{number(found['median_error'])} px",
                f"{number(found['median_sigma'])} px",
            ]
        )
    header = ["errors within …", *(f"{k} σ" for k in WITHIN), "1 σ, 10th to 90th pair", "median error", "median σ"]
    formula = f"`σ = {used['factor']:.3g} · (1 - confidence + {used['floor']:.2g})^{used['power']:.3g}` px"
    return f"{formula}, `{model}`.\n\n{table(header, rows)}"
