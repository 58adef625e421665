"""depthlight: depth from images, light enough for any machine.

>>> import depthlight as dl
>>> "light.synth-v1" in dl.list_models("light*")
True

Nothing heavy is imported before it is used: ``import depthlight`` needs neither torch nor onnxruntime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .core.errors import DepthlightError as DepthlightError
    from .core.registry import list_models as list_models
    from .geometry.calibration import read_calibration as read_calibration
    from .geometry.cameras import StereoCameras as StereoCameras
    from .geometry.cloud import PointCloud as PointCloud
    from .geometry.depth import DepthMap as DepthMap
    from .geometry.rig import StereoRig as StereoRig
    from .infer.doctor.diagnose import diagnose as diagnose
    from .infer.load import load as load
    from .infer.mono import load_mono as load_mono
    from .infer.mono_prediction import MonoPrediction as MonoPrediction
    from .infer.prediction import StereoPrediction as StereoPrediction
    from .infer.video import StereoVideo as StereoVideo
    from .infer.video import predict_video as predict_video
    from .refine.anchor import anchor as anchor
    from .refine.api import refine as refine

_HOMES = {
    "DepthMap": "geometry.depth",
    "DepthlightError": "core.errors",
    "MonoPrediction": "infer.mono_prediction",
    "PointCloud": "geometry.cloud",
    "StereoCameras": "geometry.cameras",
    "StereoPrediction": "infer.prediction",
    "StereoRig": "geometry.rig",
    "StereoVideo": "infer.video",
    "anchor": "refine.anchor",
    "diagnose": "infer.doctor.diagnose",
    "list_models": "core.registry",
    "load": "infer.load",
    "read_calibration": "geometry.calibration",
    "load_mono": "infer.mono",
    "predict_video": "infer.video",
    "refine": "refine",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("depthlight")
    if name not in _HOMES:
        raise AttributeError(f"module 'depthlight' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
