"""Options for what is searched and with how much memory: ``--min-disp``, ``--find-range``, ``--max-memory``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ..core.errors import InputError
from ..infer.pairs import Image
from ..infer.prediction import StereoMatcher
from ..infer.stereo import StereoModel

MinDispOption = Annotated[
    int, typer.Option("--min-disp", help="Smallest disparity to search, px; negative where things recede.")
]
FindRangeOption = Annotated[
    bool, typer.Option("--find-range", help="Let a quick look at the pair at quarter size choose the range.")
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option("--max-memory", help="Most memory of the process, as 4GB or 500MB: larger images go in tiles."),
]
SATURATION_TO_MENTION = 0.01
UNITS = {"": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


@dataclass(frozen=True)
class Search:
    """What was asked for: ``max_disp`` None is the matcher's own range."""

    max_disp: int | None = None
    min_disp: int = 0
    find: bool = False

    def __post_init__(self) -> None:
        if self.find and (self.max_disp is not None or self.min_disp):
            raise InputError("--find-range chooses the range, and one was given", hint="Leave one of them out")

    def check(self, matcher: StereoMatcher) -> None:
        """Refuse what the matcher cannot do, before any work.

        Raises:
            InputError: not a range of it, or it cannot find one.
        """
        if self.find and not isinstance(matcher, StereoModel):
            raise InputError(f"--find-range says nothing to {matcher.name}", hint="Give --max-disp")
        if self.min_disp:
            matcher.check_range(self.max_disp, self.min_disp)
        else:
            matcher.check_range(self.max_disp)

    def options(self, matcher: StereoMatcher, pairs: Iterable[tuple[Image, Image]]) -> dict[str, Any]:
        """The range for ``predict``: what was asked for, or what all of ``pairs`` need together."""
        low, high = self.min_disp, self.max_disp
        if self.find and isinstance(matcher, StereoModel):
            found = [matcher.find_range(left, right) for left, right in pairs]
            low, high = min(one[0] for one in found), max(one[1] for one in found)
        return {"max_disp": high} | ({"min_disp": low} if low else {})

    def request(self) -> dict[str, Any]:
        """What a result's request says of it, beside ``max_disp``."""
        found: dict[str, Any] = {"min_disp": self.min_disp} if self.min_disp else {}
        return found | ({"find_range": True} if self.find else {})


def saturation_told(share: float | None, low: float, high: float) -> str:
    """What to say of a result of which ``share`` (0..1) lies at an end of the range; "" if that is little."""
    if share is None or share <= SATURATION_TO_MENTION:
        return ""
    return (
        f"{100 * share:.1f} % of the pixels are at an end of the range ({low:g} to {high:g} px): things beyond it are "
        "cut off. Try a larger --max-disp, a smaller --min-disp, or --find-range."
    )


def limit_memory(matcher: StereoMatcher, text: str | None) -> None:
    """Let a network use at most so much.

    Raises:
        InputError: not an amount, or the matcher is not a network.
    """
    if text is None:
        return
    if not isinstance(matcher, StereoModel):
        raise InputError(f"--max-memory says nothing to {matcher.name}", hint="Leave it out")
    matcher.max_memory = parse_bytes(text)


def parse_bytes(text: str) -> int:
    """``"4GB"`` → bytes (GB = 2³⁰, MB = 2²⁰, KB = 2¹⁰; a bare number is bytes).

    Raises:
        InputError: not such an amount.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)I?B?", text.strip().upper())
    if not found or float(found[1]) == 0:
        raise InputError(f"--max-memory is {text!r}", expected="an amount such as 4GB or 500MB")
    return int(float(found[1]) * UNITS[f"{found[2]}B" if found[2] else ""])
