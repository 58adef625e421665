"""``depthlight synth``: procedural stereo pairs with exact truth."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..core.errors import InputError
from .common import JsonFlag, QuietFlag, emit_json, progress, say

if TYPE_CHECKING:
    from ..data.synth.engine import SynthConfig

SHEET_ROWS = 12
Format = Literal["png", "jpg", "webp"]
Camera = Literal["full", "physical", "off"]


def synth(
    out: Annotated[Path, typer.Argument(help="Folder of the pool; one scene folder per pair.")],
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="How many pairs.")] = 100,
    start: Annotated[int, typer.Option("--start", min=0, help="Index of the first pair.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="With the index, decides a pair to the byte.")] = 0,
    size: Annotated[str, typer.Option("--size", help="HEIGHTxWIDTH in px.")] = "288x640",
    families: Annotated[
        str | None, typer.Option("--families", help="Weights, as layered=0.4,meshes=0.25; default: the mixture.")
    ] = None,
    disparity: Annotated[str, typer.Option("--disparity", help="Range of a scene's largest disparity, px.")] = "8-190",
    textures: Annotated[Path | None, typer.Option("--textures", help="Folder of photographs (else built-in).")] = None,
    meshes: Annotated[Path | None, typer.Option("--meshes", help="Folder of OBJ files (else built-in shapes).")] = None,
    camera: Annotated[
        Camera, typer.Option("--camera", help="full; physical (blur, noise, rows off, vignetting: for training); off.")
    ] = "full",
    image_format: Annotated[Format, typer.Option("--format", help="Image files; the truth is always PNG.")] = "png",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes.")] = 1,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help=f"Contact sheet of the first {SHEET_ROWS} pairs (PNG).")
    ] = None,
    json_output: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Write procedural stereo pairs with exact disparity, occlusion masks and calibration.

    The same seed and index give the same pair, on any number of processes. Call it again to continue a pool that was
    interrupted or to make it larger. Any COUNT of pairs can be split over machines by --start.
    """
    from ..data.synth.writer import write_pool

    config = _config(seed, size, families, disparity, textures, meshes, camera)
    if meshes is not None:
        config = replace(config, mesh_cache=str(out / ".meshes"))
    began, written, kept = time.monotonic(), 0, 0
    with progress("pairs", count, quiet=quiet) as bar:
        for _, new in write_pool(out, config, range(start, start + count), jobs=jobs, image_format=image_format):
            written, kept = written + new, kept + (not new)
            bar.step(f"{written / (time.monotonic() - began):.1f} pairs/s")
    seconds = time.monotonic() - began
    if sheet is not None:
        _sheet(config, range(start, start + min(count, SHEET_ROWS)), sheet)
    rate = written / seconds
    if json_output:
        emit_json({"folder": str(out), "written": written, "kept": kept, "seconds": seconds, "pairs_per_second": rate})
    again = f", {kept} were there" if kept else ""
    say(f"{written} pairs in {out} ({rate:.2f} pairs/s){again}", quiet=quiet, as_json=json_output)


def _config(
    seed: int,
    size: str,
    families: str | None,
    disparity: str,
    textures: Path | None,
    meshes: Path | None,
    camera: str,
) -> SynthConfig:
    from ..data.synth.camera import EFFECTS, PHYSICAL, CameraConfig
    from ..data.synth.engine import SynthConfig

    height, width = _size(size)
    low, high = _range(disparity)
    effects = PHYSICAL if camera == "physical" else EFFECTS
    config = SynthConfig(
        seed=seed,
        height=height,
        width=width,
        min_max_disp=low,
        max_max_disp=high,
        textures=None if textures is None else str(textures),
        meshes=None if meshes is None else str(meshes),
        camera=CameraConfig(strength=0.0 if camera == "off" else 1.0, effects=effects),
    )
    return config if families is None else replace(config, families=_weights(families))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if match is None:
        raise InputError(f"--size is {text[:40]!r}", expected="two whole numbers, as 288x640")
    return int(match[1]), int(match[2])


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError:
        raise InputError(f"--disparity is {text!r}", expected="two numbers, as 8-190") from None
    return low, high


def _weights(text: str) -> dict[str, float]:
    """``layered=0.4,meshes=0.25`` as a mapping; a name alone weighs 1."""
    weights = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            raise InputError(
                f"--families holds {part!r}", expected="name=weight pairs, as layered=0.4,meshes=0.25"
            ) from None
    return weights


def _sheet(config: SynthConfig, indices: range, target: Path) -> None:
    import cv2

    from ..data.synth.engine import Engine
    from ..data.synth.writer import contact_sheet
    from ..io.atomic import atomic_write_bytes

    engine = Engine(config)
    samples = [engine.sample(index) for index in itertools.islice(indices, SHEET_ROWS)]
    if not samples:
        raise InputError("--sheet needs at least one pair", hint="Use --count 1 or more")
    _, data = cv2.imencode(".png", contact_sheet(samples)[:, :, ::-1])
    atomic_write_bytes(target, data.tobytes())
