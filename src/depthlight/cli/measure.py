"""``depthlight measure``: lengths in metres from a prediction folder."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import InputError
from ..geometry.measure import Distance, Extent, distance, extent, locate
from ..infer.metres import read_metres
from ..infer.region import Box
from .common import JsonFlag, QuietFlag, emit_json, say


def measure(
    folder: Annotated[Path, typer.Argument(help="Folder that `depthlight stereo --calib` wrote.")],
    start: Annotated[str | None, typer.Option("--from", help="Pixel x,y: a point, or where a distance begins.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Pixel x,y where the distance ends.")] = None,
    box: Annotated[str | None, typer.Option("--box", help="x,y,width,height in px: size of the surface in it.")] = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Distance between two pixels, place of one, or size of what a box shows; in metres, with one sigma.

    The depth of a pixel is the median over its surface nearby; a box is measured along the camera's axes.
    """
    if (start is None) == (box is None) or (end is not None and start is None):
        raise InputError("nothing to measure", expected="--from X,Y, --from X,Y --to X,Y, or --box X,Y,W,H")
    depth = read_metres(folder)
    if box is not None:
        area = Box.parse(box)
        found = extent(depth, (area.x, area.y, area.width, area.height))
        result: dict[str, Any] = asdict(found)
        lines = _told_extent(found)
    elif start is not None and end is not None:
        line = distance(depth, _pixel(start, "--from"), _pixel(end, "--to"))
        result = asdict(line)
        lines = _told_distance(line)
    else:
        point = locate(depth, *_pixel(start or "", "--from"))
        result = asdict(point)
        lines = [f"({_place(point.position)}) m, depth {_with(point.position[2], point.sigma)}"]
    if as_json:
        emit_json({"unit": "m", "folder": str(folder), **result})
    for text in lines:
        say(text, quiet=quiet, as_json=as_json)


def _told_distance(line: Distance) -> list[str]:
    ends = [
        f"{name} {point.pixel[0]:g},{point.pixel[1]:g}: ({_place(point.position)}) m, "
        f"depth {_with(point.position[2], point.sigma)}"
        for name, point in (("from", line.start), ("to", line.end))
    ]
    return [f"distance {_with(line.length, line.sigma)}", *ends]


def _told_extent(found: Extent) -> list[str]:
    sizes = (
        f"{name} {_with(value, sigma)}"
        for name, value, sigma in (
            ("width", found.width, found.width_sigma),
            ("height", found.height, found.height_sigma),
            ("thickness", found.thickness, found.thickness_sigma),
            ("depth", found.depth, found.depth_sigma),
        )
    )
    return [", ".join(sizes), f"the surface fills {100 * found.share:.0f} % of the box"]


def _with(value: float, sigma: float | None) -> str:
    return f"{value:.4g} m" + ("" if sigma is None else f" ± {sigma:.2g} m")


def _place(position: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.4g}" for value in position)


def _pixel(text: str, option: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise InputError(f"{option} is {text!r}", expected="2 numbers with commas between, such as 320,240")
    return x, y
