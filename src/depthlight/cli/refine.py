"""``depthlight refine``: photos in, depth before and after out; pairs are the business of ``refine_stereo.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import CheckFailedError, DepthlightError, InputError, NonFiniteError
from ..core.extras import require
from ..core.registry import sha256_of
from ..core.signals import StopFlag, StopRequestedError
from ..infer.folder import RESULT, is_complete, need_apart, need_writable
from ..io.images import read_image
from ..io.names import image_files, inside, safe_names
from .common import DeviceOption, JsonFlag, MaxDispOption, QuietFlag, ThreadsOption, emit_json, progress, say
from .refine_stereo import refine_pairs

if TYPE_CHECKING:
    from ..infer.mono import MonoModel
    from ..refine.config import RefineConfig
    from ..refine.guidance import Guidance


@dataclass(frozen=True)
class Job:
    """One photo and the folder for its result."""

    photo: Path
    folder: Path


@dataclass(frozen=True)
class Settings:
    """What the user asked for, the same for every photo.

    ``guidance`` is None where each photo gets its own, and where there is none.
    """

    model: MonoModel
    prior: str | None
    guidance: Guidance | None
    recipe: str
    config: RefineConfig
    focal: float | None
    precision: str
    resume: bool

    def request(self, job: Job) -> dict[str, Any]:
        """Everything the result depends on: a result of another request is done again."""
        from ..core.config import to_dict

        identity = self.model.identity
        facts = {
            "photo": sha256_of(job.photo) if job.photo.is_file() else None,
            "model": identity.name,
            "weights_sha256": identity.weights_sha256,
            "device": identity.device,
            "precision": self.precision,
            "prior": self.guidance.describe() if self.guidance else self.prior,
            "config": to_dict(self.config),
            "focal": self.focal,
        }
        return dict(json.loads(json.dumps(facts)))  # as it will be read back


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
        float | None, typer.Option("--focal", help="Focal length, px of the photo: normals of a pinhole camera.")
    ] = None,
    max_disp: MaxDispOption = None,
    calib: Annotated[
        Path | None, typer.Option(help="Calibration of the rectified pair: adds metres and a cloud.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do photos again whose result is there.")] = False,
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
    work: Callable[[StopFlag], None]
    if right is None:
        _refuse("a pair", max_disp=max_disp, calib=calib)
        overrides = {"steps": steps, "restarts": restarts, "seed": seed, "guidance": {"prompt": prompt}}
        work = _photos(
            photo, out, model, prior, recipe, device=device, precision=precision, focal=focal, resume=resume,
            overrides=overrides, overwrite=overwrite, as_json=as_json, quiet=quiet,
        )  # fmt: skip
    else:
        given_precision = None if precision == "fp32" else precision
        _refuse(
            "one photo", prior=prior, restarts=restarts, seed=seed, prompt=prompt, focal=focal,
            precision=given_precision,
        )  # fmt: skip
        work = refine_pairs(
            photo, right, out, model=model, recipe=recipe, steps=steps, max_disp=max_disp, calib=calib, device=device,
            resume=resume, overwrite=overwrite, as_json=as_json, quiet=quiet,
        )  # fmt: skip
    with StopFlag() as stop:
        try:
            work(stop)
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


def _photos(
    photo: Path,
    out: Path,
    model: str | None,
    prior: str | None,
    recipe: str,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> Callable[[StopFlag], None]:
    """Everything about photos that can be wrong is told here; what is returned does the work."""
    jobs = _jobs(photo, out)
    settings = _settings(model, prior, recipe, **options)
    from ..refine.files import OWNED

    others = [Path(text) for text in (model, prior, recipe) if text]
    need_apart([job.folder for job in jobs], [*(job.photo for job in jobs), *others], OWNED)
    need_writable(out)
    if photo.is_dir():
        return lambda stop: _run_folder(jobs, settings, stop, overwrite=overwrite, as_json=as_json, quiet=quiet)
    return lambda stop: _run_one(jobs[0], settings, stop, as_json=as_json, quiet=quiet)


def _jobs(photo: Path, out: Path) -> list[Job]:
    if not photo.exists():
        raise InputError(f"{photo} does not exist", expected="a photo or a folder of photos")
    if not photo.is_dir():
        return [Job(photo, out)]
    files = image_files(photo)
    names = safe_names([path.stem for path in files])
    return [Job(path, inside(out, name)) for path, name in zip(files, names, strict=True)]


def _settings(
    model: str | None,
    prior: str | None,
    recipe: str,
    *,
    device: str,
    precision: str,
    focal: float | None,
    resume: bool,
    overrides: dict[str, Any],
) -> Settings:
    """Everything that can be wrong with the request is told here, before any photo is read."""
    from ..infer.mono import load_mono
    from ..refine.config import load_recipe
    from ..refine.priors import NONE, load_guidance, needs_photo

    config = load_recipe(recipe, overrides)
    if focal is not None and not focal > 0:
        raise InputError(f"--focal is {focal}", expected="a focal length in px, above 0")
    loaded = load_mono(model, device=device)
    guidance = None
    if prior != NONE and config.guidance.weight and not needs_photo(prior, config.guidance):
        guidance = load_guidance(prior, config.guidance, device=loaded.device, precision=precision)
    return Settings(loaded, prior, guidance, recipe, config, focal, precision, resume)


def _do(job: Job, settings: Settings, stop: StopFlag, on_step: Callable[[Any], None] | None) -> dict[str, Any]:
    """Refine one photo and write its folder.

    Raises:
        NonFiniteError, with status 1: the run ended early; what was good until then is written.
    """
    from ..refine.api import refine as refine_photo
    from ..refine.files import STATE, save_refinement

    photo_HW3 = read_image(job.photo)
    need_writable(job.folder)
    result = refine_photo(
        photo_HW3,
        model=settings.model,
        prior=settings.guidance if settings.guidance is not None else settings.prior,
        recipe=settings.config,
        focal=settings.focal,
        precision=settings.precision,
        keep=job.folder / STATE,
        resume=settings.resume,
        on_step=on_step,
        should_stop=lambda: stop.requested,
    )
    result = replace(result, recipe=settings.recipe)
    facts = save_refinement(job.folder, result, photo_HW3, request=settings.request(job))
    if result.stopped:
        raise StoppedEarlyError(
            f"{job.photo}: {result.stopped}; the depth before it was kept in {job.folder}",
            hint="Try fewer --steps, another --seed, or smaller rates in a recipe of yours",
        )
    return facts


class StoppedEarlyError(NonFiniteError):
    """A refinement ended before its time and its last good depth was written."""

    code = "stopped_early"
    exit_status = 1


def _run_one(job: Job, settings: Settings, stop: StopFlag, *, as_json: bool, quiet: bool) -> None:
    from ..refine.files import OWNED

    config = settings.config
    if settings.resume and is_complete(job.folder, settings.request(job), OWNED):
        facts = json.loads((job.folder / RESULT).read_text(encoding="utf-8"))
    else:
        with progress("refine", config.steps * config.restarts, quiet=quiet) as bar:
            facts = _do(job, settings, stop, lambda row: bar.step(_losses(row)))
    if as_json:
        emit_json(facts)
    say(
        f"{job.folder}: changed by {100 * facts['mean_change']:.2f} % of the range on average, by {facts['model']} "
        f"with {'no prior' if facts['prior'] is None else facts['prior'].get('name', settings.prior)}, "
        f"{facts['steps_done']} steps in {facts['seconds']:.1f} s.",
        quiet=quiet,
        as_json=as_json,
    )


def _losses(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("restart", "step"))


def _run_folder(
    jobs: list[Job], settings: Settings, stop: StopFlag, *, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    from ..refine.files import OWNED

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
        raise CheckFailedError(f"{len(failed)} of {len(jobs)} photos failed, first {next(iter(failed))}")
