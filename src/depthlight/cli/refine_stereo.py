"""``depthlight refine LEFT RIGHT``: pairs in; disparity before and after out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.registry import sha256_of
from ..core.signals import StopFlag
from ..infer.folder import need_writable
from ..io.images import read_image
from .calibration import check_size, rig_for, states_size
from .refine_task import OnStep, RefineTask, StoppedEarlyError
from .work import PairJob

if TYPE_CHECKING:
    from ..geometry.rig import StereoRig
    from ..infer.stereo import StereoModel
    from ..refine.guidance import Guidance
    from ..refine.stereo_config import StereoRefineConfig


@dataclass(frozen=True)
class PairTask(RefineTask[PairJob]):
    """Refining pairs."""

    noun = "pairs"
    steps: int
    resume: bool
    overwrite: bool
    model: StereoModel
    guidance: Guidance | None
    recipe: str
    config: StereoRefineConfig
    max_disp: int | None
    rig: StereoRig | None
    one_size: bool  # the calibration states no image size: it was read for that of the first pair

    def facts(self, job: PairJob) -> dict[str, Any]:
        from ..core.config import to_dict

        identity = self.model.identity
        return {
            "left": sha256_of(job.left),
            "right": sha256_of(job.right),
            "model": identity.name,
            "weights_sha256": identity.weights_sha256,
            "device": identity.device,
            "max_disp": self.max_disp,
            "rig": to_dict(self.rig) if self.rig else None,
            "config": to_dict(self.config),
            **({} if self.guidance is None else {"prior": self.guidance.describe()}),
        }

    def do(self, job: PairJob, stop: StopFlag, on_step: OnStep) -> dict[str, Any]:
        from ..refine.stereo_api import refine_stereo
        from ..refine.stereo_files import STATE, save_stereo_refinement

        left_HW3, right_HW3 = read_image(job.left), read_image(job.right)
        if self.rig is not None:
            height, width = left_HW3.shape[:2]
            check_size(self.rig, width, height, one_size=self.one_size)  # a wrong calibration is told before the work
        need_writable(job.folder)
        result = refine_stereo(
            left_HW3,
            right_HW3,
            model=self.model,
            prior=self.guidance,
            recipe=self.config,
            max_disp=self.max_disp,
            keep=job.folder / STATE,
            resume=self.resume,
            overwrite=self.overwrite,
            on_step=on_step,
            should_stop=lambda: stop.requested,
        )
        result = replace(result, recipe=self.recipe)
        facts = save_stereo_refinement(job.folder, result, left_HW3, rig=self.rig, request=self.request(job))
        if result.stopped:
            raise StoppedEarlyError(
                f"{job.left}: {result.stopped}; the disparity before it was kept in {job.folder}",
                hint="Try fewer --steps, or smaller rates in a recipe of yours",
            )
        return facts

    def done(self, row: dict[str, float]) -> int:
        return int(row["step"])

    def note(self, row: dict[str, float]) -> str:
        return f"loss {row.get('loss', 0):.4g}"

    def sentence(self, facts: dict[str, Any]) -> str:
        return (
            f"changed by {facts['mean_change']:.2f} px on average, {100 * facts['changed_by_1px']:.1f} % of the pixels "
            f"by more than 1 px, by {facts['model']}, {facts['passes']} passes and {facts['steps_done']} steps "
            f"in {facts['seconds']:.1f} s."
        )


def pair_task(
    first: Path,
    model: str | None,
    recipe: str,
    *,
    prior: str | None,
    steps: int | None,
    max_disp: int | None,
    calib: Path | None,
    device: str,
    resume: bool,
    overwrite: bool,
) -> PairTask:
    """What can be wrong with the request is told here; ``first`` is the left view the calibration is read for."""
    from ..refine.stereo_api import adaptable, relighting_prior, stereo_configured

    config = stereo_configured(recipe, steps=steps, prior=prior)
    rig = rig_for(calib, first, side_by_side=False)
    matcher, backend = adaptable(model, device)
    matcher.check_range(max_disp)
    guidance = relighting_prior(prior, config, backend.device)
    return PairTask(
        steps=config.steps,
        resume=resume,
        overwrite=overwrite,
        model=matcher,
        guidance=guidance,
        recipe=recipe,
        config=config,
        max_disp=max_disp,
        rig=rig,
        one_size=not states_size(calib),
    )
