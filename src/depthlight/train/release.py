"""The model file of a run: averaged weights as safetensors, with what ``--model FILE`` must know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

MODEL_FILE = "model.safetensors"


def segment(
    *, recipe: str, stage: int, samples: int, seed: int, start_sha256: str, core_hours: float, commit: str
) -> dict[str, Any]:
    """One entry of a model's lineage: what happened since ``start_sha256``."""
    return {
        "recipe": recipe,
        "stage": stage,
        "commit": commit,
        "samples": samples,
        "seed": seed,
        "start_sha256": start_sha256,
        "core_hours": round(core_hours, 3),
    }


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


def git_commit() -> str:
    """Hash of the source tree the package runs from, or "" outside a git checkout."""
    folder = Path(__file__).resolve().parent
    for parent in folder.parents:
        head = parent / ".git" / "HEAD"
        if head.is_file():
            return _read_head(parent / ".git")
    return ""


def _read_head(git: Path) -> str:
    """HEAD's commit, read as a file: git itself may be missing, or distrust the folder."""
    text = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not text.startswith("ref: "):
        return text
    reference = git / text[5:]
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    packed = git / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(text[5:])), "")
