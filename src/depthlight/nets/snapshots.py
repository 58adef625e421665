"""Folders of other people's models: a local folder, the Hugging Face cache, or the hub, in this order.

A model on the hub is a folder of files. Whoever needs one says which files (:class:`Files`) and gets a
:class:`Snapshot`. Only what is needed is downloaded, only safetensors weights are taken (torch's ``.bin`` files can
carry code), and without a network the answer comes within seconds, as one line that says how to fetch the files
elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from ..core.errors import CheckpointError
from ..core.extras import require
from ..core.registry import sha256_of

HUB_TIMEOUT = 5.0  # seconds until a hub that does not answer counts as unreachable
# Ids that people know from papers and tutorials but that are gone, or hold no files we can read.
INSTEAD: Mapping[str, str] = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "depth-anything/Depth-Anything-V2-Small": "depth-anything/Depth-Anything-V2-Small-hf",
    "depth-anything/Depth-Anything-V2-Base": "depth-anything/Depth-Anything-V2-Base-hf",
    "depth-anything/Depth-Anything-V2-Large": "depth-anything/Depth-Anything-V2-Large-hf",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_INDEX = ".safetensors.index.json"


@dataclass(frozen=True)
class Files:
    """What of a folder is needed.

    Attributes:
        needed: names below the folder; each entry is a choice, of which the first that is there is taken.
        also: names that are taken where they are there.
    """

    needed: tuple[tuple[str, ...], ...]
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A folder that holds what was needed.

    Attributes:
        source: the hub id or folder that was asked for.
        folder: where the files are.
        chosen: the names that were taken of each choice, in the order of ``Files.needed``.
    """

    source: str
    folder: Path
    chosen: tuple[str, ...]

    @property
    def revision(self) -> str | None:
        """The hub's commit, or None for a local folder."""
        return self.folder.name if self.folder.parent.name == "snapshots" else None

    def weights_sha256(self) -> str:
        """SHA-256 of the weights; of several files, the SHA-256 over ``name:hash`` lines. Reads all of them."""
        names = [file for choice in self.chosen for file in _weight_files(self.folder, choice)]
        hashes = [sha256_of(self.folder / name) for name in names]
        if len(hashes) == 1:
            return hashes[0]
        lines = "".join(f"{name}:{value}\n" for name, value in zip(names, hashes, strict=True))
        return hashlib.sha256(lines.encode()).hexdigest()


def find_snapshot(source: str | os.PathLike[str], files: Files, *, extra: str = "refine") -> Snapshot:
    """The folder of a model, downloaded to the hub's own cache when it is nowhere else.

    Args:
        source: a local folder, or a hub id such as ``depth-anything/Depth-Anything-V2-Small-hf``.
        files: what is needed of it.
        extra: the extra that brings ``huggingface_hub``, for the hint when it is missing.

    Raises:
        CheckpointError: there is no such folder or model; files are missing in it; or neither cache nor network has it.
        MissingExtraError: huggingface_hub is not installed, and ``source`` is no folder.
    """
    folder = Path(source)
    name = os.fspath(source)
    if folder.is_dir():
        return _in_folder(name, files, folder)
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"there is no folder {name}", expected="a folder, or a hub id such as owner/model")
    hub = require("huggingface_hub", extra=extra, purpose="to find models of the Hugging Face hub")
    cached = _cached(hub, name, files)
    return cached if cached is not None else _download(hub, name, files)


def _cached(hub: ModuleType, name: str, files: Files) -> Snapshot | None:
    """The snapshot in the cache, if nothing that is needed lacks there."""
    marker = hub.try_to_load_from_cache(name, files.needed[0][0])
    if not isinstance(marker, str):
        return None
    folder = Path(marker)
    for _ in Path(files.needed[0][0]).parts:
        folder = folder.parent
    try:
        return _in_folder(name, files, folder)
    except CheckpointError:
        return None  # a download that was broken off: go on with it


def _download(hub: ModuleType, name: str, files: Files) -> Snapshot:
    try:
        there = {file.rfilename for file in hub.HfApi().model_info(name, timeout=HUB_TIMEOUT).siblings or ()}
    except Exception as error:  # the hub client raises errors of several libraries
        _refuse(hub, name, files, error)
    chosen = _choose(name, files, there, folder=None)
    wanted = {*chosen, *there.intersection(files.also)}
    shards = [file.removesuffix(_INDEX) + "-*.safetensors" for file in chosen if file.endswith(_INDEX)]
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=[*sorted(wanted), *shards]))
    except Exception as error:
        _refuse(hub, name, files, error)
    return _in_folder(name, files, folder)


def _refuse(hub: ModuleType, name: str, files: Files, error: Exception) -> NoReturn:
    if name in INSTEAD:
        raise CheckpointError(
            f"{name} cannot be had from the hub in a form depthlight reads", hint=f"Use {INSTEAD[name]}"
        ) from error
    if isinstance(error, hub.errors.RepositoryNotFoundError):
        raise CheckpointError(
            f"the Hugging Face hub shows no model {name} (a wrong name, or one that needs a login)",
            hint="See https://huggingface.co/models; log in with: hf auth login",
        ) from error
    weights = [choice[0] for choice in files.needed if choice[0].endswith(".safetensors")]
    wanted = " ".join(f'--include "{pattern}"' for pattern in ("*.json", "*.txt", *weights))
    raise CheckpointError(
        f"{name} is not in the Hugging Face cache, and the hub cannot be reached ({type(error).__name__})",
        hint=f"On a machine with a network run: hf download {name} {wanted} --local-dir FOLDER; "
        "then give that folder in place of the name",
    ) from error


def _choose(name: str, files: Files, there: set[str], folder: Path | None) -> tuple[str, ...]:
    """Of each choice the first that is there; in a folder, complete with its shards."""
    chosen = []
    for choice in files.needed:
        found = next((file for file in choice if file in there), None)
        if found is None:
            _missing(name, choice, there)
        lost = set() if folder is None else set(_weight_files(folder, found)) - there
        if lost:
            raise CheckpointError(f"{name} lacks {min(lost)}, which {found} names", hint="Copy the whole folder")
        chosen.append(found)
    return tuple(chosen)


def _missing(name: str, choice: tuple[str, ...], there: set[str]) -> NoReturn:
    folder = str(Path(choice[0]).parent)
    torch_files = [
        file for file in there if file.endswith((".bin", ".pt", ".pth")) and str(Path(file).parent) == folder
    ]
    if choice[0].endswith(".safetensors") and torch_files:
        raise CheckpointError(
            f"{name} has its weights only as {min(torch_files)}, which can carry code",
            expected=choice[0],
            hint=f"Use {INSTEAD[name]}" if name in INSTEAD else "Load it where you trust it and save_pretrained() it",
        )
    raise CheckpointError(f"{name} has no {choice[0]}", expected="one of " + ", ".join(choice) if choice[1:] else "")


def _in_folder(name: str, files: Files, folder: Path) -> Snapshot:
    parents = {Path(file).parent for choice in files.needed for file in choice}
    there = {
        (parent / path.name).as_posix()
        for parent in parents
        if (folder / parent).is_dir()
        for path in (folder / parent).iterdir()
        if path.is_file()
    }
    return Snapshot(name, folder, _choose(name, files, there, folder))


def _weight_files(folder: Path, name: str) -> list[str]:
    """The safetensors files a chosen name stands for: itself, or the shards of an index; none for other files."""
    if name.endswith(".safetensors"):
        return [name]
    if not name.endswith(_INDEX):
        return []
    try:
        shards = set(json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values())
        return sorted((Path(name).parent / shard).as_posix() for shard in shards)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder / name} is damaged ({type(error).__name__})") from error
