"""Average the weights of two model files of one network: steadier than either where one began from the other.

Usage: average.py EARLIER.safetensors LATER.safetensors OUT.safetensors

The metadata are LATER's; the last segment of its lineage says what was averaged. Half way between a start and what
training made of it: Wortsman et al., arXiv 2109.01903.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from depthlight.core.registry import sha256_of
from depthlight.nets.checkpoints import load_weights, read_metadata, save_safetensors


def average(earlier: Path, later: Path, out: Path) -> None:
    """Write the mean; counters (integers) are the later ones."""
    old, new, metadata = load_weights(earlier), load_weights(later), read_metadata(later)
    if old.keys() != new.keys():
        raise SystemExit(f"{earlier} and {later} are of different networks")
    weights = {
        key: (old[key].float() + value.float()) / 2 if value.is_floating_point() else value
        for key, value in new.items()
    }
    lineage = json.loads(metadata["lineage"])
    lineage[-1].setdefault("changed", {})["weights"] = f"mean of these and of those of sha256 {sha256_of(earlier)}"
    save_safetensors(out, weights, metadata | {"lineage": json.dumps(lineage)})


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    average(*map(Path, sys.argv[1:]))
