"""Small text files from outside: calibration, lists of scenes, metadata."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..core.errors import FileFormatError, LimitError

MAX_BYTES = 2**20


def read_text(path: str | os.PathLike[str], *, what: str, max_bytes: int = MAX_BYTES) -> str:
    """The text of a regular UTF-8 file (a byte order mark is dropped).

    Args:
        what: what the file should be, for the error: ``"a calibration"``.

    Raises:
        FileFormatError: missing, not a regular file (a pipe would be waited for), unreadable, or not UTF-8.
        LimitError: larger than ``max_bytes``.
    """
    path = Path(path)
    try:
        status = path.stat()  # before opening: opening a pipe waits for its writer
        if not stat.S_ISREG(status.st_mode):
            raise FileFormatError(f"{path} is not a regular file", expected=what)
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise FileFormatError(f"{path} does not exist", expected=what, hint="Check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise FileFormatError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > max_bytes:
        raise LimitError(f"{path} is too large for {what}", expected=f"at most {max_bytes:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not text in UTF-8 (byte {error.start})", expected=what) from None
