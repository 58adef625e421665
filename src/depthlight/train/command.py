"""From a command line to a run: find the configuration, refuse what would overwrite a run, start the ranks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.config import to_dict
from ..core.errors import InputError
from ..io.atomic import atomic_write_bytes
from ..nets.checkpoints import read_metadata
from . import machine
from .config import RECIPES, TrainConfig, load_config, with_absolute_paths
from .distributed import join, launch, leave
from .loop import CHECKPOINTS, CONFIG_FILE, Run, read_config, write_config
from .release import MODEL_FILE


def start(
    recipe: str | None,
    data: Sequence[str],
    settings: Sequence[str],
    out: Path | None,
    *,
    resume: bool = False,
    ranks: int = 1,
    show: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Start or resume a run; returns the exit status.

    What fails before it has saved anything leaves the configuration of the run that was there as it was. torchrun calls
    this once for each rank.

    Raises:
        InputError: no recipe, or the folder already holds a run and ``resume`` was not asked for.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    if ranks > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"--ranks {ranks} under torchrun", expected="one of the two")
    config, name, folder = _resolve(recipe, data, settings, out, resume)
    if show:
        print(json.dumps(to_dict(config), indent=1))
        return 0
    if first:  # the others take the precision over in Run
        config = replace(with_absolute_paths(config), amp=machine.resolve_precision(config.amp, config.device))
        status = _start_first(config, folder, name, ranks, quiet or as_json)
    else:
        status = run_folder(config, folder, name, quiet=True)
    if as_json and first:
        print(json.dumps(_facts(folder, status), indent=2))
    return status


def _start_first(config: TrainConfig, folder: Path, name: str, ranks: int, quiet: bool) -> int:
    """Write the configuration and train; put the one before back if that fails before anything is saved."""
    path = folder / CONFIG_FILE
    before, saved = path.read_bytes() if path.is_file() else b"", _newest(folder)
    write_config(config, folder, name)
    status = 1  # unless training says otherwise
    try:
        if ranks > 1:
            words = ["depthlight.train", str(folder), *(["--quiet"] if quiet else [])]
            status = launch(words, ranks, threads=config.threads)
        else:
            status = run_folder(config, folder, name, quiet=quiet)
    finally:
        failed = 0 < status < 128  # above, a signal ended it
        if failed and before and _newest(folder) == saved:
            atomic_write_bytes(path, before)
    return status


def _newest(folder: Path) -> str:
    """Name of the newest checkpoint, "" if there is none."""
    return max((path.name for path in (folder / CHECKPOINTS).glob("step-*.json")), default="")


def _facts(folder: Path, status: int) -> dict[str, Any]:
    """What a run leaves, for machines."""
    model = folder / MODEL_FILE
    lineage = json.loads(read_metadata(model).get("lineage", "[]")) if model.is_file() else []
    return {"folder": str(folder), "status": status, "model": str(model) if lineage else None, "lineage": lineage}


def run_folder(config: TrainConfig, folder: Path, recipe: str, *, quiet: bool = False) -> int:
    """Train as one rank (of those torchrun or ``launch`` started, or alone)."""
    group = join()
    try:
        return Run(config, folder, ranks=group, recipe=recipe, quiet=quiet).run()
    finally:
        leave()


def _resolve(
    recipe: str | None, data: Sequence[str], settings: Sequence[str], out: Path | None, resume: bool
) -> tuple[TrainConfig, str, Path]:
    """Configuration, recipe name and folder."""
    if resume:
        folder = out or Path("runs") / Path(recipe or "run").stem
        base, name = read_config(folder)
        return load_config(name, data=data, settings=settings, base=base), name, folder
    if recipe is None:
        raise InputError("no recipe given", expected=f"a .toml file or one of {', '.join(RECIPES.names())}")
    name = Path(recipe).stem
    folder = out or Path("runs") / name
    if (folder / CONFIG_FILE).is_file() and _newest(folder):
        raise InputError(
            f"{folder} already holds a run", hint="Add --resume to go on with it, or name another folder with -o"
        )
    return load_config(recipe, data=data, settings=settings), name, folder
