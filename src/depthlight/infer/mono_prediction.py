"""What a single-image network answers. Needs no torch.

Shape legend: H, W image size. Values are relative inverse depth (>= 0, larger is nearer, known up to scale and shift)
or metric depth in metres; a prediction says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..geometry.depth import DepthMap
from ..geometry.normals import normals_orthographic, normals_pinhole, pseudo_depth
from ..geometry.rig import StereoRig
from ..io.hover import hover_html
from .prediction import ModelIdentity

Quantity = Literal["inverse_depth", "depth"]
NAMES = {"inverse_depth": "relative inverse depth", "depth": "depth"}
UNITS = {"inverse_depth": "none (affine-ambiguous)", "depth": "m"}
RELIEF_QUANTILE, RELIEF_VALUE = 0.98, 5.0  # relative inverse depth is brought to this before its normals are taken
FOCALS = 1.0, 1e6  # px; a camera's focal length lies between
NOMINAL_BASELINE = 0.1  # m, of a rig that only carries the camera: it decides what counts as a jump in a mesh


def need_focal(focal: float) -> float:
    """The focal length (px of the photo) again, if a camera can have it.

    Raises:
        InputError: it is not a number from 1 to a million.
    """
    low, high = FOCALS
    if not low <= focal <= high:
        raise InputError(f"the focal length is {focal:g}", expected=f"px of the photo, {low:,.0f} to {high:,.0f}")
    return focal


@dataclass(frozen=True, repr=False)
class MonoPrediction:
    """What a network sees in one image.

    Attributes:
        values: (H, W) float32 at input size, finite: relative inverse depth or metres, see ``quantity``.
        quantity: ``inverse_depth`` or ``depth``.
        model: which model computed it, and how.
        working_size: (height, width) px at which the network saw the image.
        seconds: wall time of the computation, without reading files.
        focal: focal length in px of the image, if known; only with metric depth.
        focal_from: ``given``, ``exif`` or ``model`` (which estimated it).
    """

    values: NDArray[np.float32]
    quantity: Quantity
    model: ModelIdentity
    working_size: tuple[int, int]
    seconds: float
    focal: float | None = None
    focal_from: str | None = None

    def __repr__(self) -> str:
        height, width = self.values.shape
        unit = " m" if self.is_metric else ""
        return (
            f"<MonoPrediction {width}x{height}: {NAMES[self.quantity]} {self.values.min():.3g} to "
            f"{self.values.max():.3g}{unit}, {self.model.name}, {self.seconds:.2f} s>"
        )

    def _repr_html_(self) -> str:
        """In notebooks: the map, with its values under the pointer."""
        return hover_html(
            NAMES[self.quantity],
            {NAMES[self.quantity]: (self.values, "m" if self.is_metric else "")},
            repr(self).strip("<>"),
        )

    @property
    def is_metric(self) -> bool:
        """Whether the values are metres."""
        return self.quantity == "depth"

    def to_depth(self) -> DepthMap:
        """Metres with the camera they were seen by: principal point in the middle, square pixels.

        Raises:
            InputError: the values are relative, or the focal length is not known.
        """
        if not self.is_metric:
            raise InputError(
                f"{self.model.name} gives relative inverse depth, which is not metres",
                hint="Use a metric model, or align it to measured depth",
            )
        if self.focal is None:
            raise InputError("the focal length is not known", hint="Give it with --focal (px)")
        height, width = self.values.shape
        rig = StereoRig(
            fx=self.focal,
            fy=self.focal,
            cx=(width - 1) / 2,
            cy=(height - 1) / 2,
            baseline=NOMINAL_BASELINE,
            width=width,
            height=height,
        )
        valid = self.values > 0
        return DepthMap(np.where(valid, self.values, np.float32(0)), valid, rig)

    def normals(self) -> NDArray[np.float32]:
        """Unit normals (H, W, 3) float32: x right, y up, z towards the viewer; (0, 0, -1) where there is none.

        Metric depth with a known focal length has a pinhole camera's normals. Everything else has the paper's scaled
        orthographic ones (arXiv 2512.17908), whose relief is only right up to a factor: metric depth is divided by its
        median, relative inverse depth is scaled so that its 98 % quantile is 5, then z = 7 / (r + 0.1).
        """
        if self.focal is not None:
            rig = self.to_depth().rig
            return np.asarray(normals_pinhole(self.values, rig.fx, rig.fy, rig.cx, rig.cy), np.float32)
        if self.is_metric:
            middle = float(np.median(self.values))
            return np.asarray(normals_orthographic(self.values / np.float32(middle or 1)), np.float32)
        top = float(np.quantile(self.values, RELIEF_QUANTILE))
        raw = np.maximum(self.values, 0) * np.float32(RELIEF_VALUE / top if top > 0 else 1)
        return np.asarray(normals_orthographic(pseudo_depth(raw)), np.float32)

    def summary(self) -> dict[str, Any]:
        """The facts of ``result.json`` about this image."""
        return {
            "model": self.model.name,
            "weights_sha256": self.model.weights_sha256,
            "backend": self.model.backend,
            "precision": self.model.precision,
            "device": self.model.device,
            "height": self.values.shape[0],
            "width": self.values.shape[1],
            "working_height": self.working_size[0],
            "working_width": self.working_size[1],
            "quantity": NAMES[self.quantity],
            "unit": UNITS[self.quantity],
            "min": float(self.values.min()),
            "max": float(self.values.max()),
            "focal_px": self.focal,
            "focal_from": self.focal_from,
            "normals_camera": "orthographic, relief up to a factor" if self.focal is None else "pinhole",
            "seconds": round(self.seconds, 4),
        }
