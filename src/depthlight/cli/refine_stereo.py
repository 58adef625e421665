"""``depthlight refine LEFT RIGHT``: pairs in; disparity before and after out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import CheckFailedError, DepthlightError, InputError, NonFiniteError
from ..core.registry import sha256_of
from ..core.signals import StopFlag
from ..infer.folder import RESULT, is_complete, need_apart, need_writable
from ..io.images import read_image
from ..io.names import inside, pair_folders, safe_names
from .calibration import calibration_hash, rig_for
from .common import emit_json, progress, say

if TYPE_CHECKING:
    from ..geometry.rig import StereoRig
    from ..infer.stereo import StereoModel
    from ..refine.stereo_config import StereoRefineConfig


@dataclass(frozen=True)
class PairJob:
    """One pair and the folder for its result."""

    left: Path
    right: Path
    folder: Path


@dataclass(frozen=True)
class PairSettings:
    """What the user asked for, the same for every pair."""

    model: StereoModel
    recipe: str
    config: StereoRefineConfig
    max_disp: int | None
    rig: StereoRig | None
    calib: str | None
    resume: bool

    def request(self, job: PairJob) -> dict[str, Any]:
        """Everything the result depends on: a result of another request is done again."""
        from ..core.config import to_dict

        identity = self.model.identity
        facts = {
            "left": sha256_of(job.left),
            "right": sha256_of(job.right),
            "model": identity.name,
            "weights_sha256": identity.weights_sha256,
            "device": identity.device,
            "max_disp": self.max_disp,
            "calib": self.calib,
            "config": to_dict(self.config),
        }
        return dict(json.loads(json.dumps(facts)))  # as it will be read back


class PairStoppedEarlyError(NonFiniteError):
    """A refinement ended before its time and its last good disparity was written."""

    code = "stopped_early"
    exit_status = 1


def refine_pairs(
    left: Path,
    right: Path,
    out: Path,
    *,
    model: str | None,
    recipe: str,
    steps: int | None,
    max_disp: int | None,
    calib: Path | None,
    device: str,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> Callable[[StopFlag], None]:
    """The verb for a pair, or two folders of pairs: what can be wrong is told here; what is returned does the work."""
    from ..refine.stereo_api import adaptable, stereo_configured
    from ..refine.stereo_files import OWNED

    jobs = _jobs(left, right, out)
    config = stereo_configured(recipe, steps=steps)
    rig = rig_for(calib, jobs[0].left, side_by_side=False)
    others = [calib, *(Path(text) for text in (model, recipe) if text)]
    need_apart([job.folder for job in jobs], [path for job in jobs for path in (job.left, job.right)] + others, OWNED)
    matcher = adaptable(model, device)[0]
    matcher.check_range(max_disp)
    need_writable(out)
    settings = PairSettings(matcher, recipe, config, max_disp, rig, calibration_hash(calib), resume)
    if left.is_dir():
        return lambda stop: _run_folder(jobs, settings, stop, overwrite=overwrite, as_json=as_json, quiet=quiet)
    return lambda stop: _run_one(jobs[0], settings, stop, as_json=as_json, quiet=quiet)


def _jobs(left: Path, right: Path, out: Path) -> list[PairJob]:
    for path in (left, right):
        if not path.exists():
            raise InputError(f"{path} does not exist", expected="an image or a folder")
    if left.is_dir() != right.is_dir():
        raise InputError(f"{left} and {right} are a folder and a file", expected="two images or two folders")
    if not left.is_dir():
        return [PairJob(left, right, out)]
    pairs = pair_folders(left, right)
    names = safe_names([stem for stem, _, _ in pairs])
    return [PairJob(one, other, inside(out, name)) for name, (_, one, other) in zip(names, pairs, strict=True)]


def _do(job: PairJob, settings: PairSettings, stop: StopFlag, on_step: Callable[[Any], None] | None) -> dict[str, Any]:
    """Refine one pair and write its folder.

    Raises:
        NonFiniteError, with status 1: the run ended early; what was good until then is written.
    """
    from ..refine.stereo_api import refine_stereo
    from ..refine.stereo_files import STATE, save_stereo_refinement

    left_HW3, right_HW3 = read_image(job.left), read_image(job.right)
    if settings.rig is not None:
        settings.rig.resized(left_HW3.shape[1], left_HW3.shape[0])  # a wrong calibration is told before the work
    need_writable(job.folder)
    result = refine_stereo(
        left_HW3,
        right_HW3,
        model=settings.model,
        recipe=settings.config,
        max_disp=settings.max_disp,
        keep=job.folder / STATE,
        resume=settings.resume,
        on_step=on_step,
        should_stop=lambda: stop.requested,
    )
    result = replace(result, recipe=settings.recipe)
    facts = save_stereo_refinement(job.folder, result, left_HW3, rig=settings.rig, request=settings.request(job))
    if result.stopped:
        raise PairStoppedEarlyError(
            f"{job.left}: {result.stopped}; the disparity before it was kept in {job.folder}",
            hint="Try fewer --steps, or smaller rates in a recipe of yours",
        )
    return facts


def _run_one(job: PairJob, settings: PairSettings, stop: StopFlag, *, as_json: bool, quiet: bool) -> None:
    from ..refine.stereo_files import OWNED

    if settings.resume and is_complete(job.folder, settings.request(job), OWNED):
        facts = json.loads((job.folder / RESULT).read_text(encoding="utf-8"))
    else:
        with progress("refine", settings.config.steps, quiet=quiet) as bar:
            facts = _do(job, settings, stop, lambda row: bar.step(f"loss {row.get('loss', 0):.4g}"))
    if as_json:
        emit_json(facts)
    say(
        f"{job.folder}: changed by {facts['mean_change']:.2f} px on average, "
        f"{100 * facts['changed_by_1px']:.1f} % of the pixels by more than 1 px, by {facts['model']}, "
        f"{facts['passes']} passes and {facts['steps_done']} steps in {facts['seconds']:.1f} s.",
        quiet=quiet,
        as_json=as_json,
    )


def _run_folder(
    jobs: list[PairJob], settings: PairSettings, stop: StopFlag, *, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    from ..refine.stereo_files import OWNED

    done: list[str] = []
    kept: list[str] = []
    failed: dict[str, DepthlightError] = {}
    with progress("refine", len(jobs), quiet=quiet) as bar:
        for job in jobs:
            name = job.folder.name
            try:
                if not overwrite and is_complete(job.folder, settings.request(job), OWNED):
                    kept.append(name)
                else:
                    _do(job, settings, stop, None)
                    done.append(name)
            except DepthlightError as error:
                bar.warn(f"{name}: {error}")
                failed[name] = error
            bar.step(name)
            stop.check()
    if as_json:
        emit_json({"done": done, "kept": kept, "failed": {name: str(error) for name, error in failed.items()}})
    say(f"{len(done)} done, {len(kept)} already there, {len(failed)} failed.", quiet=quiet, as_json=as_json)
    if failed:
        raise CheckFailedError(f"{len(failed)} of {len(jobs)} pairs failed, first {next(iter(failed))}")
