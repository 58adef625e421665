"""What a run tells: a row per step in ``metrics.csv``, progress on the terminal, TensorBoard where installed."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import OutputError
from ..core.extras import have
from ..io.atomic import atomic_write_bytes

METRICS = "metrics.csv"
BAD = "bad.csv"


class RunLog:
    """The log of the first rank; the others make one with ``folder=None``, which stays silent."""

    def __init__(self, folder: Path | None, *, total: int = 0, quiet: bool = False) -> None:
        self.folder, self.total, self.quiet = folder, total, quiet or folder is None
        self._pending: list[dict[str, Any]] = []
        self._started, self._first = time.perf_counter(), 0
        self._writer: Any = None

    def resume(self, step: int) -> None:
        """Forget the rows after ``step``: they belong to work that was lost and will be done again."""
        if self.folder is None or not (path := self.folder / METRICS).is_file():
            return
        rows = [row for row in read_rows(path) if row.get("step", "").isdigit() and int(row["step"]) <= step]
        atomic_write_bytes(path, _as_csv(rows, header=True) if rows else b"")

    def begin(self, samples: int) -> None:
        """Training begins at ``samples``: samples/s are counted from here."""
        self._started, self._first = time.perf_counter(), samples

    def row(self, values: Mapping[str, Any]) -> None:
        """One step's numbers."""
        if self.folder is not None:
            self._pending.append(dict(values))

    def flush(self) -> None:
        """Bring the rows to the disk (before every checkpoint, so that no row before it can be missing)."""
        if self.folder is None or not self._pending:
            return
        _append(self.folder / METRICS, self._pending)
        self._pending.clear()

    def progress(self, values: Mapping[str, float], samples: int) -> None:
        """A line with the running means, samples/s and the time left."""
        self.scalars("train", values, samples)
        rate = (samples - self._first) / max(time.perf_counter() - self._started, 1e-9)
        left = f"  {_duration((self.total - samples) / rate)} left" if self.total > samples and rate else ""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.say(f"{samples:>9,d} samples  {numbers}  {rate:.2f} samples/s{left}")

    def scalars(self, group: str, values: Mapping[str, float], samples: int) -> None:
        """Numbers for TensorBoard, where it is installed."""
        if self.folder is None or not have("tensorboard"):
            return
        if self._writer is None:  # not before it is needed: importing it takes seconds
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, samples)

    def say(self, text: str) -> None:
        """A line for people, on standard error."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self.flush()
        if self._writer is not None:
            self._writer.close()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV; a last line cut short by a kill is dropped."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(io.StringIO(whole)) if None not in row.values()]


class BadLog:
    """``bad.csv`` (of another rank ``bad-rank1.csv``): every sample that could not be read, with the reason.

    Rows are written at once, whatever is shown on the terminal.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.path = folder / (f"bad-rank{rank}.csv" if rank else BAD)

    def resume(self, samples: int) -> None:
        """Forget the rows from position ``samples`` on: those positions come again."""
        if self.path.is_file():
            rows = [row for row in read_rows(self.path) if int(row["position"]) < samples]
            atomic_write_bytes(self.path, _as_csv(rows, header=True) if rows else b"")

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append rows of ``position``, ``sample`` and ``error``."""
        if rows:
            _append(self.path, rows)


def append_row(path: Path, values: Mapping[str, Any]) -> None:
    """Add one row to a small CSV, rewritten as a whole so that it is never half there; new columns are allowed."""
    rows: list[Mapping[str, Any]] = [*read_rows(path)] if path.is_file() else []
    atomic_write_bytes(path, _as_csv([*rows, values], header=True))


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows at the end of a table, under its header; one with a new column is written anew."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        header = _header(path)
        if header and not {name for row in rows for name in row} <= set(header):
            atomic_write_bytes(path, _as_csv([*read_rows(path), *rows], header=True))
            return
        with path.open("ab") as stream:
            stream.write(_as_csv(rows, header=not header, columns=header))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _header(path: Path) -> list[str]:
    """The columns of a table, none if it is new."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def _as_csv(rows: list[Any], *, header: bool, columns: Sequence[str] = ()) -> bytes:
    text = io.StringIO()
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}h{rest // 60:02d}m" if hours else f"{rest // 60}m{rest % 60:02d}s"
