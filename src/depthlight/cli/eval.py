"""``depthlight eval``: a model on a folder of scenes with ground truth, under a stated protocol.

The stereo task is here; what differs for single images is in ``cli/eval_mono.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import CheckFailedError, InputError, UnknownNameError
from ..data.readers import open_dataset
from ..data.samples import StereoDataset, StereoSample
from ..data.scenes import SceneFolder, read_list
from ..eval.assertions import Assertion, check_assertions, parse_assertion
from ..eval.protocol import Protocol, get_protocol, reader_options
from ..eval.report import SceneFailure
from ..eval.result import EvalResult, SceneResult
from ..eval.runner import evaluate as run_protocol
from ..eval.submission import submit
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

if TYPE_CHECKING:
    from ..eval.mono_result import MonoEvalResult

TASKS = ("stereo", "mono")
SHOWN = ("epe", "bad1", "bad2", "bad3", "d1", "density", "ause", "bad2_kept80")


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder of scenes: <scene>/{left.png,right.png,disp.png[,nocc.png]}; mono also {image.png,depth.png}. "
            "Or KIND:FOLDER, a public set as it is unpacked: kitti2015:/data/kitti."
        ),
    ],
    model: ModelOption = None,
    weights: WeightsOption = None,
    names: Annotated[
        Path | None, typer.Option("--list", help="File with the scenes to take, one name per line.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", help="Of a public set's reader, such as split=testing.")
    ] = None,
    task: Annotated[str, typer.Option("--task", help="stereo, or mono: depth from one image.")] = "stereo",
    protocol: Annotated[
        str, typer.Option("--protocol", help="default, kitti, middlebury-q/h/f, eth3d, drivingstereo, sceneflow.")
    ] = "default",
    alignment: Annotated[
        str | None, typer.Option("--alignment", help="mono: affine (default), paper, or none for metric depth.")
    ] = None,
    max_depth: Annotated[
        float | None, typer.Option("--max-depth", help="mono: metres beyond which truth does not count.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result here as JSON; - for standard output.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a table here.")] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for a picture per scene, with error map.")
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission", help="Do not measure: write the disparities here as the benchmark's server takes them."
        ),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="Name in a Middlebury submission.")] = "depthlight",
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
    For --task mono see docs/reference/mono-protocol.md; the model `ramp` is the baseline that looks at nothing.
    """
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    report = Report(json_file, csv, [parse_assertion(check) for check in checks or []], quiet)
    listed = read_list(names) if names else None
    if task == "mono":
        from .eval_mono import evaluate_mono

        stereo_only = (
            ("--protocol", protocol != "default"),
            ("--weights", weights),
            ("--threads", threads),
            ("--option", options),
            ("--submission", submission),
        )
        refuse_for("mono", (*stereo_only, ("--backend", backend != "auto")))
        evaluate_mono(
            Path(data),
            model,
            listed,
            alignment or "affine",
            max_depth,
            report,
            pictures,
            device=device,
            precision=precision,
        )
        return
    refuse_for("stereo", (("--alignment", alignment), ("--max-depth", max_depth)))
    chosen = get_protocol(protocol)
    dataset = _dataset(data, options or [], listed, chosen)
    matcher = load(model, weights=weights, backend=backend, device=device, precision=precision, threads=threads)
    if submission is not None:
        unused = (("--pictures", pictures), ("--assert", checks), ("--csv", csv), ("--json", json_file))
        refuse_for("stereo with --submission", unused)
        with progress("eval", len(dataset), quiet=quiet) as bar:
            count = submit(
                matcher,
                dataset,
                submission,
                method=method,
                max_disp=chosen.max_disp,
                on_scene=lambda name: bar.step(name),
            )
        say(f"{submission}: {count} disparities for the server of {dataset.name}.", quiet=quiet, as_json=False)
        return
    with progress("eval", len(dataset), quiet=quiet) as bar:

        def told(outcome: SceneResult | SceneFailure) -> None:
            if isinstance(outcome, SceneFailure):
                bar.warn(f"{outcome.name}: {outcome.error}")
            bar.step(outcome.name)

        result = run_protocol(
            matcher, dataset, chosen, on_scene=told, pictures=_painter(pictures) if pictures else None
        )
    report.of(result, SHOWN)


def _dataset(data: str, options: Sequence[str], listed: Sequence[str] | None, protocol: Protocol) -> StereoDataset:
    """A folder of scenes, or KIND:FOLDER, of which the part that the protocol speaks of."""
    kind, colon, root = data.partition(":")
    if Path(data).exists() or not colon:
        if options:
            raise InputError("--option is for public sets", expected="KIND:FOLDER")
        return SceneFolder(data, listed)
    if listed is not None:
        raise InputError(f"--list is for folders of scenes, and {kind} is a public set", hint="Leave it out")
    given = dict(_option(text) for text in options)
    return open_dataset(kind, root, **reader_options(protocol, kind, given))


def _option(text: str) -> tuple[str, str | bool]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--option {text!r}", expected="NAME=VALUE, such as split=testing")
    return key, {"true": True, "false": False}.get(value.lower(), value)


def refuse_for(task: str, options: Sequence[tuple[str, object]]) -> None:
    """Options that say nothing to the task are refused rather than ignored: (name, whether or to what it was set).

    Raises:
        InputError: one of them was set.
    """
    for name, given in options:
        if given is not None and given is not False:
            raise InputError(f"{name} says nothing to --task {task}", hint=f"Leave out {name}")


@dataclass(frozen=True)
class Report:
    """Where a result goes, and what must hold of it."""

    json_file: Path | None
    csv: Path | None
    checks: list[Assertion]
    quiet: bool

    def of(self, result: EvalResult | MonoEvalResult, shown: Sequence[str]) -> None:
        """Print and write a result, then check it; ``shown`` are the figures of the printed table.

        Raises:
            CheckFailedError: a scene failed, or a check does not hold.
        """
        facts = result.to_dict()
        on_stdout = self.json_file == Path("-")
        if on_stdout:
            emit_json(facts)
        elif not self.quiet:
            _table(facts, shown)
        if self.json_file and not on_stdout:
            result.to_json(self.json_file)
        if self.csv:
            result.to_csv(self.csv)
        if result.failures:
            total = len(result.scenes) + len(result.failures)
            raise CheckFailedError(f"{len(result.failures)} of {total} scenes failed, first {result.failures[0].name}")
        if self.checks:
            check_assertions(facts, self.checks)
            say(f"{len(self.checks)} assertions hold.", quiet=self.quiet, as_json=on_stdout)


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


def _table(facts: dict[str, Any], shown: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    counts = facts["counts"]
    title = f"{facts['model']} on {facts['dataset']}, protocol {facts['protocol']['name']}, {counts['scenes']} scenes"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("source")
    table.add_column("n", justify="right")
    for name in shown:
        table.add_column(name, justify="right")
    rows = [(group, figures["n"], figures) for group, figures in facts["groups"].items()]
    if facts["mean"]:
        rows.append(("mean", counts["scenes"], facts["mean"]))
    for group, count, figures in rows:
        table.add_row(group, str(count), *(_cell(figures.get(name)) for name in shown))
    Console(width=110).print(table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
