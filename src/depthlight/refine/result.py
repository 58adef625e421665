"""What a refinement answers. Needs no torch.

Shapes: H × W the photo, h × w the working size. Maps are relative inverse depth: unitless, >= 0, larger is nearer,
right up to scale and shift.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.config import to_dict
from ..geometry.normals import normals_orthographic, normals_pinhole, pseudo_depth, short_side_unit
from .anchor import Anchored
from .config import RefineConfig


@dataclass(frozen=True)
class RefineResult:
    """Depth of one photo before and after.

    Attributes:
        before: (H, W) float32: the network's plain answer at the working size, as ``depthlight mono`` gives it.
        after: (H, W) float32: with the change that refinement found; equal to ``before`` where it found none. Relative
            inverse depth has no negative values: where the change would lead below 0 it is 0.
        clipped: the share of pixels, 0..1, where that happened.
        start, refined: (h, w) float32, the raw maps at working size: first answer, and mean of the restarts.
        runs: the raw map of each restart.
        history: a row per step: restart, step (from 1), the weighted terms of the loss, and their sum ``loss``.
        stopped: why it ended early (what was not finite, where), or empty.
        model, prior: which network and prior; ``prior`` is None where nothing guided.
        recipe, config: what was done.
        unit: the raw value that stands for 1 in the pseudo depth.
        offsets: of each restart, what was learned of the pseudo depth's scale: it is ``scale + tanh(offset)``.
        seconds: wall time of the optimisation.
        anchored: ``after`` in metres, where measured depth was given.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    start: NDArray[np.float32]
    refined: NDArray[np.float32]
    runs: tuple[NDArray[np.float32], ...]
    history: tuple[dict[str, float], ...]
    stopped: str
    model: dict[str, Any]
    prior: dict[str, Any] | None
    recipe: str
    config: RefineConfig
    unit: float
    seconds: float
    clipped: float = 0.0
    offsets: tuple[float, ...] = ()
    anchored: Anchored | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def normals(self, *, before: bool = False) -> NDArray[np.float32]:
        """(H, W, 3) unit normals of a map, x right, y up, z towards the viewer, by the camera of the configuration."""
        raw_HW = (self.before if before else self.after) / np.float32(self.unit)
        learned = 0.0 if before or not self.offsets else float(np.tanh(self.offsets).mean())
        depth_HW = pseudo_depth(raw_HW, scale=self.config.scale + learned, shift=self.config.shift)
        height, width = depth_HW.shape
        if self.config.camera == "orthographic":
            if self.config.unit == "standard":
                depth_HW = depth_HW * np.float32(short_side_unit(height, width))
            normal_HW3 = normals_orthographic(depth_HW)
        else:
            focal = self.config.focal * max(height, width)
            normal_HW3 = normals_pinhole(depth_HW, focal, focal, (width - 1) / 2, (height - 1) / 2)
        return np.asarray(normal_HW3, np.float32)

    def summary(self) -> dict[str, Any]:
        """The facts of ``result.json``."""
        last = self.history[-1] if self.history else {}
        change = np.abs(self.after - self.before)
        span = float(self.before.max() - self.before.min())
        return {
            "space": "relative inverse depth",
            "unit": "none (affine-ambiguous)",
            "height": self.before.shape[0],
            "width": self.before.shape[1],
            **self.model,
            "prior": self.prior,
            "recipe": self.recipe,
            "config": to_dict(self.config),
            "working_size": {"height": self.start.shape[0], "width": self.start.shape[1]},
            "steps_done": len(self.history),
            "restarts_done": len(self.runs),
            "losses": {name: value for name, value in last.items() if name not in ("restart", "step")},
            "mean_change": float(change.mean()) / span if span else 0.0,  # share of the range before
            "clipped": self.clipped,  # share of the pixels that the change would have led below 0
            "offsets": list(self.offsets),
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            **({} if self.anchored is None else {"anchor": self.anchored.summary()}),
            **self.facts,
        }
