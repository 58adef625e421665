"""``depthlight batch``: a manifest of work in, results and a report out; in shards, or on a Ray cluster."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import CheckFailedError, InputError
from ..core.signals import StopFlag, StopRequestedError
from ..infer.folder import need_apart
from .common import JsonFlag, ModelOption, QuietFlag, progress, say
from .work import Outcome

if TYPE_CHECKING:
    from ..batch.desk import Row
    from ..batch.manifest import Manifest

REPORT = "batch-report"
SAVE_SECONDS = 30.0


def batch(
    manifest: Annotated[
        str, typer.Argument(help="A .toml manifest; or a .csv or .parquet table, a folder or a glob, with --kind.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder or URL for the results.")] = "depthlight-out",
    kind: Annotated[
        str | None, typer.Option(help="stereo, mono, refine or labels (for stage 3), where no manifest says it.")
    ] = None,
    right: Annotated[
        str | None, typer.Option(help="The right views, where the first argument names left ones.")
    ] = None,
    model: ModelOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, a setting of the kind; may be repeated.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: only every n-th item, from the i-th (1 to n); for any scheduler.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Run on Ray: local (all cores of this machine), auto, or a cluster's address.")
    ] = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> int:
    """Many pairs or photos: each result is made once, failures are listed and done again when started again.

    Status 1 when items failed. OUT/batch-report.json says which and why.
    """
    from ..batch.desk import Desk
    from ..batch.ray import run_on_ray

    work = _manifest(manifest, kind, right, model, settings or [])
    index, count = _shard(shard)
    items = work.shard(index, count)
    _need_apart(work, out)
    desk = Desk(work.kinds, out)
    name = f"{REPORT}.json" if shard is None else f"{REPORT}-{index:04d}-of-{count:04d}.json"
    report = Report(manifest, work.digest(), shard, len(items))
    desk.store.write(name, report.to_json())  # a place that cannot be written to is told before the work
    desk.store.clean(item.name for item in items)
    rows: Generator[Row]
    with StopFlag() as stop:
        rows = (desk.do(item) for item in items) if ray is None or not items else run_on_ray(work, items, out, ray)
        try:
            with closing(rows):
                _run(rows, report, stop, lambda: desk.store.write(name, report.to_json()), quiet=quiet)
        except StopRequestedError:
            say("stopped; the same command goes on.", quiet=quiet, as_json=True)
            return 128 + stop.requested
        finally:
            desk.store.clean(item.name for item in items)
            desk.store.write(name, report.to_json())
    report.outcome.tell(as_json=as_json, quiet=quiet)
    report.outcome.raise_failures("items")
    return 0


@dataclass
class Report:
    """What became of the items; the names of those that failed, and why."""

    manifest: str
    digest: str  # of all items of the manifest, this shard's or not
    shard: str | None
    items: int
    outcome: Outcome = field(default_factory=Outcome)
    begun: float = field(default_factory=time.monotonic)
    item_seconds: float = 0.0

    def add(self, row: Row) -> None:
        """Note an item."""
        self.item_seconds += row.seconds
        if row.state == "failed":
            error = InputError if row.status == InputError.exit_status else CheckFailedError
            self.outcome.failed[row.name] = error(row.error)
        else:
            (self.outcome.done if row.state == "done" else self.outcome.kept).append(row.name)

    def to_json(self) -> bytes:
        """The content of the report file."""
        done, kept, failed = self.outcome.done, self.outcome.kept, self.outcome.failed
        facts = {
            "manifest": self.manifest,
            "items_sha256": self.digest,
            "shard": self.shard,
            "items": self.items,
            "done": len(done),
            "kept": len(kept),
            "failed": {name: str(error) for name, error in failed.items()},
            "not_reached": self.items - len(done) - len(kept) - len(failed),
            "seconds": round(time.monotonic() - self.begun, 2),
            "item_seconds": round(self.item_seconds, 2),  # of all workers together
        }
        return json.dumps(facts, indent=2, ensure_ascii=False).encode(errors="replace")


def _run(rows: Iterable[Row], report: Report, stop: StopFlag, save: Callable[[], None], *, quiet: bool) -> None:
    """Take the rows as they come, and save the report now and then."""
    saved, told = time.monotonic(), set[str]()
    with progress("batch", report.items, quiet=quiet) as bar:
        for row in rows:
            if row.error and row.error not in told:  # what many share is told once
                told.add(row.error)
                bar.warn(f"{row.name}: {row.error}")
            report.add(row)
            bar.step(row.name)
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
            stop.check()


def _manifest(source: str, kind: str | None, right: str | None, model: str | None, settings: list[str]) -> Manifest:
    """The manifest in a file, or that of the one work that the options describe."""
    from ..batch.manifest import Work, manifest_of, read_manifest

    suffix = Path(source).suffix.lower()
    if suffix == ".toml":
        if kind or right or model or settings:
            raise InputError(f"{source} says what to do, and options do too", hint="Put them into its [[work]]")
        return read_manifest(source)
    kind = kind or "stereo"
    if model is not None:
        settings = [f"models=[{json.dumps(model)}]" if kind == "labels" else f"model={json.dumps(model)}", *settings]
    where: dict[str, Any] = {"table" if suffix in (".csv", ".parquet") else "pairs": source}
    if right is not None:
        where = {"left": source, "right": right}
    elif "pairs" in where and kind in ("mono", "refine"):
        where = {"photo": source}
    return manifest_of([Work(kind=kind, settings=_settings(settings), **where)])


def _settings(given: list[str]) -> dict[str, Any]:
    """``key=value`` in TOML; what is no TOML value counts as text."""
    lines = []
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals or not re.fullmatch(r"[\w.-]+", key):
            raise InputError(f"--set {setting!r}", expected="key=value")
        try:
            tomllib.loads(f"x = {value}")
        except tomllib.TOMLDecodeError:
            value = json.dumps(value)
        lines.append(f"{key} = {value}")
    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"--set: {error}", expected="each key once, with a TOML value") from None


def _shard(text: str | None) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text or "1/1")
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard is {text!r}", expected="i/n with i from 1 to n, as 3/8")
    return int(found[1]), int(found[2])


def _need_apart(work: Manifest, out: str) -> None:
    """Refuse to replace an input; only inputs below the output, and links, can be."""
    root = Path(out).resolve()
    within: dict[Path, bool] = {}

    def risky(path: Path) -> bool:
        if path.parent not in within:
            within[path.parent] = path.parent.resolve().is_relative_to(root)
        return within[path.parent] or path.is_symlink()

    sources = {source for item in work.items for source in item.inputs.values() if "://" not in source}
    inputs = [path for path in map(Path, sources) if risky(path)]
    if not inputs or "://" in out:
        return
    for index, kind in enumerate(work.kinds):
        names = [item.name for item in work.items if item.work == index]
        targets = {Path(out, kind.target(name, file)) for name in names for file in kind.owned}
        need_apart({path.parent for path in targets}, inputs, list({path.name for path in targets}))
