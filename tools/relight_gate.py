"""Is a re-lighting prior fit to guide? Rank true re-lightings against wrong ones, and draw what the prior imagines.

Usage: python tools/relight_gate.py MODEL SCENES [-o gate.json] [--sheet samples.png] [options]

MODEL is a model.safetensors of `depthlight train prior` or a bundled name, SCENES a folder of scene folders of the
engine that the prior has not seen. The exit status is 1 if fewer than 80 % of the comparisons with flattened, noisy and
another scene's normals are won, or if there are fewer scenes than --images asks for.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from depthlight.core.errors import DepthlightError
from depthlight.data.mono import MonoScenes
from depthlight.data.scenes import read_list
from depthlight.eval.relight_gate import GateConfig, run_gate
from depthlight.eval.relight_sheet import draw_sheet
from depthlight.io.atomic import atomic_write_bytes
from depthlight.nets.prior.load import load_prior

BAR = 80.0


def run(options: argparse.Namespace) -> int:
    """Measure, write, print; 0 if the gate is passed."""
    torch.set_num_threads(options.threads)
    prior = load_prior(options.model)
    scenes = MonoScenes(options.scenes, read_list(options.list) if options.list else None)
    if options.sheet:
        draw_sheet(prior.net, scenes, options.sheet, count=64, seed=options.seed)
    if options.images == 0:
        return 0
    config = GateConfig(images=options.images, patches=options.patches, contrast=options.contrast, seed=options.seed)
    found = run_gate(prior.net, scenes, config)
    result = {"prior": prior.name, "sha256": prior.sha256, "bar": BAR, "passed": _passed(found, config), **found}
    text = json.dumps(result, indent=1)
    if options.output:
        atomic_write_bytes(options.output, text.encode())
    print(text)
    return 0 if result["passed"] else 1


def _passed(found: dict[str, Any], config: GateConfig) -> bool:
    return bool(found["ranked_gate"] >= BAR and found["images"] == config.images)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--list", type=Path, help="names of the scenes to take, one per line")
    parser.add_argument("--images", type=int, default=200, help="0 draws the sheet alone")
    parser.add_argument("--patches", type=int, default=6, help="per image")
    parser.add_argument("--contrast", action="store_true", help="also against conditions withheld; three times as long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="PNG of 64 samples")
    parser.add_argument("-o", "--output", type=Path, help="JSON")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(run(parser().parse_args()))
    except DepthlightError as error:
        print(f"relight_gate: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
