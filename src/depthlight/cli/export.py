"""``depthlight export``: a network as a file for another runtime, checked before it gets its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import InputError
from ..core.extras import require
from .common import JsonFlag, MaxDispOption, QuietFlag, ThreadsOption, WeightsOption, emit_json, say

if TYPE_CHECKING:
    from ..export.model import Exported


def export(
    name: Annotated[str, typer.Argument(help="A network (see `depthlight models`) or a .safetensors file of ours.")],
    to: Annotated[str, typer.Option("--to", help="onnx, or openvino (.xml and .bin).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the file and its report.")],
    weights: WeightsOption = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="NAME is a family; fresh weights, to measure speed.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Convolutions in 8 bits; refused if accuracy suffers.")] = False,
    max_disp: MaxDispOption = None,
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Export a network to ONNX or OpenVINO, and check that it computes the same.

    The graph takes any batch and size (multiples of 32); the disparity range is fixed. Beside it lies a report of the
    difference at three sizes. If the difference is too large there is no file, and the status is 1.
    """
    require("torch", extra="export", purpose="networks are exported from it")
    from ..export.model import export_model, trained_source, untrained_source

    if untrained and weights is not None:
        raise InputError("both --untrained and --weights were given", hint="Give one of them")
    source = (
        untrained_source(name, max_disp=max_disp)
        if untrained
        else trained_source(name, weights=weights, max_disp=max_disp)
    )
    done = export_model(source, out, to=to, int8=int8, threads=threads)
    if as_json:
        emit_json(done.facts)
    _tell(done, quiet=quiet, as_json=as_json)


def _tell(done: Exported, *, quiet: bool, as_json: bool) -> None:
    for row in done.facts["rows"]:
        note = "" if row["gated"] else " (reported only: the weights are untrained)"
        say(
            f"{row['backend']} {row['precision']} {row['height']}x{row['width']}: difference at most "
            f"{row['disparity_max']:.2g} px, mean {row['disparity_mean']:.2g} px{note}",
            quiet=quiet,
            as_json=as_json,
        )
    for row in done.facts.get("int8", {}).get("tries", []):
        say(
            f"int8, {row['part']} convolutions: EPE {row['epe_fp32']:.3f} to {row['epe_int8']:.3f} px, "
            f"more than 1 px off {row['bad1_fp32']:.1f} to {row['bad1_int8']:.1f} %, on {row['scenes']} engine pairs",
            quiet=quiet,
            as_json=as_json,
        )
    say(f"{done.file}, checked ({done.report.name})", quiet=quiet, as_json=as_json)
