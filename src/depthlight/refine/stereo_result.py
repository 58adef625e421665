"""What a stereo refinement answers. Needs no torch. All maps are (H, W) and belong to the left view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.config import to_dict
from ..geometry.depth import DepthMap
from ..geometry.rig import StereoRig
from ..infer.prediction import StereoPrediction
from .stereo_config import StereoRefineConfig
from .stereo_teacher import Teacher


@dataclass(frozen=True)
class StereoRefineResult:
    """Disparity of one pair before and after.

    Attributes:
        before: the network's plain answer, as ``depthlight stereo --left-right`` gives it.
        after: the same with the refined disparity; ``confidence`` is still that of the plain answer.
        teacher: the middle of the passes, where they agree, and what both views see.
        history: a row per step: step (from 1), the weighted terms of the loss, and their sum ``loss``.
        stopped: why it ended early (what was not finite, where), or empty.
        recipe, config: what was done.
        seconds: wall time of everything: plain answer, passes and optimisation.
    """

    before: StereoPrediction
    after: StereoPrediction
    teacher: Teacher
    history: tuple[dict[str, float], ...]
    stopped: str
    recipe: str
    config: StereoRefineConfig
    seconds: float

    @property
    def disparity(self) -> NDArray[np.float32]:
        """The refined disparity, px at input size."""
        return self.after.disparity

    def to_depth(self, rig: StereoRig) -> DepthMap:
        """Metres of the refined disparity; see :meth:`depthlight.StereoPrediction.to_depth`."""
        return self.after.to_depth(rig)

    def summary(self) -> dict[str, Any]:
        """The facts of ``result.json`` about the refinement, beside those of the prediction."""
        change_HW = np.abs(self.after.disparity - self.before.disparity)
        last = self.history[-1] if self.history else {}
        return {
            "recipe": self.recipe,
            "config": to_dict(self.config),
            "passes": self.teacher.passes,
            "agreement": float(self.teacher.agreement.mean()),
            "visible_share": float(self.teacher.visible.mean()),
            "steps_done": len(self.history),
            "losses": {name: value for name, value in last.items() if name != "step"},
            "mean_change": float(change_HW.mean()),  # px
            "changed_by_1px": float((change_HW > 1).mean()),  # share of the pixels
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
        }
