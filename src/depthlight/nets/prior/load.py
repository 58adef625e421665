"""The small prior from a model file or from the package."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import registry
from ...core.config import from_dict
from ...core.errors import CheckpointError, UnknownNameError
from ..checkpoints import load_into, load_weights, read_metadata
from .denoiser import Denoiser, DenoiserConfig


@dataclass(frozen=True)
class Prior:
    """A denoiser in inference mode and where it comes from."""

    net: Denoiser
    name: str
    sha256: str
    lineage: tuple[dict[str, Any], ...] = ()


def load_prior(model: str | os.PathLike[str] | None = None) -> Prior:
    """A small prior.

    Args:
        model: a ``.safetensors`` file of ``depthlight train prior``, or a bundled name (``relight.synth-v1``, the
            default).

    Raises:
        UnknownNameError: no bundled prior of that name.
        CheckpointError: the file is missing, damaged, or not a prior's.
    """
    name = registry.DEFAULT_PRIOR if model is None else os.fspath(model)
    if name.endswith(".safetensors"):
        return _from_file(Path(name))
    card = registry.bundled().get(name)
    known = [card.name for card in registry.bundled().values() if card.family in registry.PRIOR_FAMILIES]
    if card is None or card.family not in registry.PRIOR_FAMILIES:
        raise UnknownNameError("prior", name, known)
    path = registry.verified_path(card, "safetensors")
    net = _build(card.network, path)
    return Prior(net, name, card.files["safetensors"].sha256, card.lineage)


def build(family: str, network: Mapping[str, Any]) -> Denoiser:
    """A denoiser with fresh weights from plain configuration values.

    Raises:
        UnknownNameError: no such family or setting.
        ConfigError: a value is refused.
    """
    if family not in registry.PRIOR_FAMILIES:
        raise UnknownNameError("prior family", family, registry.PRIOR_FAMILIES)
    return Denoiser(from_dict(DenoiserConfig, network, where="network_config."))


def _from_file(path: Path) -> Prior:
    metadata = read_metadata(path)
    if metadata.get("family") not in registry.PRIOR_FAMILIES:
        found = metadata.get("family", "of no stated family")
        raise CheckpointError(f"{path.name} is not a re-lighting prior but {found}", expected="family relight")
    try:
        network = dict(json.loads(metadata["network"]))
        lineage = tuple(dict(entry) for entry in json.loads(metadata.get("lineage", "[]")))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path.name} is damaged: its metadata cannot be read ({error})") from None
    return Prior(_build(network, path), metadata.get("name", path.stem), registry.sha256_of(path), lineage)


def _build(network: Mapping[str, Any], path: Path) -> Denoiser:
    net = build("relight", network)
    load_into(net, load_weights(path), source=path.name)
    return net.eval().requires_grad_(False)
