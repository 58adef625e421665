"""``depthlight refine``: photos in, depth before and after out; pairs are the business of ``refine_stereo.py``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..core.errors import InputError, UnknownNameError
from ..core.extras import require
from ..core.registry import sha256_of
from ..core.signals import StopFlag, StopRequestedError
from ..infer.folder import need_apart, need_writable
from ..infer.mono_prediction import need_focal
from ..io.depth_files import read_depth
from ..io.images import read_image
from .common import DEPTH_UNITS, DeviceOption, JsonFlag, MaxDispOption, QuietFlag, ThreadsOption, say
from .refine_stereo import pair_task
from .refine_task import OnStep, RefineTask, StoppedEarlyError
from .work import PhotoJob, pair_jobs, photo_jobs

if TYPE_CHECKING:
    from ..infer.mono import MonoModel
    from ..refine.config import RefineConfig
    from ..refine.guidance import Guidance

PRECISIONS = ("fp32", "bf16", "fp16")  # of a diffusion prior


@dataclass(frozen=True)
class PhotoTask(RefineTask[PhotoJob]):
    """Refining photos.

    ``guidance`` is None where each photo gets its own, and where there is none.
    """

    noun = "photos"
    steps: int
    resume: bool
    overwrite: bool
    model: MonoModel
    prior: str | None
    guidance: Guidance | None
    recipe: str
    config: RefineConfig
    focal: float | None
    anchor: Path | None
    precision: str

    def facts(self, job: PhotoJob) -> dict[str, Any]:
        from ..core.config import to_dict

        identity = self.model.identity
        return {
            "photo": sha256_of(job.photo) if job.photo.is_file() else None,
            "model": identity.name,
            "weights_sha256": identity.weights_sha256,
            "device": identity.device,
            "precision": self.precision,
            "prior": self.guidance.describe() if self.guidance else self.prior,
            "config": to_dict(self.config),
            "focal": self.focal,
            **({} if self.anchor is None else {"anchor": sha256_of(self.anchor)}),
        }

    def do(self, job: PhotoJob, stop: StopFlag, on_step: OnStep) -> dict[str, Any]:
        from ..refine.api import refine as refine_photo
        from ..refine.files import STATE, save_refinement

        photo_HW3 = read_image(job.photo)
        need_writable(job.folder)
        result = refine_photo(
            photo_HW3,
            model=self.model,
            prior=self.guidance if self.guidance is not None else self.prior,
            recipe=self.config,
            focal=self.focal,
            measured=None if self.anchor is None else _measured(self.anchor),
            precision=self.precision if self.guidance is None else "fp32",  # a loaded one has its own
            keep=job.folder / STATE,
            resume=self.resume,
            overwrite=self.overwrite,
            on_step=on_step,
            should_stop=lambda: stop.requested,
        )
        result = replace(result, recipe=self.recipe)
        facts = save_refinement(job.folder, result, photo_HW3, request=self.request(job))
        if result.stopped:
            raise StoppedEarlyError(
                f"{job.photo}: {result.stopped}; the depth before it was kept in {job.folder}",
                hint="Try fewer --steps, another --seed, or smaller rates in a recipe of yours",
            )
        return facts

    def done(self, row: dict[str, float]) -> int:
        return (int(row["restart"]) - 1) * self.config.steps + int(row["step"])

    def note(self, row: dict[str, float]) -> str:
        left_out = ("restart", "step", "guidance_raw")
        return "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in left_out)

    def sentence(self, facts: dict[str, Any]) -> str:
        prior = "no prior" if facts["prior"] is None else facts["prior"].get("name", self.prior)
        return (
            f"changed by {100 * facts['mean_change']:.2f} % of the range on average, by {facts['model']} "
            f"with {prior}, {facts['steps_done']} steps in {facts['seconds']:.1f} s."
        )


def refine(
    photo: Annotated[Path, typer.Argument(help="A photo, a left view, or a folder of them.")],
    right: Annotated[Path | None, typer.Argument(help="Of a rectified pair: the right view, or their folder.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("depthlight-out"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Depth network (see `depthlight models`), file or hub id.")
    ] = None,
    prior: Annotated[
        str | None, typer.Option("--prior", help="relight.synth-v1, sd-1.5, a hub id, a folder or file, or none.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="fast, paper, or a .toml file.")] = "fast",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps of each restart.")] = None,
    restarts: Annotated[int | None, typer.Option("--restarts", min=1, help="Runs whose mean is the result.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of lights and noise.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="What the photo shows, for priors that read.")] = None,
    focal: Annotated[
        float | None,
        typer.Option("--focal", help="Focal length, px of the photo: normals of a pinhole camera (no small prior's)."),
    ] = None,
    anchor: Annotated[
        Path | None,
        typer.Option("--anchor", help=f"Measured depth of the photo ({DEPTH_UNITS}): kept to, and gives metres."),
    ] = None,
    max_disp: MaxDispOption = None,
    calib: Annotated[
        Path | None, typer.Option(help="Calibration of the rectified pair: adds metres and a cloud.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in OUT.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do again what is there, and begin anew what was interrupted.")
    ] = False,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option("--precision", help="Of a diffusion prior: fp32, bf16 or fp16.")] = "fp32",
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> int:
    """Refine depth at test time: of a photo by how it looks under new lights, of a pair by how the views match.

    A folder run writes OUT/<name>/ per photo, goes on after a bad one (status 1 at the end), and when started again
    does only what is missing. What is not finite ends a run with the last good depth written (status 1).
    """
    torch = require("torch", extra="torch", purpose="refinement runs on it")
    if threads is not None:
        torch.set_num_threads(threads)
    task: RefineTask[Any]
    if right is None:
        _refuse("a pair", max_disp=max_disp, calib=calib)
        jobs: list[Any] = photo_jobs(photo, out)
        if anchor is not None and photo.is_dir():
            raise InputError("--anchor goes with one photo, and a folder was given", hint="Run it photo by photo")
        task = _photo_task(
            model, prior, recipe, device=device, precision=precision, focal=focal, anchor=anchor, prompt=prompt,
            resume=resume, overwrite=overwrite, overrides={"steps": steps, "restarts": restarts, "seed": seed},
        )  # fmt: skip
        inputs = [job.photo for job in jobs] + [Path(text) for text in (model, prior, recipe, anchor) if text]
    else:
        given_precision = None if precision == "fp32" else precision
        _refuse(
            "one photo", restarts=restarts, seed=seed, prompt=prompt, focal=focal, anchor=anchor,
            precision=given_precision,
        )  # fmt: skip
        jobs = pair_jobs(photo, right, out)
        task = pair_task(
            jobs[0].left, model, recipe, prior=prior, steps=steps, max_disp=max_disp, calib=calib, device=device,
            resume=resume, overwrite=overwrite,
        )  # fmt: skip
        inputs = [path for job in jobs for path in (job.left, job.right)]
        inputs += [calib, *(Path(text) for text in (model, prior, recipe) if text)]
    need_apart([job.folder for job in jobs], inputs)
    need_writable(out)
    with StopFlag() as stop:
        try:
            if photo.is_dir():
                task.run_folder(jobs, stop, as_json=as_json, quiet=quiet)
            else:
                task.run_one(jobs[0], stop, as_json=as_json, quiet=quiet)
        except StopRequestedError:
            say("stopped; the same command with --resume goes on.", quiet=quiet, as_json=True)
            return 128 + stop.requested
    return 0


def _refuse(wanted: str, **given: Any) -> None:
    """Options that are for the other kind of input."""
    for name, value in given.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} is for {wanted}", hint=f"Leave it out, or give {wanted}")


def _measured(path: Path) -> NDArray[np.float32]:
    """Metres, 0 where unknown."""
    found = read_depth(path)
    return np.where(found.valid_HW, found.depth_HW, np.float32(0))


def _check_prior(prior: str | None, config: RefineConfig, *, prompt: str | None, precision: str) -> None:
    """What is said of a prior, or to it, where there is none, and a precision that nothing has."""
    from ..refine.priors import NONE

    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if prior != NONE and config.guidance.weight:
        return
    why = "--prior is none" if prior == NONE else "the recipe's guidance.weight is 0"
    given = {"--prior": prior not in (None, NONE), "--prompt": prompt is not None, "--precision": precision != "fp32"}
    for flag in (flag for flag, is_given in given.items() if is_given):
        raise InputError(f"{flag} is for a run with a prior, and {why}", hint=f"Leave {flag} out, or let one guide")


def _photo_task(
    model: str | None,
    prior: str | None,
    recipe: str,
    *,
    device: str,
    precision: str,
    focal: float | None,
    anchor: Path | None,
    prompt: str | None,
    resume: bool,
    overwrite: bool,
    overrides: dict[str, Any],
) -> PhotoTask:
    """Everything that can be wrong with the request is told here, before any photo is read."""
    from ..infer.mono import load_mono
    from ..refine.config import load_recipe
    from ..refine.priors import shared_guidance
    from ..refine.variables import need_refinable

    config = load_recipe(recipe, {**overrides, "guidance": {"prompt": prompt}})
    _check_prior(prior, config, prompt=prompt, precision=precision)
    if anchor is not None:
        _measured(anchor)
    shown = config if focal is None else replace(config, camera="pinhole", focal=need_focal(focal))
    loaded = load_mono(model, device=device)
    need_refinable(loaded.net)
    return PhotoTask(
        steps=config.steps * config.restarts,
        resume=resume,
        overwrite=overwrite,
        model=loaded,
        prior=prior,
        guidance=shared_guidance(prior, shown, device=loaded.device, precision=precision),
        recipe=recipe,
        config=config,
        focal=focal,
        anchor=anchor,
        precision=precision,
    )
