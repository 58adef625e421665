"""Is a mono network fit to be refined? Its AbsRel against that of a vertical ramp, aligned in the same way.

Usage: python tools/mono_gate.py MODEL SCENES PHOTOS [-o gate.json] [--list FILE]

MODEL is a model.safetensors of `depthlight train mono` or a bundled name, SCENES a folder of scene folders of the
engine that it has not seen (--list picks some), PHOTOS a folder of real images with depth. The exit status is 1 unless
the median over SCENES is at least 25 % below the ramp's and the mean over PHOTOS below it. (The mean over scenes is
shown, not judged: a ramp fitted to one scene with a far horizon can outweigh all others.)
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from depthlight.core.errors import DepthlightError
from depthlight.data.scenes import read_list
from depthlight.eval.mono_runner import Ramp
from depthlight.eval.mono_scenes import DepthScenes
from depthlight.infer.mono import load_mono
from depthlight.io.atomic import atomic_write_bytes
from depthlight.train.mono import abs_rels

BELOW = 0.75  # of the ramp's median on engine scenes


def run(options: argparse.Namespace) -> int:
    """Measure, write, print; 0 if the gate is passed."""
    torch.set_num_threads(options.threads)
    model = load_mono(options.model)
    sets = {
        "scenes": DepthScenes(options.scenes, read_list(options.list) if options.list else None),
        "photos": DepthScenes(options.photos),
    }
    found = {}
    for kind, images in sets.items():
        ours, ramp = abs_rels(model, images), abs_rels(Ramp(), images)
        found[kind] = {
            "images": len(ours),
            "median": float(np.median(ours)), "ramp_median": float(np.median(ramp)),
            "mean": float(np.mean(ours)), "ramp_mean": float(np.mean(ramp)),
        }  # fmt: skip
    passed = judged(found)
    text = json.dumps({"model": str(options.model), "passed": passed, **found}, indent=1)
    if options.output:
        atomic_write_bytes(options.output, text.encode())
    print(text)
    return 0 if passed else 1


def judged(found: dict[str, dict[str, float]]) -> bool:
    """Whether the figures pass the gate."""
    scenes, photos = found["scenes"], found["photos"]
    return scenes["median"] <= BELOW * scenes["ramp_median"] and photos["mean"] < photos["ramp_mean"]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("scenes", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--list", type=Path, help="names of the scenes to take, one per line")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="JSON")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(run(parser().parse_args()))
    except DepthlightError as error:
        print(f"mono_gate: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
