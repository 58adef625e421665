"""The model file of a run: averaged weights as safetensors, with what ``--model FILE`` must know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

MODEL_FILE = "model.safetensors"


def write_model(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    family: str,
    network: Mapping[str, Any],
    facts: Mapping[str, str],
    name: str,
    lineage: Sequence[Mapping[str, Any]],
) -> None:
    """Write the file; name, family, network configuration, ``facts`` (a range) and lineage travel as metadata."""
    from ..nets.checkpoints import save_safetensors

    metadata = {
        "format": "pt",
        "name": name,
        "family": family,
        "network": json.dumps(dict(network)),
        **facts,
        "lineage": json.dumps([dict(entry) for entry in lineage]),
    }
    save_safetensors(path, {key: value.contiguous() for key, value in weights.items()}, metadata)
