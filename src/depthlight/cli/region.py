"""Options of ``stereo`` for a part of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.registry import sha256_of
from ..infer.region import Box, Region, read_mask

RoiOption = Annotated[
    str | None, typer.Option("--roi", help="x,y,width,height in px: compute this part only; maps keep their size.")
]
MaskOption = Annotated[
    Path | None,
    typer.Option("--mask", help="Image of the left view's size; what is above 0 is wanted, the rest unknown."),
]


def region_from(roi: str | None, mask: Path | None) -> tuple[Region | None, dict[str, str]]:
    """The region, None for all, and what a request says of it."""
    if roi is None and mask is None:
        return None, {}
    region = Region(None if roi is None else Box.parse(roi), None if mask is None else read_mask(mask))
    named = {"roi": "" if region.box is None else str(region.box), "mask": "" if mask is None else sha256_of(mask)}
    return region, {name: value for name, value in named.items() if value}
