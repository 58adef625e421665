"""The page as a folder of static files: ours, the two libraries of ``tools/vendor.py``, samples, the bundled network.

Any static host can serve it; behind :mod:`.api` it also finds ``/v1``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..core.errors import InputError, OutputError
from ..core.registry import DEFAULT_MODEL, bundled

PAGE = Path(__file__).parent / "page"
VENDOR = PAGE / "vendor"
MISSING = (
    "the page's libraries are not in this installation: run python tools/vendor.py in a checkout (it needs npm), "
    "then install from there"
)


def is_whole() -> bool:
    """Whether the libraries are there: they come from npm, and with wheels, but not with the source."""
    return (VENDOR / "lock.json").is_file()  # written last


def write_site(folder: Path) -> None:
    """Write the page into ``folder``, which is made, or empty.

    Raises:
        InputError: the libraries are missing, or the folder holds something.
        OutputError: it cannot be written.
    """
    if not is_whole():
        raise InputError(MISSING)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there and not an empty folder", hint="Choose another name")
    card = bundled()[DEFAULT_MODEL]
    told = {"name": card.name, "max_disp": card.max_disp, "weights_sha256": card.files["safetensors"].sha256}
    try:
        shutil.copytree(PAGE, folder, dirs_exist_ok=True)
        (folder / "model").mkdir()
        shutil.copyfile(card.path("onnx"), folder / "model" / "stereo.onnx")
        (folder / "model" / "card.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
