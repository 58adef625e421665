"""Put a set of weights into the package: safetensors, the ONNX graph made from it, and the card.

Usage: bundle.py MODEL.safetensors NAME [CARD.json] [--out DIR] [--fp16]

MODEL.safetensors is what training writes (metadata names family and network): a stereo network, a depth network of
single images or a prior; the last two have no graph. CARD.json holds the words of the card: licence, summary, data,
limits, and lineage if not the file's own; without it, the words of the card that is there stay. Metrics come from
``figures.py accuracy``. The graph passes the parity gate or nothing is written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from depthlight.cli.demo import motorcycle
from depthlight.core.config import from_dict, to_dict
from depthlight.core.registry import WEIGHTS_DIR, WeightCard, sha256_of, task_of
from depthlight.export.onnx import export_onnx
from depthlight.export.parity import measure_parity, require_parity
from depthlight.io.atomic import atomic_write_bytes
from depthlight.nets.checkpoints import load_into, load_weights, read_metadata, save_safetensors
from depthlight.nets.mono import build as build_mono
from depthlight.nets.prior.load import build as build_prior
from depthlight.nets.stereo import build as build_stereo
from depthlight.nets.stereo.base import StereoNet

BUILD = {"stereo": build_stereo, "mono": build_mono, "prior": build_prior}


def bundle(source: Path, name: str, words: dict[str, object], out: Path, *, fp16: bool) -> WeightCard:
    """Write ``<name>.safetensors``, for a stereo network ``<name>.onnx``, and ``<name>.json`` into ``out``."""
    metadata = read_metadata(source)
    network = json.loads(metadata.get("network", "{}"))
    task = task_of(metadata["family"])
    net = BUILD[task](metadata["family"], network)
    load_into(net, load_weights(source), source=str(source))
    with tempfile.TemporaryDirectory() as scratch:
        weights, graph = Path(scratch) / f"{name}.safetensors", Path(scratch) / f"{name}.onnx"
        save_safetensors(weights, net, {**metadata, "name": name}, fp16=fp16)
        made = {"safetensors": weights}
        if task == "stereo":
            load_into(net, load_weights(weights), source=str(weights))  # the graph is made from what the file holds
            export_checked(net, graph)
            made["onnx"] = graph
            words = {**words, "max_disp": net.max_disp}
        files = {
            kind: {"file": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}
            for kind, path in made.items()
        }
        facts = {"lineage": json.loads(metadata.get("lineage", "[]")), **words, "name": name, "files": files}
        facts |= {"family": metadata["family"], "network": network}
        card = from_dict(WeightCard, facts)
        for path in made.values():
            atomic_write_bytes(out / path.name, path.read_bytes())
    atomic_write_bytes(out / f"{name}.json", (json.dumps(to_dict(card), indent=2) + "\n").encode())
    return card


def export_checked(net: StereoNet, graph: Path) -> None:
    """The graph, after the parity gate on a real pair."""
    export_onnx(net, graph)
    left, right, _ = motorcycle()
    rows = measure_parity(net.eval(), graph, (left, right))
    require_parity(rows, what=graph.name)
    for row in rows:
        print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("name")
    parser.add_argument("card", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=WEIGHTS_DIR)
    parser.add_argument("--fp16", action="store_true")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    bundle(args.model, args.name, words_of(args.card, args.out / f"{args.name}.json"), args.out, fp16=args.fp16)


def words_of(card: Path | None, before: Path) -> dict[str, object]:
    """What the new card says: a file's words, or those of the card before that hold for any weights."""
    words: dict[str, object] = json.loads((card or before).read_text())
    return words if card else {name: words[name] for name in ("licence", "summary", "data", "limits")}


if __name__ == "__main__":
    main()
