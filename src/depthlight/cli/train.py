"""``depthlight train``: a recipe or configuration, data, and a folder to train in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.extras import require
from ..core.recipes import Recipes
from .common import JsonFlag, QuietFlag

RECIPES = Recipes(Path(__file__).parents[1] / "train" / "recipes")  # train.config would ask for torch


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help=", ".join(RECIPES.names()) + ", or a .toml file; not with --resume."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Folder of scenes (for adapt: of pairs), or KIND:FOLDER. Repeatable."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the configuration. Repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder (runs/RECIPE).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    ranks: Annotated[int, typer.Option("--ranks", min=1, help="Processes of this machine that train as one.")] = 1,
    show: Annotated[bool, typer.Option("--show", help="Print the configuration and leave.")] = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> int:
    """Train, fine-tune or adapt a network. A run can be killed at any time and resumed to the same bits.

    The run folder holds model.safetensors, which `depthlight stereo --model` takes.
    """
    require("torch", extra="train", purpose="training runs on it")
    from ..train.command import start

    return start(
        recipe, data or [], settings or [], out, resume=resume, ranks=ranks, show=show, as_json=as_json, quiet=quiet
    )
