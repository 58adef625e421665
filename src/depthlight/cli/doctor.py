"""``depthlight doctor``: what is wrong with a pair, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import CheckFailedError
from ..infer.doctor.diagnose import RANGE, diagnose, read_rig
from ..infer.doctor.findings import Diagnosis
from ..infer.doctor.picture import diagnosis_page
from ..infer.folder import need_apart, need_writable
from ..io.atomic import atomic_write_bytes
from ..io.images import read_image
from ..io.pictures import write_image
from .calibration import CalibFormatOption, UnitOption
from .common import JsonFlag, QuietFlag, emit_json, say

FILES = ("doctor.json", "doctor.png")


def doctor(
    left: Annotated[Path, typer.Argument(help="Left image.")],
    right: Annotated[Path, typer.Argument(help="Right image.")],
    calib: Annotated[Path | None, typer.Option(help="Calibration of the pair: adds checks of K and baseline.")] = None,
    calib_format: CalibFormatOption = None,
    unit: UnitOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for doctor.json and a page as picture.")
    ] = None,
    max_disp: Annotated[int, typer.Option("--max-disp", min=1, help="Disparity range you will search, px.")] = RANGE,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Look for the usual faults of a pair: exchanged views, rows that are off, wrong range, exposure, blur, wrong K.

    Each finding says what was measured, why it matters and what to do. Status 1 if one of them is an error.
    """
    if out is not None:
        need_apart([out], [left, right, calib], FILES)
    pair = read_image(left), read_image(right)
    size = pair[0].shape[1], pair[0].shape[0]
    rig = None if calib is None else read_rig(calib, size, format=calib_format, unit=unit)
    if out is not None:
        need_writable(out)
    diagnosis = diagnose(*pair, rig, max_disp=max_disp)
    if out is not None:
        write_image(out / FILES[1], diagnosis_page(diagnosis, *pair))
        atomic_write_bytes(out / FILES[0], json.dumps(diagnosis.to_dict(), indent=2).encode())
    if as_json:
        emit_json(diagnosis.to_dict())
    _tell(diagnosis, out, quiet=quiet, as_json=as_json)
    if not diagnosis.ok:
        names = ", ".join(finding.id for finding in diagnosis.findings if finding.severity == "error")
        raise CheckFailedError(f"the pair is not fit for stereo: {names}")


def _tell(diagnosis: Diagnosis, out: Path | None, *, quiet: bool, as_json: bool) -> None:
    for finding in diagnosis.findings:
        say(f"{finding.severity} {finding.id}: {finding.says}.", quiet=quiet, as_json=as_json)
        say(f"    why: {finding.why}.", quiet=quiet, as_json=as_json)
        say(f"    do:  {finding.do}.", quiet=quiet, as_json=as_json)
    if not diagnosis.findings:
        say("Nothing wrong was found.", quiet=quiet, as_json=as_json)
    if out is not None:
        say(f"Look at {out / FILES[1]}.", quiet=quiet, as_json=as_json)
