"""Pictures of a run: its curves, and what the averaged weights see on a few validation scenes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ..data.samples import StereoSample
from ..infer.prediction import StereoPrediction
from ..io.charts import line_chart
from ..io.pictures import preview, write_image
from .evaluation import TABLE
from .log import METRICS, read_rows

POINTS = 300  # per curve; more cannot be told apart in a picture
SAMPLES = 6

Line = list[tuple[float, float]]


def draw_curves(folder: Path, error: str, curves: Sequence[str], unit: str) -> None:
    """``loss.png`` (training loss and error, binned means) and ``evaluation.png``, from the run's tables."""
    training = read_rows(folder / METRICS) if (folder / METRICS).is_file() else []
    lines = {name: _binned(_line(training, name)) for name in ("loss", error)}
    _draw(folder / "loss.png", lines, "Training", unit)
    validation = read_rows(folder / TABLE) if (folder / TABLE).is_file() else []
    _draw(folder / "evaluation.png", {name: _line(validation, name) for name in curves}, "Evaluation", unit)


def sample_writer(folder: Path) -> Callable[[StereoSample, StereoPrediction], None]:
    """Writes ``samples/<scene>.png`` for the first scenes it is given (an evaluation's ``pictures``)."""
    written: list[str] = []

    def write(sample: StereoSample, prediction: StereoPrediction) -> None:
        if len(written) >= SAMPLES:
            return
        written.append(sample.name)
        picture = preview(
            sample.left_HW3,
            prediction.disparity,
            confidence_HW=prediction.confidence,
            truth_HW=sample.disparity_HW,
            truth_valid_HW=sample.valid_HW,
        )
        write_image(folder / "samples" / f"{Path(sample.name).name}.png", picture)

    return write


def _draw(path: Path, lines: dict[str, Line], title: str, unit: str) -> None:
    drawn = {name: line for name, line in lines.items() if line}
    if drawn:
        chart = line_chart(drawn, title=title, x_label="samples", y_label=unit, log_y=True)
        write_image(path, chart)


def _line(rows: list[dict[str, str]], name: str) -> Line:
    points = [(float(row["samples"]), float(row[name])) for row in rows if row.get(name)]
    return [(x, y) for x, y in points if math.isfinite(y) and y > 0]  # a logarithmic axis has no 0


def _binned(line: Line) -> Line:
    width = max(len(line) // POINTS, 1)
    bins = [line[i : i + width] for i in range(0, len(line), width)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in bins]
