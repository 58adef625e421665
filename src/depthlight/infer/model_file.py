"""What a model file says about itself, and the network it makes. Nothing it says is believed before it is checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..backends import MAX_RANGE
from ..core.errors import CheckpointError, DepthlightError, MissingExtraError
from ..core.registry import NETWORK_FAMILIES
from ..nets.checkpoints import State, check_fits, load_into, load_weights, read_metadata
from ..nets.stereo import build
from ..nets.stereo.base import StereoNet

Net = TypeVar("Net", bound=nn.Module)

LARGEST_SETTING = 2048  # of any number in a network's configuration: channels, blocks, px
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Metadata of a model file (:mod:`depthlight.train.release` writes them); None where the file says nothing.

    ``network`` is the configuration the family is built with, ``max_disp`` the range it was trained for in px.
    """

    family: str | None = None
    name: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    max_disp: int | None = None


def read_facts(path: Path, families: Sequence[str] = NETWORK_FAMILIES) -> ModelFacts:
    """The facts in a ``.safetensors`` header; none for other files.

    Args:
        families: those that can be loaded here.

    Raises:
        CheckpointError: the file is missing or damaged, or a fact is not what it should be.
    """
    if path.suffix.lower() != ".safetensors":
        return ModelFacts()
    stated = read_metadata(path)
    if "family" not in stated:
        return ModelFacts()
    family, name = stated["family"], stated.get("name")
    if family not in families:
        raise _untrue(path, "family", family, "one of " + ", ".join(families))
    if name is not None and not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
        raise _untrue(path, "name", name, f"at most {LONGEST_NAME} printable characters")
    return ModelFacts(
        family=family,
        name=name,
        network=_network(path, stated.get("network", "{}")),
        max_disp=_max_disp(path, stated["max_disp"]) if "max_disp" in stated else None,
    )


def _network(path: Path, text: str) -> dict[str, Any]:
    try:
        network = json.loads(text, parse_int=_setting)
    except (ValueError, RecursionError):
        network = None
    if not isinstance(network, dict):
        raise _untrue(path, "network", text, f"a JSON object with numbers of at most {LARGEST_SETTING}")
    return network


def _setting(digits: str) -> int:
    if len(digits) > 6 or abs(int(digits)) > LARGEST_SETTING:
        raise ValueError(digits)
    return int(digits)


def _max_disp(path: Path, text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 0 < value <= MAX_RANGE or value % StereoNet.multiple:
        raise _untrue(path, "max_disp", text, f"a multiple of {StereoNet.multiple} up to {MAX_RANGE}")
    return value


def _untrue(path: Path, key: str, value: str, expected: str) -> CheckpointError:
    return CheckpointError(f"{path.name}: its {key} is {value[:60]!r}", expected=expected)


def build_network(family: str, network: Mapping[str, Any], path: Path) -> StereoNet:
    """The stereo network of ``family`` with the weights of ``path``; see :func:`build_with`."""
    return build_with(build, family, network, path)


def build_with(
    build: Callable[[str, Mapping[str, Any]], Net], family: str, network: Mapping[str, Any], path: Path
) -> Net:
    """What ``build(family, network)`` makes, with the weights of ``path``.

    The weights are compared with a sketch that has shapes and no memory first, so that a configuration can make the
    network no larger than the file.

    Raises:
        CheckpointError: the weights are damaged, or do not fit the family built with ``network``.
        MissingExtraError: the network's backbone needs timm.
    """
    state: State = load_weights(path)
    try:
        with torch.device("meta"):
            sketch = build(family, network)
    except MissingExtraError:
        raise
    except (DepthlightError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.name}: {family} cannot be built as its metadata say: {error}") from None
    check_fits(sketch, state, source=path.name)
    net = build(family, network)
    load_into(net, state, source=path.name)
    return net
