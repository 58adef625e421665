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

    Raises:
        InputError: no recipe, or the folder already holds a run and ``resume`` was not asked for.
    """
    config, name, folder = _resolve(recipe, data, settings, out, resume)
    if show:
        print(json.dumps(to_dict(config), indent=1))
        return 0
    if int(os.environ.get("RANK", "0")) == 0:  # the others, if torchrun started this, take the precision over in Run
        config = replace(with_absolute_paths(config), amp=machine.resolve_precision(config.amp, config.device))
        write_config(config, folder, name)
    quiet = quiet or as_json
    if ranks > 1:
        words = ["depthlight.train", str(folder), *(["--quiet"] if quiet else [])]
        status = launch(words, ranks, threads=config.threads)
    else:
        status = run_folder(config, folder, name, quiet=quiet)
    if as_json:
        print(json.dumps(_facts(folder, status), indent=2))
    return status


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
    if (folder / CONFIG_FILE).is_file() and any((folder / CHECKPOINTS).glob("step-*.json")):
        raise InputError(
            f"{folder} already holds a run", hint="Add --resume to go on with it, or name another folder with -o"
        )
    return load_config(recipe, data=data, settings=settings), name, folder
