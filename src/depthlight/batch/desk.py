"""Doing items: the one function behind a local run, a shard and a Ray worker.

A result is built beside its place and moved there when it is whole; the file that makes it whole goes last. It says
what was asked for (settings, model, inputs) and nothing of the run that made it: every runner leaves the same bytes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from ..core.config import to_dict
from ..core.errors import CheckFailedError, DepthlightError
from ..core.memory import keep_freed_memory
from ..io.atomic import atomic_write_bytes
from .kinds import Kind, Opened
from .manifest import Item
from .places import Store, fetched, fingerprint, is_url


@dataclass(frozen=True)
class Row:
    """What became of an item: ``state`` is ``done``, ``kept`` (its result was there) or ``failed``."""

    name: str
    state: str
    seconds: float
    error: str = ""
    status: int = 0  # the exit status that goes with the error


class Desk:
    """The networks of all kinds in a manifest, and the place for their results.

    Raises:
        DepthlightError: a kind's settings are wrong, or something it needs is missing.
    """

    def __init__(self, kinds: Iterable[Kind], out: str, run: str = "") -> None:
        keep_freed_memory()
        self.kinds: list[tuple[Kind, Opened]] = [(kind, kind.open()) for kind in kinds]
        cv2.setNumThreads(max(kind.threads for kind, _ in self.kinds))
        self.store = Store(out, run)

    def do(self, item: Item) -> Row:
        """Do an item if its result is not there yet. Never raises: nothing but the item is wrong then."""
        begun = time.perf_counter()
        state, error, status = "failed", "", 0
        try:
            state = self._do(item)
        except DepthlightError as problem:
            error, status = _as_written(str(problem), item), problem.exit_status
        except Exception as problem:  # a fault of ours, or no memory: the other items are not to blame
            error = str(CheckFailedError(f"internal failure ({type(problem).__name__}: {problem})"))
            status = CheckFailedError.exit_status
        return Row(item.name, state, round(time.perf_counter() - begun, 4), error, status)

    def _do(self, item: Item) -> str:
        kind, opened = self.kinds[item.work]
        inputs = {role: fingerprint(source) for role, source in item.inputs.items()}
        asked = {"kind": kind.name, "settings": to_dict(kind), "identity": opened.identity, "inputs": inputs}
        request = json.loads(json.dumps(asked))
        if self._holds(kind, item.name, request):
            return "kept"
        with self.store.staging(item.name) as staging:
            paths = {role: fetched(source, Path(staging) / "in" / role) for role, source in item.inputs.items()}
            result = Path(staging) / "out"
            result.mkdir()
            stopped = opened.do(paths, result)
            if not stopped:  # else what is there does not count as done, and is done again
                _sign(result / kind.vouch, request)
            self._publish(kind, item.name, result)
        if stopped:
            raise CheckFailedError(stopped)
        return "done"

    def _holds(self, kind: Kind, name: str, request: dict[str, Any]) -> bool:
        """Whether the whole result of this request is in place."""
        content = self.store.read(kind.target(name, kind.vouch))
        try:
            facts = json.loads(content or b"null")
        except (ValueError, RecursionError):
            return False
        if not isinstance(facts, dict) or facts.get("request") != request:
            return False
        files = facts.get("files", kind.owned)
        if not isinstance(files, list | tuple) or not set(files) <= set(kind.owned):
            return False
        return all(self.store.holds(kind.target(name, file)) for file in files)

    def _publish(self, kind: Kind, name: str, result: Path) -> None:
        """Put a result in place; of an earlier one the file that made it whole goes first."""
        last, *others = kind.owned
        if kind.target(name, last) == f"{name}/{last}" and self.store.adopt(result, name):
            return
        fresh = {path.name for path in result.iterdir()}
        self.store.remove(kind.target(name, last))
        for file in others:
            if file not in fresh and self.store.holds(kind.target(name, file)):
                self.store.remove(kind.target(name, file))
        for file in sorted(fresh, key=lambda file: (file == last, file)):
            self.store.put(result / file, kind.target(name, file))


def _sign(vouch: Path, request: dict[str, Any]) -> None:
    """What was asked for goes into the result, and the time it took out of it."""
    facts = json.loads(vouch.read_text(encoding="utf-8"))
    facts.pop("seconds", None)
    atomic_write_bytes(vouch, json.dumps(facts | {"request": request}, indent=2, ensure_ascii=False).encode())


def _as_written(text: str, item: Item) -> str:
    """The message with URLs for the copies that were made of them."""
    for role, source in item.inputs.items():
        if is_url(source):
            text = re.sub(rf"\S+/in/{role}/[^;,]*?\.\w+\b", source.replace("\\", r"\\"), text)
    return text
