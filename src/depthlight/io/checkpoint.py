"""States of long work (training, refinement) that are whole or not there.

``step-N.pt`` holds the state, ``step-N.json`` beside it, written last, its SHA-256. A checkpoint without its manifest
does not exist; one that does not match it is damaged and the one before is used. Loading never runs code
(``weights_only=True``). torch is imported only when a state is written or read.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, DepthlightWarning
from .atomic import atomic_write_bytes

FORMAT = 1
State = dict[str, Any]


def save(folder: Path, state: State, *, step: int, keep: int) -> Path:
    """Write the state of ``step``, then drop all but the newest ``keep``.

    Raises:
        OutputError: it could not be written; the checkpoints before it are untouched.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"step-{step:09d}.pt"
    atomic_write_bytes(path, data)
    manifest = {"format": FORMAT, "step": step, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    atomic_write_bytes(path.with_suffix(".json"), json.dumps(manifest).encode())
    _prune(folder, keep)
    return path


def load_latest(folder: Path) -> State | None:
    """The newest state that is whole, or None if there is none yet.

    Raises:
        CheckpointError: there are checkpoints and every one is damaged.
    """
    manifests = _manifests(folder)
    for manifest in manifests:
        try:
            return load(manifest)
        except CheckpointError as error:
            warnings.warn(f"{error} Using the one before it.", DepthlightWarning, stacklevel=2)
    if manifests:
        raise CheckpointError(f"every checkpoint in {folder} is damaged", hint="Start again in another folder")
    return None


def load(manifest_path: Path) -> State:
    """The state a manifest stands for, after checking its hash, which it then holds as ``sha256``."""
    import torch

    path = manifest_path.with_suffix(".pt")
    try:
        manifest = json.loads(manifest_path.read_bytes())
        data = path.read_bytes()
        expected = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error})") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise CheckpointError(f"checkpoint {path} is damaged (its SHA-256 is not the one in its manifest)")
    try:
        state = dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except Exception as error:  # torch names no closed set; whatever it is, this file is no checkpoint of ours
        raise CheckpointError(f"checkpoint {path} holds more than tensors ({type(error).__name__})") from None
    if state.get("format") != FORMAT:
        raise CheckpointError(f"checkpoint {path} has format {state.get('format')}", expected=str(FORMAT))
    return state | {"sha256": expected}


def clean(folder: Path) -> None:
    """Remove what a kill in the middle of a save left behind."""
    for pattern in (".step-*.tmp.pt", ".step-*.tmp.json"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    known = {manifest.stem for manifest in _manifests(folder)}
    for path in folder.glob("step-*.pt"):
        if path.stem not in known:
            path.unlink(missing_ok=True)


def _manifests(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*.json"), reverse=True)


def _prune(folder: Path, keep: int) -> None:
    """Drop the oldest; failing to is no reason to stop the work."""
    for manifest in _manifests(folder)[keep:]:
        try:
            manifest.unlink(missing_ok=True)  # first, so that what remains is never a manifest without its file
            manifest.with_suffix(".pt").unlink(missing_ok=True)
        except OSError as error:
            warnings.warn(f"cannot remove old checkpoint {manifest}: {error}", DepthlightWarning, stacklevel=2)
