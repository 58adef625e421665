"""A stereo network as an ONNX graph with dynamic batch, height and width.

Inputs ``left`` and ``right`` are (N, 3, H, W) float32 RGB 0..255, H and W multiples of 32; outputs are ``disparity``
(N, 1, H, W) px and ``confidence`` (N, 1, H/4, W/4) in 0..1. The disparity range is fixed when the graph is made. Only
operators of the standard set are used, at opset :data:`OPSET`.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backends import GraphFacts
from ..core.extras import require
from ..io.atomic import atomic_path
from ..nets.stereo.base import StereoNet

OPSET = 18


class _Tuple(nn.Module):
    """The network with its outputs as a tuple, the range fixed."""

    def __init__(self, net: StereoNet, max_disp: int) -> None:
        super().__init__()
        self.net = net
        self.max_disp = max_disp

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        out = self.net(left, right, self.max_disp)
        return out.disparity_B1HW, out.confidence_B1hw


def export_onnx(
    net: StereoNet, path: str | os.PathLike[str], *, max_disp: int | None = None, facts: GraphFacts | None = None
) -> None:
    """Write ``net`` (evaluation mode, float32) to ``path`` atomically, weights inside the file.

    Args:
        facts: what the file shall say about itself, so that :func:`depthlight.load` takes it by its path.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    require("onnx", extra="export")
    require("onnxscript", extra="export")
    wrapped = _Tuple(net.float().cpu().for_export(), max_disp or net.max_disp).eval()
    batch, rows, columns = (torch.export.Dim(name, min=1, max=1 << 10) for name in ("batch", "rows", "columns"))
    shape = {0: batch, 2: net.multiple * rows, 3: net.multiple * columns}
    example = torch.rand(2, 3, 4 * net.multiple, 6 * net.multiple) * 255
    with warnings.catch_warnings():  # that both views share their sizes is said once per axis
        warnings.filterwarnings("ignore", message=".*axis name.*will not be used", category=UserWarning)
        program = torch.onnx.export(
            wrapped,
            (example, example.flip(3)),
            input_names=["left", "right"],
            output_names=["disparity", "confidence"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(shape, shape),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    graph = _without_traces(program.model_proto)
    for key, value in sorted((facts.to_strings() if facts else {}).items()):
        graph.metadata_props.add(key=key, value=value)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))


def _without_traces(model: Any) -> Any:
    """The graph without the exporter's notes: each node carries stack traces with the paths of the machine."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    return model
