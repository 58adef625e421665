"""Give trained weights of ``light`` residual blocks they did not have: the same function, and more to learn with.

Usage: deepen.py WEIGHTS.safetensors AT_32 AT_16 OUT.safetensors

AT_32 and AT_16 are the blocks at 1/32 and 1/16 (``deeper`` of :class:`depthlight.nets.stereo.light.LightConfig`). They
begin as identities (Goyal et al., arXiv 1706.02677: the last norm's scale is 0), so a run that starts from OUT starts
where the weights were.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from depthlight.core.registry import sha256_of
from depthlight.nets.checkpoints import load_weights, read_metadata, save_safetensors
from depthlight.nets.stereo import build


def deepen(source: Path, at_32: int, at_16: int, out: Path) -> None:
    """Write the deeper network; the last segment of its lineage says what was done."""
    metadata = read_metadata(source)
    network = json.loads(metadata.get("network", "{}")) | {"deeper": [at_32, at_16]}
    torch.manual_seed(0)
    net = build(metadata["family"], network)
    missing, unexpected = net.load_state_dict(load_weights(source), strict=False)
    if unexpected or any("deeper" not in name for name in missing):
        raise SystemExit(f"{source} does not fit: {[*unexpected, *missing][:3]}")
    lineage = json.loads(metadata.get("lineage", "[]"))
    if lineage:
        lineage[-1].setdefault("changed", {})["network"] = f"deeper = {[at_32, at_16]}, from sha256 {sha256_of(source)}"
    changed = {"network": json.dumps(network), "lineage": json.dumps(lineage)}
    save_safetensors(out, net.state_dict(), metadata | changed)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    deepen(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
