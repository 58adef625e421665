"""Options and habits that several verbs share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Name (see `depthlight models`), or a .safetensors, .onnx or .xml file of ours."
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="Checkpoint for the network --model names (.pth, .safetensors).")
]
BackendOption = Annotated[str, typer.Option("--backend", help="auto, onnxruntime, openvino or torch.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda (cuda:1 …), which needs torch.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="fp32 or bf16 (openvino, torch); never lowered by itself.")
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, max=1024, help="CPU threads of the runtime.")]
MaxDispOption = Annotated[int | None, typer.Option("--max-disp", min=1, help="Disparity range to search, px.")]
DEPTH_UNITS = ".npy, .pfm, .tiff: m; .png: mm unless it or its sidecar says otherwise; 0 = unknown"
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def say(text: str, *, quiet: bool = False, as_json: bool = False) -> None:
    """A line for people: on standard output, or on standard error when that is taken by JSON."""
    if not quiet:
        print(text, file=sys.stderr if as_json else sys.stdout)


def emit_json(result: Mapping[str, Any]) -> None:
    """The result for machines, on standard output."""
    print(json.dumps(result, indent=2))


class Progress:
    """A bar that can be silent. Made by :func:`progress`."""

    def __init__(self, bar: Any = None, task: Any = None) -> None:
        self._bar = bar
        self._task = task
        self._done = 0

    def step(self, note: str = "") -> None:
        """One item is done."""
        self.at(self._done + 1, note)

    def at(self, done: int, note: str = "") -> None:
        """So many are done. Those of an earlier run, in the first call, count for no rate."""
        if self._bar is not None and not self._done and done > 1:
            self._bar.reset(self._task, completed=done, note=note)
        elif self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        self._done = done

    def warn(self, text: str) -> None:
        """A line that stays above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr)


@contextmanager
def progress(title: str, total: int | None, *, quiet: bool = False) -> Iterator[Progress]:
    """A progress bar with rate and time left on standard error; silent with ``quiet`` or without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Progress(bar, bar.add_task(title, total=total, note=""))
