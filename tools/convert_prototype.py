"""Lab prototype weights → ``light.prototype`` (state dict in the names of ``nets/stereo/light.py``).

Usage: convert_prototype.py PROTOTYPE.safetensors OUT.safetensors
Run once, for the golden test of `light` (tests/nets/golden).
"""

from __future__ import annotations

import sys
from pathlib import Path

from depthlight.nets.checkpoints import load_into, load_weights, save_safetensors
from depthlight.nets.stereo.light import Light

PREFIXES = {
    "s1": "features.stem",
    "s2": "features.down4",
    "s3": "features.down8",
    "s4": "features.down16",
    "s5": "features.down32",
    "u4": "features.up16",
    "u3": "features.up8",
    "u2": "features.up4",
    "f": "match",
    "v0": "aggregate.enter",
    "d1": "aggregate.down8",
    "d2": "aggregate.down16",
    "d3": "aggregate.down32",
    "t3": "aggregate.up16",
    "m2": "aggregate.merge16",
    "t2": "aggregate.up8",
    "m1": "aggregate.merge8",
    "t1": "aggregate.up4",
    "o": "aggregate.leave",
    "upm": "upsample",
}


def renamed(key: str) -> str:
    """The prototype's key in our names."""
    head, rest = key.split(".", 1)
    if head[0] == "g" and head[1:].isdigit():  # g0.n.0.weight: the gate of scale 0
        return f"aggregate.gates.{head[1:]}.project.{rest.removeprefix('n.0.')}"
    parts = rest.split(".")
    if head in ("u4", "u3", "u2"):
        parts[0] = {"p": "project", "c": "merge"}[parts[0]]
    elif len(parts) > 1 and parts[1] in ("a", "b"):
        parts[1] = {"a": "conv", "b": "project"}[parts[1]]
    return ".".join([PREFIXES[head], *parts])


def main(source: str, target: str) -> None:
    net = Light()
    load_into(net, {renamed(key): tensor for key, tensor in load_weights(Path(source)).items()}, source=source)
    save_safetensors(Path(target), net, {"family": "light", "network": "{}", "name": "light.prototype"})


if __name__ == "__main__":
    main(*sys.argv[1:])
