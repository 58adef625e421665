"""Where files are: local folders, or URLs of anything fsspec knows (``s3://``, ``gs://``, ``memory://`` …)."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..core.errors import DepthlightError, ImageError, InputError, LimitError, OutputError
from ..core.extras import require
from ..core.registry import sha256_of
from ..io.atomic import atomic_write_bytes
from ..io.guard import DEFAULT_LIMITS
from ..io.names import inside

_MAX_BYTES = DEFAULT_LIMITS.max_bytes


def is_url(text: str) -> bool:
    """Whether fsspec is asked for the file; local files have their own, atomic way."""
    return "://" in text


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL (an ``fsspec.AbstractFileSystem``), and the path in it.

    Raises:
        MissingExtraError: fsspec is not installed.
        InputError: an unknown protocol, or one whose package is not installed.
    """
    fsspec = require("fsspec", extra="batch", purpose=f"{url} is no local path")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except Exception as error:  # what a protocol's package raises is not known here
        raise InputError(f"{url} cannot be opened: {error}", expected="a URL that fsspec knows") from error
    return system, path.rstrip("/")


@contextmanager
def told(kind: type[DepthlightError], what: str) -> Iterator[None]:
    """What a file system or a parser raises, as one line."""
    try:
        yield
    except DepthlightError:
        raise
    except Exception as error:
        gone = "there is no such file" if isinstance(error, FileNotFoundError) else ""
        raise kind(f"{what}: {gone or getattr(error, 'strerror', None) or error or type(error).__name__}") from error


def found(pattern: str) -> list[tuple[str, str]]:
    """The files that a path with ``*`` and ``**`` finds, sorted: as they are opened, and as the pattern spells them."""
    pattern = re.sub(r"[\[?]", r"[\g<0>]", pattern)  # these are no wildcards here
    if not is_url(pattern):
        return [(path, path) for path in sorted(glob.glob(pattern, recursive=True)) if exists(path)]  # noqa: PTH207
    system, path = filesystem(pattern)
    with told(InputError, f"{pattern} cannot be listed"):
        return [(system.unstrip_protocol(one), one) for one in sorted(system.glob(path))]


def exists(source: str) -> bool:
    """Whether a file is there."""
    if not is_url(source):
        return os.path.isfile(source)  # noqa: PTH113 False, not an error, for names too long
    system, path = filesystem(source)
    with told(ImageError, f"{source} cannot be looked for"):
        return bool(system.isfile(path))


def fingerprint(source: str) -> str | None:
    """What changes when a file does: the SHA-256 of a local one, what fsspec goes by elsewhere; None without a file."""
    if not exists(source):
        return None
    if is_url(source):
        system, path = filesystem(source)
        return str(system.ukey(path))
    return sha256_of(Path(source)) if Path(source).stat().st_size <= _MAX_BYTES else None


def opened(source: str, most: int = _MAX_BYTES) -> BinaryIO:
    """The file as a binary stream.

    Raises:
        ImageError: it cannot be read.
        LimitError: it has more than ``most`` bytes.
    """
    system, path = filesystem(source) if is_url(source) else (None, source)
    with told(ImageError, f"{source} cannot be read"):
        size = system.size(path) if system else Path(path).stat().st_size
        if size is not None and size > most:
            raise LimitError(f"{source} has {size:,} bytes", expected=f"at most {most:,}")
        stream: BinaryIO = system.open(path, "rb") if system else Path(path).open("rb")  # noqa: SIM115
        return stream


def fetched(source: str, folder: Path) -> Path:
    """The file as a local one; from a URL into ``folder``, which is made. Raises as :func:`opened` does."""
    if not is_url(source):
        return Path(source)
    copy = folder / source.rstrip("/").rsplit("/", 1)[-1]
    with opened(source) as stream, told(ImageError, f"{source} cannot be read"):
        folder.mkdir(parents=True, exist_ok=True)
        with copy.open("wb") as target:
            shutil.copyfileobj(stream, target)
    return copy


class Store:
    """Where results go: a folder, or a URL whose files appear whole, as those of object stores do.

    Names are relative, with forward slashes. In a folder, results are built in ``.partial`` and moved.
    """

    def __init__(self, out: str, run: str = "") -> None:
        self.out, self.run = out.rstrip("/") if is_url(out) else out, run
        self._system: Any = None
        if is_url(out):
            self._system, self._root = filesystem(out)

    def _local(self, name: str) -> Path:
        return inside(self.out, name)

    def read(self, name: str) -> bytes | None:
        """The content, or None where there is none."""
        with told(OutputError, f"cannot read {self.out}/{name}"), contextlib.suppress(FileNotFoundError):
            return (
                bytes(self._system.cat_file(f"{self._root}/{name}")) if self._system else self._local(name).read_bytes()
            )
        return None

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        with told(OutputError, f"cannot read {self.out}/{name}"):
            return bool(self._system.isfile(f"{self._root}/{name}")) if self._system else self._local(name).is_file()

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with told(OutputError, f"cannot remove {self.out}/{name}"), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{name}") if self._system else self._local(name).unlink()

    def put(self, file: Path, name: str) -> None:
        """Put a local file in place, whole or not at all; the local one may be gone afterwards."""
        with told(OutputError, f"cannot write {self.out}/{name}"):
            if self._system:
                self._system.put_file(os.fspath(file), f"{self._root}/{name}")
                return
            target = self._local(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)

    def adopt(self, folder: Path, name: str) -> bool:
        """Put a whole folder in place in one step, where that is possible and nothing is there yet."""
        with told(OutputError, f"cannot write {self.out}/{name}"):
            if self._system or os.path.lexists(self._local(name)):
                return False
            self._local(name).parent.mkdir(parents=True, exist_ok=True)
            folder.rename(self._local(name))
            return True

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        with told(OutputError, f"cannot write {self.out}/{name}"):
            if self._system:
                self._system.pipe_file(f"{self._root}/{name}", data)
            else:
                atomic_write_bytes(self._local(name), data)

    def staging(self, name: str) -> tempfile.TemporaryDirectory[str]:
        """A local folder to build the result of an item in, on the file system of a local store."""
        with told(OutputError, f"cannot write into {self._partial}"):
            self._partial.mkdir(parents=True, exist_ok=True)
            prefix = f"{self._mark(name)}-{self.run}-"
            return tempfile.TemporaryDirectory(dir=self._partial, prefix=prefix, ignore_cleanup_errors=True)

    def leftovers(self, name: str) -> int:
        """How often doing this item was begun in this run, on this machine, and did not end."""
        return sum(1 for _ in self._partial.glob(f"{self._mark(name)}-{self.run}-*"))

    @property
    def _partial(self) -> Path:
        return Path(tempfile.gettempdir()) if self._system else Path(self.out, ".partial")

    def clean(self, names: Iterable[str]) -> None:
        """Remove what killed workers left of these items on this machine."""
        marks = {self._mark(name) for name in names}
        with contextlib.suppress(OSError):
            for path in self._partial.iterdir():
                if path.name.split("-")[0] in marks:
                    shutil.rmtree(path, ignore_errors=True)

    def _mark(self, name: str) -> str:
        return hashlib.sha256(f"{self.out}/{name}".encode()).hexdigest()[:16]
