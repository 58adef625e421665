"""What a run starts from: the network it trains, with random or given weights and their lineage."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..core import registry
from ..core.errors import CheckpointError
from ..nets.stereo import build
from ..nets.stereo.base import StereoNet
from .config import MODEL_SUFFIXES, TrainConfig


@dataclass(frozen=True)
class Start:
    """A network and where its weights come from (``sha256`` empty for random ones)."""

    net: StereoNet
    family: str
    network: dict[str, Any]
    sha256: str = ""
    lineage: tuple[dict[str, Any], ...] = field(default=())


def make_start(config: TrainConfig) -> Start:
    """Build the network. With ``config.start`` its family and sizes are those of the weights.

    Raises:
        UnknownNameError: no such model.
        CheckpointError: the file is damaged, foreign, or does not fit.
    """
    torch.manual_seed(config.seed)
    if not config.start:
        return Start(build(config.network, config.network_config), config.network, dict(config.network_config))
    from ..nets.checkpoints import load_into, load_weights

    path, family, network, lineage = locate(config.start, config)
    net = build(family, network)
    load_into(net, load_weights(path), source=str(path))
    return Start(net, family, network, registry.sha256_of(path), lineage)


def locate(model: str, config: TrainConfig) -> tuple[Path, str, dict[str, Any], tuple[dict[str, Any], ...]]:
    """File, family, network configuration and lineage of a model name or file."""
    from ..nets.checkpoints import read_metadata

    path = Path(model)
    if path.suffix == ".safetensors":
        metadata = read_metadata(path)
        family = metadata.get("family", config.network)
        network = json.loads(metadata.get("network", "{}"))
        return path, family, network, tuple(json.loads(metadata.get("lineage", "[]")))
    if path.suffix in MODEL_SUFFIXES:
        return path, config.network, dict(config.network_config), ()
    name = registry.resolve(model)
    card = registry.bundled().get(name)
    if card is not None:
        return registry.verified_path(card, "safetensors"), card.family, dict(card.network), card.lineage
    if name in registry.CLASSICAL:
        raise CheckpointError(f"{name} has no weights to start from", expected="a network")
    from ..nets.hub import fetch_official

    return fetch_official(name), registry.family_of(name), {}, ()
