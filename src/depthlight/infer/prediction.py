"""What a matcher answers. Needs no torch.

All maps have the size of the input pair (H, W) and belong to the left view unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..geometry.depth import DepthMap, disparity_to_depth
from ..geometry.rig import StereoRig
from ..io.hover import hover_html
from ..io.images import ImageSource
from .uncertainty import disparity_sigma


@dataclass(frozen=True)
class ModelIdentity:
    """Which model computed a result, and how."""

    name: str
    weights_sha256: str | None  # None where there are no weights (sgbm)
    backend: str
    precision: str
    device: str


@dataclass(frozen=True, repr=False)
class StereoPrediction:
    """Disparity of one pair and what is known about it.

    Attributes:
        disparity: (H, W) float32, px at input size, dense and finite; x_right = x_left - disparity.
        confidence: (H, W) float32 in 0..1; 0 where nothing can be known (a constant image, a filled hole).
        valid: (H, W) bool: the match lies inside the right view, the disparity is below the range limit and, where
            views were checked against each other, both agree. Evaluation counts every pixel whatever this says.
        saturated: share of pixels (0..1) at the range limit: above a few per cent, use a larger ``max_disp``.
        density: share of pixels (0..1) that had an estimate of their own before holes were filled; 1 for networks.
        max_disp: where the range searched ends, px.
        min_disp: where it begins, px; negative where the optical axes cross in front of the scene.
        seconds: wall time of the computation, without reading files.
        disparity_right: (H, W) float32, right view's disparity (x_left = x_right + d), if it was asked for.
        estimated: (H, W) bool, the pixels behind ``density``; None where all are estimated (networks).
        region: (H, W) bool, the pixels that were asked for (:mod:`depthlight.infer.region`); None is all. Elsewhere
            disparity and confidence are 0, ``valid`` is false; ``saturated`` and ``density`` are of what was computed.
        region_right: (H, W) bool, the pixels of ``disparity_right`` that were computed for it; None is all.
    """

    disparity: NDArray[np.float32]
    confidence: NDArray[np.float32]
    valid: NDArray[np.bool_]
    saturated: float
    model: ModelIdentity
    max_disp: int
    seconds: float
    density: float = 1.0
    disparity_right: NDArray[np.float32] | None = None
    estimated: NDArray[np.bool_] | None = None
    region: NDArray[np.bool_] | None = None
    min_disp: int = 0
    region_right: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        height, width = self.disparity.shape
        return (
            f"<StereoPrediction {width}x{height}: {self.disparity.min():.1f} to {self.disparity.max():.1f} px, "
            f"{100 * self.valid.mean():.0f} % valid, {self.model.name} on {self.model.backend} {self.model.precision}, "
            f"{self.seconds:.2f} s>"
        )

    def _repr_html_(self) -> str:
        """In notebooks: the disparity, with its value and confidence under the pointer."""
        maps = {"disparity": (self.disparity, "px"), "confidence": (self.confidence, "")}
        return hover_html("disparity", maps, repr(self).strip("<>"), valid_HW=self.region)

    def to_depth(self, rig: StereoRig) -> DepthMap:
        """Metres along the optical axis: ``fx · baseline / (disparity + doffs)`` (Middlebury's convention).

        The rig is rescaled if it was given for another image size of the same shape. The uncertainty comes from the
        confidence (:mod:`depthlight.infer.uncertainty`).
        """
        sigma = disparity_sigma(self.confidence, self.model.name)
        return disparity_to_depth(self.disparity, rig, valid_HW=self.valid, sigma_HW=sigma)

    def summary(self) -> dict[str, Any]:
        """The facts of ``result.json`` about this pair; of a region, disparity and confidence are its own."""
        asked = ... if self.region is None else self.region
        disparity, confidence = self.disparity[asked], self.confidence[asked]
        return {
            "model": self.model.name,
            "weights_sha256": self.model.weights_sha256,
            "backend": self.model.backend,
            "precision": self.model.precision,
            "device": self.model.device,
            "height": self.disparity.shape[0],
            "width": self.disparity.shape[1],
            "space": "disparity",
            "unit": "px",
            "min_disp": self.min_disp,
            "max_disp": self.max_disp,
            "disparity_min": float(disparity.min()),
            "disparity_max": float(disparity.max()),
            "mean_confidence": float(confidence.mean()),
            "valid_share": float(self.valid.mean()),
            "saturated_share": self.saturated,
            "density": self.density,
            "seconds": round(self.seconds, 4),
        }


class StereoMatcher(Protocol):
    """Anything that turns a pair into a :class:`StereoPrediction`."""

    name: str
    max_disp: int  # px, the range when ``predict`` is told none

    @property
    def identity(self) -> ModelIdentity:
        """What its predictions will say about their origin."""
        ...

    def check_range(self, max_disp: int | None, min_disp: int = 0) -> None:
        """Refuse a range (px; None is the matcher's own) that it cannot search, before any work (InputError)."""
        ...

    def predict(
        self,
        left: ImageSource,
        right: ImageSource,
        *,
        max_disp: int | None = None,
        min_disp: int = 0,
        left_right: bool = False,
    ) -> StereoPrediction:
        """Disparity of one rectified pair; see :meth:`depthlight.infer.stereo.StereoModel.predict`."""
        ...

    def predict_batch(
        self,
        pairs: Iterable[tuple[ImageSource, ImageSource]],
        *,
        max_disp: int | None = None,
        min_disp: int = 0,
        left_right: bool = False,
    ) -> list[StereoPrediction]:
        """Several pairs, of equal or different sizes."""
        ...
