"""``python -m depthlight.train FOLDER``: one rank of the run whose configuration lies in FOLDER.

For torchrun: ``torchrun --nproc-per-node 2 -m depthlight.train FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..core.errors import DepthlightError
from .command import run_folder
from .config import load_config
from .loop import read_config


def main() -> int:
    """Exit status of the run; an error is one line."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--quiet"]
    try:
        folder = Path(arguments[0]) if arguments else Path("runs/run")
        base, recipe = read_config(folder)
        return run_folder(load_config(recipe, base=base), folder, recipe, quiet="--quiet" in sys.argv)
    except DepthlightError as error:
        print(f"depthlight: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
