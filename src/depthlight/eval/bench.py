"""Speed, memory and accuracy of matchers, compared so that the machine's moods cancel.

Every row is measured in processes of its own (:mod:`.bench_worker`), and the rows take turns: a slow minute hits all of
them. What to trust is therefore the ratio of two rows, taken within each round; every row is given as its ratio to
OpenCV's StereoSGBM 3WAY over 192 disparities on the same pair with the same threads.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.config import from_dict, to_dict
from ..core.errors import ConfigError, InputError
from ..data.synth.engine import plain_pairs
from ..io.charts import line_chart

RANGE = 192  # px
UNTRAINED = ".untrained"  # <family>.untrained: fresh weights, to measure speed
SMALLEST = (32, 256)  # px
BASELINE = "sgbm:3WAY"
PEAK = "peak"  # a dense 3×3 convolution in torch: what the processor can do
PAIR_SEED = 1
ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES")  # variables that would change it
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Turn = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is measured.

    ``model`` is a name or file for :func:`depthlight.load`, ``<family>.untrained``, ``sgbm`` (dense), ``sgbm:MODE``
    (OpenCV's bare call) or ``peak``. ``graph`` is the exported file where the model itself is none. ``worker`` is the
    module, with its arguments, that measures it.
    """

    model: str
    backend: str = "onnxruntime"
    precision: str = "fp32"
    height: int = 384
    width: int = 1248
    threads: int = 1
    graph: str | None = None
    worker: tuple[str, ...] = ("depthlight.eval.bench_worker",)

    def __post_init__(self) -> None:
        if self.height < SMALLEST[0] or self.width < SMALLEST[1]:
            expected = f"at least {SMALLEST[0]}x{SMALLEST[1]}, where SGBM can search {RANGE} px"
            raise ConfigError(f"a pair of {self.height}x{self.width}", expected=expected)
        if self.threads < 1:
            raise ConfigError(f"{self.threads} threads", expected="at least 1")

    @classmethod
    def from_json(cls, text: str) -> Row:
        """Undo ``json.dumps(to_dict(row))``."""
        return from_dict(cls, json.loads(text))

    @property
    def place(self) -> tuple[int, int, int]:
        """Rows of one height, width and number of threads can be compared."""
        return self.height, self.width, self.threads


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row with its figures: one turn per round; ``facts`` are macs, parameters and weights_sha256 where known."""

    row: Row
    turns: Sequence[Turn]
    facts: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] | None = None

    def milliseconds(self, percent: float = 50) -> float:
        """Percentile of all passes."""
        return float(1000 * np.percentile([second for turn in self.turns for second in turn["seconds"]], percent))

    def ratio(self, other: Measured) -> float:
        """This row's time over the other's: the median of the rounds' quotients of medians."""
        pairs = zip(self.turns, other.turns, strict=True)
        return statistics.median(_median(own) / _median(others) for own, others in pairs)

    def gmacs_per_second(self) -> float | None:
        """Throughput in 10⁹ multiply-accumulates."""
        macs = self.facts.get("macs")
        return macs / self.milliseconds() / 1e6 if macs else None

    def to_dict(self) -> dict[str, Any]:
        """The row and its figures; times in ms, memory of the whole process in MiB."""
        peaks = [turn["peak_mib"] for turn in self.turns if turn["peak_mib"] is not None]
        how = {key: value for key, value in asdict(self.row).items() if key not in ("graph", "worker")}
        return {
            **how,
            "median_ms": self.milliseconds(),
            "quartile1_ms": self.milliseconds(25),
            "quartile3_ms": self.milliseconds(75),
            "peak_mib": max(peaks) if peaks else None,
            "gmacs_per_second": self.gmacs_per_second(),
            **{key: self.facts.get(key) for key in ("macs", "parameters", "weights_sha256")},
            "accuracy": self.accuracy,
            "seconds": [turn["seconds"] for turn in self.turns],
        }


def run(
    rows: Sequence[Row],
    *,
    rounds: int,
    runs: int,
    scenes: tuple[Path, Path | None] | None = None,
    told: Callable[[str], None] = lambda note: None,
) -> tuple[list[Measured], dict[Row, str]]:
    """Measure ``rows``, and the baseline for each of their places; returns also why rows could not be measured.

    Args:
        rounds: how often each row has its turn.
        runs: passes of a row in a turn, after one that does not count.
        scenes: a folder of scenes with ground truth, and a file that lists which to take: adds accuracy.
        told: hears what is being done.

    Raises:
        InputError: none of ``rows``, or a baseline, can be measured.
    """
    asked = list(rows)
    baselines = [Row(model=BASELINE, backend="opencv", height=h, width=w, threads=t) for h, w, t in _places(rows)]
    rows = [*rows, *(row for row in baselines if row not in rows)]
    measuring = _Measuring({row: [] for row in rows})
    with tempfile.TemporaryDirectory() as folder:
        pairs = {row.place[:2]: _pair(Path(folder), row) for row in rows}
        for number in range(rounds):
            for row in measuring.left():
                told(f"round {number + 1}/{rounds}: {describe(row)}")
                measuring.turn(row, str(pairs[row.place[:2]]), str(runs))
    for row in measuring.left():
        measuring.judge(row, scenes, told)
    failed = measuring.failed
    if failed and (all(row in failed for row in asked) or any(row in failed for row in baselines)):
        raise InputError(next(iter(failed.values())))
    return measuring.results(), failed


@dataclass(frozen=True)
class _Measuring:
    """What is known so far; a row that fails is left out from there on."""

    turns: dict[Row, list[Turn]]
    facts: dict[Row, Mapping[str, Any]] = field(default_factory=dict)
    judged: dict[Row, Mapping[str, Any] | None] = field(default_factory=dict)
    failed: dict[Row, str] = field(default_factory=dict)

    def left(self) -> list[Row]:
        return [row for row in self.turns if row not in self.failed]

    def turn(self, row: Row, folder: str, runs: str) -> None:
        with self._or_left_out(row):
            self.turns[row].append(_job(row, "time", folder, runs))

    def judge(self, row: Row, scenes: tuple[Path, Path | None] | None, told: Callable[[str], None]) -> None:
        """Counts and accuracy; what several rows share is found out once."""
        with self._or_left_out(row):
            if _counted(row) not in self.facts:
                told(f"counting {row.model}")
                self.facts[_counted(row)] = _job(_counted(row), "count")
            if scenes and _judged(row) not in self.judged:
                self.judged[_judged(row)] = _judge(row, scenes, told)

    def results(self) -> list[Measured]:
        return [
            Measured(
                row=row,
                turns=self.turns[row],
                facts=self.facts[_counted(row)],
                accuracy=self.judged.get(_judged(row)),
            )
            for row in self.left()
        ]

    @contextmanager
    def _or_left_out(self, row: Row) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self.failed[row] = error.what


def report(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """Every row's figures with ``of_sgbm_3way``, and ``of_floor`` where ``peak`` was measured beside it.

    The floor is the time that the network's multiply-accumulates would take at the peak of its precision.
    """
    by_row = {one.row: one for one in found}
    result = []
    for one in found:
        height, width, threads = one.row.place
        base = by_row[Row(model=BASELINE, backend="opencv", height=height, width=width, threads=threads)]
        peak = next((p for p in found if p.row.model == PEAK and _same_arithmetic(p.row, one.row)), None)
        fastest, own = peak.gmacs_per_second() if peak else None, one.gmacs_per_second()
        of_floor = fastest / own if fastest and own else None
        result.append(one.to_dict() | {"of_sgbm_3way": one.ratio(base), "of_floor": of_floor})
    return result


def pareto(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.uint8]:
    """EPE against time on logarithmic axes, a series per model, as RGB pixels.

    Raises:
        InputError: no row of ``rows`` (of :func:`report`) has an accuracy.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["accuracy"]:
            series.setdefault(row["model"], []).append((row["median_ms"], row["accuracy"]["epe"]))
    if not series:
        raise InputError("no accuracy was measured", hint="Give a folder of scenes with --data")
    return line_chart(
        {name: sorted(points) for name, points in series.items()},
        title="Error against time",
        x_label="ms per pair",
        y_label="EPE, px",
        log_x=True,
        log_y=True,
        points=True,
    )


def describe(row: Row) -> str:
    """A row in one line."""
    name = Path(row.model).name
    return f"{name} {row.backend} {row.precision} {row.height}x{row.width}, {row.threads} threads"


def _places(rows: Sequence[Row]) -> list[tuple[int, int, int]]:
    return list(dict.fromkeys(row.place for row in rows))


def _counted(row: Row) -> Row:
    """What decides the multiply-accumulates of a row."""
    return Row(model=row.model, backend="auto", height=row.height, width=row.width)


def _judged(row: Row) -> Row:
    """What decides the accuracy of a row."""
    return replace(row, height=SMALLEST[0], width=SMALLEST[1], threads=1)


def _same_arithmetic(peak: Row, row: Row) -> bool:
    return (peak.precision, peak.place) == (row.precision, row.place)


def _median(turn: Turn) -> float:
    return float(statistics.median(turn["seconds"]))


def _pair(folder: Path, row: Row) -> Path:
    """A pair of the engine in the size of ``row``, as ``left.npy`` and ``right.npy``."""
    target = folder / f"{row.height}x{row.width}"
    if not target.exists():
        target.mkdir()
        size = (row.height, row.width)
        (sample,) = plain_pairs(1, seed=PAIR_SEED, size=size, largest=min(150.0, row.width / 3))
        np.save(target / "left.npy", sample.left_HW3)
        np.save(target / "right.npy", sample.right_HW3)
    return target


def _judge(row: Row, scenes: tuple[Path, Path | None], told: Callable[[str], None]) -> Mapping[str, Any] | None:
    if row.model == PEAK or row.model.endswith(UNTRAINED):
        return None
    told(f"accuracy of {describe(row)}")
    return _job(row, "judge", *(str(path) for path in scenes if path))


def _job(row: Row, what: str, *arguments: str) -> dict[str, Any]:
    """The answer of a row's worker; its threads are fixed and the allocator is the system's own.

    Raises:
        InputError: it refuses, or dies.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
    threads = dict.fromkeys(THREAD_VARIABLES, str(row.threads))
    command = [sys.executable, "-P", "-m", *row.worker, json.dumps(to_dict(row)), what, *arguments]
    done = subprocess.run(command, env={**kept, **threads}, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise InputError(f"{describe(row)} cannot be measured: {last}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise InputError(f"{describe(row)}: {answer['error']}")
    return answer
