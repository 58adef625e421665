"""Write tests/api_surface.json anew: public names and every verb's flags. Removing one needs a changelog entry."""

from __future__ import annotations

import json
from pathlib import Path

import typer

import depthlight
from depthlight.cli import main as cli


def flags(verb: str) -> list[str]:
    """All option names of a verb."""
    command = typer.main.get_command(cli._verb(verb))
    return sorted(name for parameter in command.params for name in parameter.opts if name.startswith("-"))


if __name__ == "__main__":
    surface = {"names": sorted(depthlight.__all__), "verbs": {verb: flags(verb) for verb in cli.VERBS}}
    target = Path(__file__).parents[1] / "tests" / "api_surface.json"
    target.write_text(json.dumps(surface, indent=1) + "\n")
