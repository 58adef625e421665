"""How a single-image depth model is measured, as data that travels with every result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

from ..core.errors import ConfigError, UnknownNameError
from .mono_metrics import MAX_TRUTH, MIN_TRUTH, Alignment

_ALIGNMENTS: dict[str, str] = {
    "affine": "scale and shift of relative inverse depth to 1/truth by least squares in the mask; aligned inverse "
    "depth below 1/cap becomes 1/cap, the cap being max_depth or else the largest truth in the mask; then inverted",
    "paper": "Re-Depth Anything (arXiv 2512.17908): scale and shift of relative inverse depth to 1/truth by least "
    "squares in the mask; inverted, non-positive values to 0; scale and shift of that depth to the truth by a second "
    "least squares; no cap",
    "none": "metric depth as it is",
}
MASK = f"the mask file, else {MIN_TRUTH:g} < truth < {MAX_TRUTH:g}; with max_depth also truth <= max_depth"
SHAPE = (
    "normals from aligned depth and from the truth alike: pinhole where the camera is known, else scaled orthographic "
    "with both divided by the truth's median; boundary F1 after Depth Pro, ratios 1.05-1.25, pairs pooled"
)


@dataclass(frozen=True, kw_only=True)
class MonoProtocol:
    """How to measure. One forward pass at the size the model chooses; measured at the size of the truth.

    Attributes:
        alignment: how an estimate is brought to the unit of the truth.
        max_depth: truth beyond it (metres) does not count, and ``"affine"`` caps the estimate at it. ``None`` leaves it
            to what each scene states. Scenes without a unit have none.
    """

    alignment: Alignment = "affine"
    max_depth: float | None = None

    def __post_init__(self) -> None:
        if self.alignment not in get_args(Alignment):
            raise UnknownNameError("alignment", self.alignment, get_args(Alignment))
        if self.max_depth is not None and not (math.isfinite(self.max_depth) and self.max_depth > 0):
            raise ConfigError(f"max depth is {self.max_depth}", expected="a positive number of metres, or none")

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping for the result: the rules in words too."""
        return {
            "name": f"mono-{self.alignment}",
            "alignment": self.alignment,
            "description": _ALIGNMENTS[self.alignment],
            "mask": MASK,
            "max_depth": self.max_depth,
            "shape": SHAPE,
        }
