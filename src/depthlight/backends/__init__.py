"""Runtimes behind one contract: numpy pair in, numpy disparity and confidence out.

Importing this package needs none of the runtimes; each is imported when one of its backends is made.
"""

from __future__ import annotations

from .base import BACKENDS, MAX_RANGE, PRECISIONS, RESERVED_PRECISIONS, FloatArray, StereoBackend, warm_up
from .graph import GRAPH_SUFFIXES, GraphFacts
from .onnxruntime import OnnxBackend
from .openvino import OpenVinoBackend
from .torch import TorchBackend

__all__ = [
    "BACKENDS",
    "GRAPH_SUFFIXES",
    "MAX_RANGE",
    "PRECISIONS",
    "RESERVED_PRECISIONS",
    "FloatArray",
    "GraphFacts",
    "OnnxBackend",
    "OpenVinoBackend",
    "StereoBackend",
    "TorchBackend",
    "warm_up",
]
