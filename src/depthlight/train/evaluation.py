"""The run measures itself: averaged weights on a folder of scenes, a row each in ``evaluation.csv`` and ``.md``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backends import TorchBackend
from ..core.errors import InputError
from ..data.samples import StereoDataset, StereoSample
from ..data.scenes import SceneFolder, read_list
from ..eval.protocol import PROTOCOLS
from ..eval.runner import Pictures, evaluate
from ..infer.prediction import StereoPrediction
from ..infer.stereo import StereoModel
from ..io.atomic import atomic_write_bytes
from .config import EvaluationConfig
from .log import append_row, read_rows

TABLE = "evaluation.csv"
FIGURES = ("epe", "bad1", "bad2", "bad3", "d1")


def open_scenes(config: EvaluationConfig) -> StereoDataset | None:
    """The validation scenes, or None if there is no folder."""
    if not config.folder:
        return None
    return SceneFolder(Path(config.folder), read_list(config.list) if config.list else None)


def with_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the network with other weights, in inference mode."""
    other = copy.deepcopy(net)
    other.load_state_dict(dict(weights))
    return other.eval().requires_grad_(False)


def measure(
    net: Any,
    dataset: StereoDataset,
    *,
    device: torch.device,
    check: Callable[[], None],
    pictures: Pictures,
) -> dict[str, float]:
    """Mean figures of a stereo network, over all scenes and per source, as flat columns.

    Args:
        check: called after every scene; may raise to stop.
        pictures: given every scene and its prediction.
    """
    protocol = replace(PROTOCOLS["default"], max_disp=net.max_disp)
    matcher = StereoModel("run", TorchBackend(net, device=str(device)), weights_sha256=None, max_disp=net.max_disp)

    def after(sample: StereoSample, prediction: StereoPrediction) -> None:
        check()
        pictures(sample, prediction)

    result = evaluate(matcher, dataset, protocol, pictures=after).to_dict()
    if not result["scenes"]:
        first = next(iter(result["failures"].values()))
        raise InputError(f"none of the {len(dataset)} evaluation scenes could be measured: {first['error']}")
    row = {name: float(result["mean"][name]) for name in FIGURES}
    for group, figures in result["groups"].items():
        row |= {f"{group}_{name}": float(figures[name]) for name in FIGURES}
    return row


def record(folder: Path, facts: Mapping[str, Any], row: Mapping[str, float], figures: Sequence[str]) -> None:
    """Append the row to the CSV and render the table again as markdown."""
    append_row(folder / TABLE, {**facts, **{name: f"{value:.4f}" for name, value in row.items()}})
    rows = read_rows(folder / TABLE)
    columns = [*facts, *figures]
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(entry.get(name, "") for name in columns) for entry in rows]
    text = "".join(f"| {line} |\n" for line in lines)
    atomic_write_bytes((folder / TABLE).with_suffix(".md"), text.encode())
