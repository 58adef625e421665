"""An ONNX graph as OpenVINO IR: an ``.xml`` and a ``.bin`` with float32 weights.

OpenVINO's reader is used, not its converter: the graph is the same, and the converter reports its use over the network.
"""

from __future__ import annotations

from pathlib import Path

from ..backends import GraphFacts
from ..backends.graph import PREFIX, SECTION
from ..backends.openvino import openvino_core
from ..core.extras import require


def export_openvino(graph: Path, xml: Path, facts: GraphFacts) -> None:
    """Write ``graph`` (``.onnx``) to ``xml`` and to a ``.bin`` beside it; shapes stay dynamic.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    model = openvino_core(purpose="it writes its own format").read_model(str(graph))
    for key, value in facts.to_strings().items():
        model.set_rt_info(value, [SECTION, key.removeprefix(PREFIX)])
    require("openvino", extra="openvino").save_model(model, str(xml), compress_to_fp16=False)
