"""What is to be done: a TOML file of works as a list of items.

A work is a ``[[work]]`` table of a ``kind``, of what names its files (:class:`Work`) and of the kind's settings
(``docs/how-to/batch.md``). Paths are relative to the file they stand in, or URLs. An item's name is its path below the
folder without wildcards, or as the table spells it, without suffix; its parts are made harmless
(:func:`depthlight.io.names.safe_name`), and none climbs out of the output.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.config import from_dict
from ..core.errors import ConfigError, FileFormatError, InputError, LimitError, UnknownNameError
from ..core.extras import require
from ..io.images import IMAGE_SUFFIXES
from ..io.names import image_files, pair_folders, safe_name
from ..io.text import read_text
from .kinds import PAIR, PHOTO, Kind, kind_of
from .places import exists, filesystem, found, is_url, opened, told

COLUMNS = ("left", "right", "photo", "name", "calib", "sky")
MOST_ITEMS = 10_000_000
MOST_BYTES = 2**31  # of a table
_WILD = re.compile(r"\*\*/|\*")
Found = tuple[str, dict[str, str], tuple[str, ...]]  # name, inputs, what the wildcards stood for


@dataclass(frozen=True)
class Item:
    """One result to make: ``name`` is its place below the output, ``inputs`` are paths or URLs by role."""

    name: str
    work: int  # which of the manifest's kinds
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """Everything to do, in an order that only the manifest and the files it names decide."""

    kinds: tuple[Kind, ...]
    items: tuple[Item, ...]

    def shard(self, index: int, count: int) -> tuple[Item, ...]:
        """Every ``count``-th item from ``index`` (1 to ``count``) on: all shards together are all items, each once."""
        return self.items[index - 1 :: count]

    def digest(self) -> str:
        """A hash of the list of items: equal for all shards of one manifest."""
        total = hashlib.sha256()
        for item in self.items:
            total.update(f"{item.name}\0{item.work}\0{sorted(item.inputs.items())}\n".encode(errors="surrogatepass"))
        return total.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Work:
    """One part of a manifest.

    Its files are those of ``table`` (.csv or .parquet with columns of :data:`COLUMNS`), ``photo`` (a folder, glob or
    photo), ``pairs`` (a folder of pairs or scenes as training reads them), or ``left`` with ``right`` (two globs with
    the same wildcards, two folders, or two views). ``calib`` and ``sky`` are one file, or a glob as ``left`` is.
    """

    kind: str
    table: str | None = None
    photo: str | None = None
    pairs: str | None = None
    left: str | None = None
    right: str | None = None
    calib: str | None = None
    sky: str | None = None
    into: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [name for name in ("table", "photo", "pairs", "left") if getattr(self, name) is not None]
        if len(given) != 1 or (self.left is None) != (self.right is None):
            raise ConfigError(
                f"a work names {' and '.join(given) or 'no files'}",
                expected="one of table, photo, pairs, or left with right",
            )


def read_manifest(path: str) -> Manifest:
    """The manifest in a TOML file.

    Raises:
        InputError: it cannot be read, is not right, or names what is not there; or two results would have one place.
    """
    try:
        content = tomllib.loads(read_text(path, what="a manifest"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path}: {error}", expected="TOML") from None
    works = content.pop("work", None)
    if content or not isinstance(works, list) or not all(isinstance(one, dict) for one in works):
        raise FileFormatError(f"{path} is no manifest", expected="[[work]] tables and nothing else")
    own = set(Work.__dataclass_fields__) - {"settings"}
    for one in works:
        one["settings"] = {key: one.pop(key) for key in set(one) - own}
    return manifest_of([from_dict(Work, one, where="work.") for one in works], os.path.dirname(path))  # noqa: PTH120


def manifest_of(works: Sequence[Work], base: str = "") -> Manifest:
    """The manifest of works whose paths are relative to ``base``; raises as :func:`read_manifest` does."""
    kinds: list[Kind] = []
    items: list[Item] = []
    for work in works:
        listed, pairs = _listed(work, base)
        kind = kind_of(work.kind, pairs=pairs, settings=work.settings)
        for name, inputs, wild in listed:
            for role in ("calib", "sky"):
                pattern = getattr(work, role)
                path = None if pattern is None else _filled(_below(base, pattern), wild)
                if path and role not in inputs and (role != "sky" or exists(path)):  # not every pair shows sky
                    inputs[role] = path
            for role in set(inputs).difference(kind.needs, kind.may):
                raise InputError(f"{role} is not for {kind.name}, and {name!r} has it", hint="Leave it out")
            items.append(Item(_placed(work.into, name), len(kinds), inputs))
            if len(items) > MOST_ITEMS:
                raise LimitError(f"the manifest has more than {MOST_ITEMS:,} items", hint="Split it")
        kinds.append(kind)
    if not items:
        raise InputError("the manifest has no items", expected="at least one")
    _check_places(items)
    return Manifest(tuple(kinds), tuple(items))


def _placed(into: str, name: str) -> str:
    """The item's place, of plain file names only."""
    whole = f"{into}/{name}" if into else name
    if any(safe_name(part) != part for part in whole.split("/")):
        raise InputError(
            f"the output name {whole[:200]!r} is not allowed",
            expected="plain file names, joined by /",
            hint="A table can give names in its column name",
        )
    return whole


def _check_places(items: Iterable[Item]) -> None:
    """Refuse two results in one place, or one inside another; case does not tell them apart."""
    seen: dict[str, str] = {}
    for item in items:
        key = item.name.casefold()
        if key in seen:
            hint = "Give names in a table, or put the works into different folders"
            raise InputError(f"the results {seen[key]!r} and {item.name!r} have one place", hint=hint)
        seen[key] = item.name
    for key, name in seen.items():
        for parent in map(str, PurePosixPath(key).parents):
            if parent in seen:
                raise InputError(f"the result {name!r} would lie inside {seen[parent]!r}", hint="Give other names")


def _harmless(name: str) -> str:
    """Plain file names, except that what climbs out is left to be refused."""
    return "/".join(part if part == ".." else safe_name(part) for part in name.split("/"))


def _below(base: str, path: str) -> str:
    """``path`` as it is opened, if it is written in a file that lies in ``base``."""
    path = path.removeprefix("file://")
    return path if is_url(path) else os.path.join(base, path)  # noqa: PTH118 the base may be a URL


# ---------------------------------------------------------------------------------------------------- sources


def _listed(work: Work, base: str) -> tuple[Iterable[Found], bool]:
    """What a work names, and whether it is pairs."""
    if work.table is not None:
        return _table(_below(base, work.table))
    if work.photo is not None:
        return _photos(_below(base, work.photo)), False
    if work.pairs is not None:
        return _pairs(_below(base, work.pairs), labels=work.kind == "labels"), True
    return _two_sides(_below(base, str(work.left)), _below(base, str(work.right))), True


def _photos(source: str) -> Iterator[Found]:
    if os.path.isdir(source):  # noqa: PTH112 a URL is none
        for photo in image_files(Path(source)):
            yield _harmless(photo.stem), {"photo": str(photo)}, (photo.stem,)
        return
    for path, name, wild in _matches(source):
        yield name, {"photo": path}, wild


def _two_sides(left: str, right: str) -> Iterator[Found]:
    if os.path.isdir(left):  # noqa: PTH112
        for stem, one, other in pair_folders(left, right):
            yield _harmless(stem), {"left": str(one), "right": str(other)}, (stem,)
        return
    for path, name, wild in _matches(left):
        yield name, {"left": path, "right": _filled(right, wild)}, wild


def _pairs(folder: str, *, labels: bool) -> Iterator[Found]:
    """Pairs as training reads them; labels are named as it looks for them."""
    from ..data.folders import PairFolder
    from ..data.scenes import SceneFolder

    scenes = any(Path(folder).glob("*/left.*"))
    data = SceneFolder(folder, need_truth=False) if scenes else PairFolder(folder)
    for index in range(len(data)):
        name, (left, right) = data.sample_name(index), data.views(index)
        place = _harmless(name)
        if labels:
            from ..train.stage3 import label_path

            place = label_path(Path(), data, index).as_posix().removesuffix(".png")
        yield place, {"left": str(left), "right": str(right)}, (name.rsplit("/", 1)[-1],)


def _matches(pattern: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(path, name, what the wildcards stood for) of every image a glob finds."""
    spelled = filesystem(pattern)[1] if is_url(pattern) else pattern
    wild = _WILD.search(spelled)
    begin = spelled.rfind("/", 0, wild.start() if wild else None) + 1
    groups = re.escape(spelled).replace(r"\*\*/", "((?:.*/)?)").replace(r"\*", "([^/]*)")
    images = [(path, name) for path, name in found(pattern) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(f"{pattern} finds no image", expected="a folder, a glob or a file")
    for path, name in images:
        match = re.fullmatch(groups, name, re.DOTALL)
        if match is None:
            raise InputError(f"{pattern} finds {path}, but not by * and **/ alone", hint="Write ** as **/*")
        yield path, _harmless(os.path.splitext(name[begin:])[0]), match.groups()  # noqa: PTH122


def _filled(pattern: str, wild: tuple[str, ...]) -> str:
    """``pattern`` with its wildcards replaced by what those of another one stood for."""
    count = len(_WILD.findall(pattern))
    if count not in (0, len(wild)):
        raise InputError(f"{pattern} has {count} wildcards", expected=f"{len(wild)}, as the files it goes with")
    texts = iter(wild)
    return _WILD.sub(lambda _: next(texts), pattern)


# ---------------------------------------------------------------------------------------------------- tables


def _table(source: str) -> tuple[Iterator[Found], bool]:
    """The rows of a table, and whether they are pairs."""
    suffix = PurePosixPath(source).suffix.lower()
    if suffix not in (".csv", ".parquet") or not exists(source):
        raise InputError(f"{source} is no table", expected="a file ending in .csv or .parquet")
    rows = (_parquet if suffix == ".parquet" else _csv)(source)
    columns = next(rows, ())
    for column in columns:
        if column not in COLUMNS:
            raise UnknownNameError(f"column of {source}", str(column), COLUMNS)
    needs = PAIR if "left" in columns else PHOTO
    if len(set(columns)) < len(columns) or not set(needs) <= set(columns) or {"left", "photo"} <= set(columns):
        raise InputError(f"{source} has the columns {', '.join(columns)}", expected="left and right, or photo")
    return _rows(source, columns, rows, needs), needs == PAIR


def _rows(
    source: str, columns: Sequence[str], rows: Iterator[Sequence[Any]], needs: tuple[str, ...]
) -> Iterator[Found]:
    base = source.rpartition("/")[0]
    for number, cells in enumerate(rows, 1):
        row = dict(zip(columns, cells, strict=False))
        if len(cells) != len(columns) or not all(row[role] for role in needs):
            raise FileFormatError(
                f"row {number} of {source} has {len(cells)} cells, or an empty one",
                expected=f"{len(columns)}, of which {' and '.join(needs)} say something",
            )
        first = str(row[needs[0]])
        plain = os.path.splitext(first.split("://")[-1].lstrip("/"))[0]  # noqa: PTH122
        inputs = {role: _below(base, text) for role, text in row.items() if role != "name" and text}
        yield row.get("name") or _harmless(plain), inputs, (PurePosixPath(first).stem,)


def _csv(source: str) -> Iterator[Sequence[Any]]:
    with (
        told(FileFormatError, f"{source} cannot be read"),
        io.TextIOWrapper(opened(source, MOST_BYTES), encoding="utf-8-sig", newline="") as text,
    ):
        yield from csv.reader(text, strict=True)


def _parquet(source: str) -> Iterator[Sequence[Any]]:
    parquet = require("pyarrow.parquet", extra="batch", purpose=f"{source} is a Parquet file")
    with told(FileFormatError, f"{source} cannot be read"), opened(source, MOST_BYTES) as stream:
        file = parquet.ParquetFile(stream)
        schema = file.schema_arrow
        for column, kind in zip(schema.names, schema.types, strict=True):
            if str(kind) not in ("string", "large_string"):
                raise FileFormatError(f"column {column!r} of {source} holds {kind}", expected="text")
        yield schema.names
        for batch in file.iter_batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
