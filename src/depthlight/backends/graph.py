"""What the runtimes that read an exported graph share: its range, its names, and the facts it carries.

Needs no runtime. The facts are strings inside the file, written by :mod:`depthlight.export`; they are checked here
before anything believes them, because a file can say what it likes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import CheckpointError, InputError
from ..core.registry import NETWORK_FAMILIES
from .base import MAX_RANGE, check_limit

OUTPUTS = ("disparity", "confidence")
SECTION = "depthlight"  # of an IR's run-time information; ONNX has flat keys, with a prefix
PREFIX = f"{SECTION}."
FACTS = ("name", "family", "max_disp", "precision", "weights_sha256")
GRAPH_SUFFIXES = (".onnx", ".xml")
GRAPH_PRECISIONS = ("fp32", "int8")
LONGEST_NAME = 200
MEMORY_SHARE = {"light-s": 0.55}  # of what light's graph takes at its peak, measured in both runtimes


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """What an exported graph says about itself. ``weights_sha256`` is of the weights file it was made from."""

    name: str
    family: str
    max_disp: int
    precision: str = "fp32"
    weights_sha256: str | None = None

    def to_strings(self) -> dict[str, str]:
        """As they are written into a file."""
        facts = {
            "name": self.name,
            "family": self.family,
            "max_disp": str(self.max_disp),
            "precision": self.precision,
            "weights_sha256": self.weights_sha256 or "",
        }
        return {PREFIX + key: value for key, value in facts.items()}


def graph_facts(path: Path, stated: Mapping[str, str]) -> GraphFacts:
    """The facts among the strings of a file.

    Raises:
        CheckpointError: it says nothing, or what it says cannot be.
    """
    facts = {key.removeprefix(PREFIX): value for key, value in stated.items() if key.startswith(PREFIX)}
    if not {"name", "family", "max_disp", "precision"} <= set(facts):
        raise CheckpointError(
            f"{path.name} does not say what it is",
            expected="a graph written by depthlight export",
            hint="Export it again with: depthlight export NAME --to onnx",
        )
    name, family, precision, digits = facts["name"], facts["family"], facts["precision"], facts["max_disp"]
    sha256 = facts.get("weights_sha256", "")
    for key, good in (
        ("name", 0 < len(name) <= LONGEST_NAME and name.isprintable()),
        ("family", family in NETWORK_FAMILIES),
        ("precision", precision in GRAPH_PRECISIONS),
        ("max_disp", bool(re.fullmatch(r"[0-9]{1,4}", digits)) and 0 < int(digits) <= MAX_RANGE),
        ("weights_sha256", bool(re.fullmatch(r"([0-9a-f]{64})?", sha256))),
    ):
        if not good:
            raise CheckpointError(f"{path.name}: its {key} is {facts[key][:60]!r}", expected="what depthlight writes")
    return GraphFacts(
        name=name, family=family, max_disp=int(digits), precision=precision, weights_sha256=sha256 or None
    )


def check_graph_range(max_disp: int, built_for: int) -> None:
    """Refuse any range (px) but the one a graph was exported with.

    Raises:
        LimitError: beyond :data:`MAX_RANGE`.
        InputError: another range.
    """
    check_limit(max_disp)
    if max_disp != built_for:
        raise InputError(
            f"this graph searches {built_for} px, not {max_disp}",
            hint="Use --backend torch (pip install 'depthlight[torch]') for another range",
        )


def said_by(error: Exception) -> str:
    """The message of a runtime on one line of bearable length."""
    return " ".join(str(error).split())[:300]
