"""depthlight: depth from images, light enough for any machine.

>>> import depthlight as dl
>>> "light.prototype" in dl.list_models("light*")
True

Nothing heavy is imported before it is used: ``import depthlight`` needs neither torch nor onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .core.errors import DepthlightError as DepthlightError
    from .core.registry import list_models as list_models
    from .geometry.cloud import PointCloud as PointCloud
    from .geometry.depth import DepthMap as DepthMap
    from .geometry.rig import StereoRig as StereoRig
    from .infer.load import load as load
    from .infer.prediction import StereoPrediction as StereoPrediction

_HOMES = {
    "DepthMap": "geometry.depth",
    "DepthlightError": "core.errors",
    "PointCloud": "geometry.cloud",
    "StereoPrediction": "infer.prediction",
    "StereoRig": "geometry.rig",
    "list_models": "core.registry",
    "load": "infer.load",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'depthlight' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
