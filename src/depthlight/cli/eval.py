"""``depthlight eval``: a model on a folder of scenes with ground truth, under a stated protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import CheckFailedError
from ..data.samples import StereoSample
from ..data.scenes import SceneFolder, read_list
from ..eval.assertions import check_assertions, parse_assertion
from ..eval.protocol import get_protocol
from ..eval.result import SceneFailure, SceneResult
from ..eval.runner import evaluate as run_protocol
from ..infer.load import load
from ..infer.prediction import StereoPrediction
from ..io.names import inside, safe_name
from ..io.pictures import preview, write_image
from .common import (
    BackendOption,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    QuietFlag,
    ThreadsOption,
    WeightsOption,
    emit_json,
    progress,
    say,
)

SHOWN = ("epe", "bad1", "bad2", "bad3", "d1", "density", "ause", "bad2_kept80")


def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder of scenes: <scene>/{left.png,right.png,disp.png[,nocc.png]}.")],
    model: ModelOption = None,
    weights: WeightsOption = None,
    names: Annotated[
        Path | None, typer.Option("--list", help="File with the scenes to take, one name per line.")
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="default, kitti, middlebury-q/h/f, eth3d, drivingstereo, sceneflow.")
    ] = "default",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result here as JSON; - for standard output.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a table here.")] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for a picture per scene, with error map.")
    ] = None,
    checks: Annotated[
        list[str] | None, typer.Option("--assert", help="e.g. 'mean.epe<=1.0'; status 1 if it does not hold.")
    ] = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    quiet: QuietFlag = False,
) -> None:
    """Measure a model on a folder of scenes with ground truth.

    Without flags: one forward pass at input size in fp32, range 0-192, all ground-truth pixels, mean over scenes.
    """
    chosen = get_protocol(protocol)
    assertions = [parse_assertion(check) for check in checks or []]
    dataset = SceneFolder(data, read_list(names) if names else None)
    matcher = load(model, weights=weights, backend=backend, device=device, precision=precision, threads=threads)
    with progress("eval", len(dataset), quiet=quiet) as bar:

        def told(outcome: SceneResult | SceneFailure) -> None:
            if isinstance(outcome, SceneFailure):
                bar.warn(f"{outcome.name}: {outcome.error}")
            bar.step(outcome.name)

        result = run_protocol(
            matcher, dataset, chosen, on_scene=told, pictures=_painter(pictures) if pictures else None
        )
    facts = result.to_dict()
    on_stdout = json_file == Path("-")
    if on_stdout:
        emit_json(facts)
    elif not quiet:
        _table(facts)
    if json_file and not on_stdout:
        result.to_json(json_file)
    if csv:
        result.to_csv(csv)
    if result.failures:
        raise CheckFailedError(
            f"{len(result.failures)} of {len(dataset)} scenes failed, first {result.failures[0].name}"
        )
    if assertions:
        check_assertions(facts, assertions)
        say(f"{len(assertions)} assertions hold.", quiet=quiet, as_json=on_stdout)


def _painter(folder: Path) -> Callable[[StereoSample, StereoPrediction], None]:
    def paint(sample: StereoSample, prediction: StereoPrediction) -> None:
        picture = preview(
            sample.left_HW3,
            prediction.disparity,
            confidence_HW=prediction.confidence,
            truth_HW=sample.disparity_HW,
            truth_valid_HW=sample.valid_HW,
        )
        write_image(inside(folder, f"{safe_name(sample.name)}.png"), picture)

    return paint


def _table(facts: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    counts = facts["counts"]
    title = f"{facts['model']} on {facts['dataset']}, protocol {facts['protocol']['name']}, {counts['scenes']} scenes"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("source")
    table.add_column("n", justify="right")
    for name in SHOWN:
        table.add_column(name, justify="right")
    rows = [(group, figures["n"], figures) for group, figures in facts["groups"].items()]
    if facts["mean"]:
        rows.append(("mean", counts["scenes"], facts["mean"]))
    for group, count, figures in rows:
        table.add_row(group, str(count), *(_cell(figures.get(name)) for name in SHOWN))
    Console(width=110).print(table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
