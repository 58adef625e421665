"""Recipes: configurations in TOML that come with the package, or files of the user's."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import FileFormatError, InputError, UnknownNameError


@dataclass(frozen=True)
class Recipes:
    """A folder of recipes; ``noun`` is what messages call one."""

    folder: Path
    noun: str = "recipe"

    def names(self) -> list[str]:
        """The recipes that come with the package."""
        return sorted(path.stem for path in self.folder.glob("*.toml"))

    def read(self, recipe: str) -> dict[str, Any]:
        """The plain values of a recipe (a name), or of a file (a path ending in ``.toml``).

        Raises:
            UnknownNameError: no such recipe; the nearest is offered.
            InputError, FileFormatError: the file is missing, or is no TOML.
        """
        path = Path(recipe)
        if path.suffix != ".toml":
            if recipe not in self.names():
                raise UnknownNameError(self.noun, recipe, self.names())
            path = self.folder / f"{recipe}.toml"
        elif not path.is_file():
            names = ", ".join(self.names())
            raise InputError(f"{path} does not exist", expected=f"a TOML file or a {self.noun}: {names}")
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FileFormatError(f"{path}: {error}", expected="TOML") from None
