"""What a run starts from: the network it trains, with random or given weights and their lineage."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import registry
from ..core.errors import CheckpointError, ConfigError, DepthlightWarning, UnknownNameError
from ..nets.stereo import build
from .config import MODEL_SUFFIXES, TrainConfig
from .task import Start


def make_start(config: TrainConfig) -> Start:
    """Build the network. With ``config.start`` its family and sizes are those of the weights, save LAS2-H from LAS2-M.

    Raises:
        UnknownNameError: no such model.
        ConfigError: ``config.network`` is neither its default nor the family of the weights.
        CheckpointError: the file is damaged, foreign, or does not fit.
    """
    torch.manual_seed(config.seed)
    if not config.start:
        return Start(build(config.network, config.network_config), config.network, dict(config.network_config))
    from ..nets.checkpoints import detect_family, load_into, load_weights

    path, family, network, lineage = locate(config.start, config)
    state = load_weights(path)
    if config.network == "las2-h" and (family == "las2-m" or detect_family(state) == "las2-m"):
        network = {**config.network_config, **network}
        net: nn.Module = _h_from_m(network, state, source=str(path))
        return Start(net, config.network, network, registry.sha256_of(path), lineage)
    if config.network not in (family, TrainConfig.network):
        raise ConfigError(
            f"network is {config.network}, and {config.start} is {family}",
            expected="the family of the weights, or las2-h with weights of las2-m",
            hint=f"--set network={family}",
        )
    net = build(family, network)
    load_into(net, state, source=str(path))
    return Start(net, family, network, registry.sha256_of(path), lineage)


def _h_from_m(network: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str) -> nn.Module:
    """LAS2-H with weights of LAS2-M where it has such; the rest stays random, and a warning names it.

    Raises:
        CheckpointError: the weights do not fit LAS2-M.
    """
    from ..nets.checkpoints import load_into

    net = build("las2-h", network)
    smaller = build("las2-m", {key: value for key, value in network.items() if key != "iterations"})
    load_into(smaller, state, source=source)
    own = net.state_dict()
    shared = {key: value for key, value in smaller.state_dict().items() if key in own}
    net.load_state_dict(own | shared)
    new = sorted({key.partition(".")[0] for key in own.keys() - shared.keys()})
    text = f"las2-h starts from weights of las2-m, and from random ones in {', '.join(new)}"
    warnings.warn(text, DepthlightWarning, stacklevel=3)
    return net


def bundled_card(model: str) -> registry.WeightCard | None:
    """The card of a bundled model by its full or short name."""
    return registry.bundled().get(registry.DEFAULT_TAGS.get(model, model))


def start_file(model: str) -> Path | None:
    """The file that ``start`` names, itself or as a bundled model; None for random weights and those of the hub.

    Raises:
        CheckpointError: there is no such file, or a bundled one is damaged.
    """
    path = Path(model)
    if not model or path.suffix not in MODEL_SUFFIXES:
        card = bundled_card(model)
        return registry.verified_path(card, "safetensors") if card is not None else None
    if not path.is_file():
        raise CheckpointError(f"model file {path} does not exist", hint="Check the path")
    return path


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
    name = registry.need_task(registry.resolve(model), "stereo")
    card = registry.bundled().get(name)
    if card is not None:
        return registry.verified_path(card, "safetensors"), card.family, dict(card.network), card.lineage
    if name in registry.CLASSICAL:
        raise CheckpointError(f"{name} has no weights to start from", expected="a network")
    from ..nets.hub import fetch_official

    return fetch_official(name), registry.family_of(name), {}, ()


def start_from(model: str, task: str, build: Callable[[str, dict[str, Any]], nn.Module]) -> Start:
    """A network of ``task`` with the weights of a bundled model, or of a ``.safetensors`` file of our training.

    Args:
        build: family and its configuration → network.

    Raises:
        CheckpointError: the file is damaged, says nothing of its family, is of another task, or does not fit.
        UnknownNameError: nothing bundled has that name.
    """
    from ..nets.checkpoints import load_into, load_weights, read_metadata

    families = registry.TASK_FAMILIES[task]
    if Path(model).suffix == ".safetensors":
        path = Path(model)
        metadata = read_metadata(path)
        family, network = metadata.get("family", "none"), json.loads(metadata.get("network", "{}"))
        lineage = tuple(json.loads(metadata.get("lineage", "[]")))
    else:
        cards = registry.bundled()
        if model not in cards:
            raise UnknownNameError("bundled model", model, cards)
        card = cards[model]
        path, family, network, lineage = (
            registry.verified_path(card, "safetensors"),
            card.family,
            card.network,
            card.lineage,
        )
    if family not in families:
        raise CheckpointError(f"{model} is of the family {family!r}", expected=f"one of {', '.join(families)}")
    net = build(family, dict(network))
    load_into(net, load_weights(path), source=str(path))
    return Start(net, family, dict(network), registry.sha256_of(path), lineage)
