"""Single-image depth networks of others: a name, a hub id or a folder → a :class:`~depthlight.nets.mono.base.MonoNet`.

A further kind of model needs one file beside this one and one entry of ``LOADERS`` (docs/how-to/add-a-depth-model.md).
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...core.errors import CheckpointError, InputError, UnknownNameError
from ...core.extras import require
from ...core.registry import MONO_HUB
from ..snapshots import Files, Snapshot, find_snapshot
from .base import MonoNet, Quantity
from .depth_anything import load_depth_anything
from .transformers_depth import load_transformers_depth

QUANTITIES: tuple[Quantity, ...] = ("inverse_depth", "depth")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
FILES = Files(needed=(("config.json",), WEIGHTS), also=("preprocessor_config.json",))

Loader = Callable[[Snapshot], MonoNet]
# By shell patterns for the ``model_type`` of config.json, or for the hub id or folder where there is none. What matches
# nothing here goes through transformers' AutoModelForDepthEstimation.
LOADERS: Mapping[str, Loader] = {"depth_anything": load_depth_anything}


@dataclass(frozen=True)
class HubMono:
    """A network and where it comes from.

    Attributes:
        net: in float32, evaluation mode, on the CPU.
        snapshot: the files; ``snapshot.weights_sha256()`` reads them for the identity of results.
    """

    net: MonoNet
    snapshot: Snapshot


def load_hub_mono(source: str | os.PathLike[str], *, quantity: Quantity | None = None) -> HubMono:
    """A depth network of others.

    Args:
        source: ``depth-anything-v2-small|base|large``, a hub id, or a local folder as transformers writes it.
        quantity: what the model answers, for those that do not say it themselves.

    Raises:
        CheckpointError: the model cannot be had or read, or does not say what it answers; one line with what to do.
        InputError: ``quantity`` contradicts the model.
        MissingExtraError: transformers is not installed.
    """
    if quantity is not None and quantity not in QUANTITIES:
        raise UnknownNameError("quantity", quantity, QUANTITIES)
    require("transformers", extra="refine", purpose="to run depth models of the Hugging Face hub")
    snapshot = find_snapshot(MONO_HUB.get(os.fspath(source), source), FILES)
    loader = _loader(snapshot)
    net = load_transformers_depth(snapshot, quantity) if loader is None else loader(snapshot)
    if quantity is not None and quantity != net.quantity:
        raise InputError(f"{snapshot.source} answers {net.quantity}, not {quantity}", hint="Leave out the quantity")
    return HubMono(net, snapshot)


def _loader(snapshot: Snapshot) -> Loader | None:
    try:
        kind = json.loads((snapshot.folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{snapshot.source}: config.json is damaged ({type(error).__name__})") from error
    name = kind if isinstance(kind, str) else snapshot.source
    return next((loader for pattern, loader in LOADERS.items() if fnmatch.fnmatch(name, pattern)), None)
