"""Stereo refinement measured: feed-forward, refined, averages of passes, ablations; scene by scene.

Usage: stereo_refine_eval.py --scenes DIR --out DIR [--list FILE] [--rows NAME,NAME] [--model NAME] [--recipe fast]
                             [--threads N] (run | table) [--json FILE]

DIR of --scenes holds scene folders with truth. ``run`` writes one JSON file per scene and row, and when called again
does only what is missing. ``table`` prints Markdown of the scenes that have every row; --json keeps it with all rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from depthlight.backends import TorchBackend
from depthlight.core.config import to_dict
from depthlight.core.errors import DepthlightError
from depthlight.core.memory import keep_freed_memory
from depthlight.data.samples import StereoSample
from depthlight.data.scenes import SceneFolder, read_list
from depthlight.eval.metrics import stereo_metrics
from depthlight.infer.passes import middle, run_pass
from depthlight.infer.prediction import StereoPrediction
from depthlight.infer.stereo import StereoModel
from depthlight.io.atomic import atomic_write_bytes
from depthlight.refine.stereo import StereoRefinement
from depthlight.refine.stereo_api import adaptable, pair_tensors, stereo_configured
from depthlight.refine.stereo_config import StereoRefineConfig, stereo_changed
from depthlight.refine.stereo_teacher import Teacher, teach

Map = NDArray[np.float32]
FIGURES = ("epe", "bad1", "bad2", "bad3", "d1")
# wall time of all that the row needs; CPU time of what was not there yet: the first of "refined" and "median-6" has
# that of the passes
TIMES = ("seconds", "cpu_seconds")
ALLOWED_SHARE, ALLOWED_PX = 0.10, 0.1  # a scene may be worse by the larger of the two
SCALES = (1.0, 1.25, 1.5, 1.75, 2.0)  # of the ten passes that take about as long as the refinement


@dataclass(frozen=True)
class Row:
    """A row of the table: ``how`` it is made, and for ``refine`` the changes to the recipe."""

    question: str
    how: str = "refine"
    changes: Mapping[str, Any] = field(default_factory=dict)


ROWS: dict[str, Row] = {
    "feed-forward": Row("the network's plain answer", "plain"),
    "refined": Row("the recipe as it is"),
    "mean-4": Row("mean of 4 passes: flip, 1.5× enlargement", "mean"),
    "median-6": Row("confident median of the recipe's 6 passes: what the refinement starts from", "teacher"),
    "median-10": Row("confident median of 10 passes at 5 sizes: about equal time", "many"),
    "no-photometric": Row("no photometric term", changes={"photometric": 0.0}),
    "no-smoothness": Row("no smoothness", changes={"smoothness": 0.0}),
    "no-closeness": Row("no closeness to the passes", changes={"closeness": 0.0}),
    "logits": Row("only the scores adapted", changes={"optimise": ("logits",)}),
    "upsample": Row("only the upsampling adapted", changes={"optimise": ("upsample",)}),
    "disparity": Row("the disparity itself", changes={"optimise": ("disparity",), "lr_disparity": 0.3}),
}


@dataclass
class Scene:
    """One pair, and what its rows share, made when first needed."""

    sample: StereoSample
    model: StereoModel
    backend: TorchBackend
    config: StereoRefineConfig
    _plain: StereoPrediction | None = None
    _teacher: tuple[Teacher, float] | None = None

    @property
    def pair(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Left and right view."""
        return self.sample.left_HW3, self.sample.right_HW3

    def plain(self) -> StereoPrediction:
        """The plain answer with the right view's."""
        if self._plain is None:
            self._plain = self.model.predict(*self.pair, left_right=True)
        return self._plain

    def teacher(self) -> tuple[Teacher, float]:
        """The teacher, and the seconds of everything up to it."""
        if self._teacher is None:
            plain, begun = self.plain(), time.monotonic()
            teacher = teach(self.model, *self.pair, plain, self.config)
            self._teacher = teacher, plain.seconds + time.monotonic() - begun
        return self._teacher

    def answer(self, row: Row) -> tuple[Map, float]:
        """Disparity of a row, and its seconds."""
        return {"plain": self._of_plain, "teacher": self._of_teacher, "mean": self._mean, "many": self._many}.get(
            row.how, lambda: self._refined(row)
        )()

    def _of_plain(self) -> tuple[Map, float]:
        return self.plain().disparity, self.plain().seconds / 2  # without the right view

    def _of_teacher(self) -> tuple[Map, float]:
        teacher, seconds = self.teacher()
        return teacher.disparity, seconds

    def _mean(self) -> tuple[Map, float]:
        begun = time.monotonic()
        found = [self.plain().disparity, self._pass(1.0, True)[0]]
        found += [self._pass(1.5, upside_down)[0] for upside_down in (False, True)]
        return np.asarray(np.mean(found, axis=0), np.float32), time.monotonic() - begun + self._of_plain()[1]

    def _many(self) -> tuple[Map, float]:
        begun = time.monotonic()
        found = []
        for scale in SCALES:
            for upside_down in (False, True):
                found.append(self._pass(scale, upside_down))
        middle_HW, _ = middle(found)
        return middle_HW, time.monotonic() - begun

    def _pass(self, factor: float, upside_down: bool) -> tuple[Map, Map]:
        return run_pass(self.model, *self.pair, factor, upside_down, self.plain().max_disp)

    def _refined(self, row: Row) -> tuple[Map, float]:
        teacher, seconds = self.teacher()
        begun = time.monotonic()
        tensors = pair_tensors(self.pair, teacher, self.plain().max_disp, torch.device(self.backend.device))
        outcome = StereoRefinement(self.backend.net, tensors, stereo_changed(self.config, row.changes)).run()
        if outcome.stopped:
            raise SystemExit(f"{self.sample.name}: {outcome.stopped}")
        height, width = self.sample.left_HW3.shape[:2]
        found_HW = outcome.refined_BHW[0, :height, :width].cpu().numpy()
        return found_HW, seconds + time.monotonic() - begun


def run(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Every missing row of every scene."""
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    model, backend = adaptable(args.model)
    config = stereo_configured(args.recipe)
    scenes = SceneFolder(args.scenes, read_list(args.list) if args.list else None)
    for index in range(len(scenes)):
        place = args.out / scenes.sample_name(index)
        wanted = [name for name in names if not _is_there(place / f"{name}.json", _request(name, model, config))]
        if not wanted:
            continue
        scene = Scene(scenes[index], model, backend, config)
        for name in wanted:
            cpu = time.process_time()
            disparity_HW, seconds = scene.answer(ROWS[name])
            facts = {
                **_figures(scene.sample, disparity_HW),
                "seconds": round(seconds, 2),
                "cpu_seconds": round(time.process_time() - cpu, 2),
                "request": _request(name, model, config),
            }
            place.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(place / f"{name}.json", json.dumps(facts, indent=1).encode())
            print(
                f"{place.name} {name}: EPE {facts['epe']:.3f}, bad2 {facts['bad2']:.2f} %, {seconds:.1f} s", flush=True
            )


def _figures(sample: StereoSample, disparity_HW: Map) -> dict[str, float]:
    assert sample.disparity_HW is not None  # the reader was told to need it
    truth_HW = sample.disparity_HW
    known_HW = np.isfinite(truth_HW) if sample.valid_HW is None else sample.valid_HW
    facts = asdict(stereo_metrics(disparity_HW, truth_HW, known_HW))
    return {name: float(facts[name]) for name in FIGURES}


def _request(name: str, model: StereoModel, config: StereoRefineConfig) -> dict[str, Any]:
    """What a row depends on: those of another request are measured again."""
    row = ROWS[name]
    changed = to_dict(stereo_changed(config, row.changes)) if row.how in ("refine", "teacher") else None
    facts = {"how": row.how, "config": changed, "weights_sha256": model.identity.weights_sha256}
    return dict(json.loads(json.dumps(facts)))  # as it will be read back


def _is_there(path: Path, request: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text())["request"] == request)
    except (OSError, ValueError, KeyError):
        return False


def table(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Means over the scenes that have every row, against the first one."""
    found: dict[str, dict[str, Any]] = {}
    for place in sorted(path for path in args.out.iterdir() if path.is_dir()):
        files = [place / f"{name}.json" for name in names]
        if all(path.is_file() for path in files):
            found[place.name] = {name: json.loads(path.read_text()) for name, path in zip(names, files, strict=True)}
    if not found:
        raise SystemExit(f"no scene in {args.out} has every row of {', '.join(names)}")
    for name in names:
        if len({json.dumps(rows[name]["request"], sort_keys=True) for rows in found.values()}) > 1:
            raise SystemExit(
                f"the answers of {name} in {args.out} are of different weights or settings: remove the old ones"
            )
    means = {name: _mean_of(found, name, names[0]) for name in names}
    print(f"{len(found)} scenes\n\n| | EPE | bad1 % | bad2 % | EPE against first | bad2 | worst scene | too bad | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, m in means.items():
        print(
            f"| {name}: {ROWS[name].question} | {m['epe']:.3f} | {m['bad1']:.2f} | {m['bad2']:.2f} | "
            f"{100 * m['epe_change']:+.1f} % | {100 * m['bad2_change']:+.1f} % | {m['worst_px']:+.3f} px | "
            f"{len(m['beyond_allowed'])} | {m['seconds']:.1f} |"
        )
    if args.json:
        scenes = {
            scene: {name: {key: row[key] for key in (*FIGURES, *TIMES)} for name, row in rows.items()}
            for scene, rows in found.items()
        }
        configs = {name: next(iter(found.values()))[name]["request"] for name in names}
        facts = {"scenes": len(found), "means": means, "rows": configs, "by_scene": scenes}
        atomic_write_bytes(args.json, (json.dumps(facts, indent=1) + "\n").encode())


def _mean_of(found: Mapping[str, Mapping[str, Any]], name: str, first: str) -> dict[str, Any]:
    mean: dict[str, Any] = {
        key: round(float(np.mean([rows[name][key] for rows in found.values()])), 4) for key in (*FIGURES, *TIMES)
    }
    for key in ("epe", "bad2"):
        own, others = (sum(rows[row][key] for rows in found.values()) for row in (name, first))
        mean[f"{key}_change"] = round(own / others - 1, 4)
    worse = {scene: rows[name]["epe"] - rows[first]["epe"] for scene, rows in found.items()}
    mean["worst_px"] = round(max(worse.values()), 4)
    mean["beyond_allowed"] = [
        scene for scene, rows in found.items() if worse[scene] > max(ALLOWED_SHARE * rows[first]["epe"], ALLOWED_PX)
    ]
    return mean


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--model")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = [name.strip() for name in args.rows.split(",")]
    unknown = [name for name in names if name not in ROWS]
    if unknown or (args.what == "run" and args.scenes is None):
        parser.error(f"unknown rows: {', '.join(unknown)}" if unknown else "run needs --scenes")
    work: Callable[[argparse.Namespace, Sequence[str]], None] = run if args.what == "run" else table
    try:
        work(args, names)
    except DepthlightError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
