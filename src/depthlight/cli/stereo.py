"""``depthlight stereo``: a pair, two folders, or a side-by-side image in; prediction folders out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..core.errors import CheckFailedError, DepthlightError, InputError
from ..core.registry import sha256_of
from ..geometry.rig import StereoRig
from ..infer.folder import FORMATS, is_complete, save_prediction
from ..infer.load import load
from ..infer.prediction import StereoMatcher
from ..infer.stereo import StereoModel
from ..io.images import read_image
from ..io.names import inside, pair_folders, safe_names, split_side_by_side
from .common import (
    BackendOption,
    DeviceOption,
    JsonFlag,
    MaxDispOption,
    ModelOption,
    PrecisionOption,
    QuietFlag,
    ThreadsOption,
    WeightsOption,
    emit_json,
    progress,
    say,
)

SATURATION_TO_MENTION = 0.01


@dataclass(frozen=True)
class Job:
    """One pair to do: where it comes from and where it goes. ``right`` is None for a side-by-side image."""

    left: Path
    right: Path | None
    folder: Path

    def images(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The two views, RGB uint8."""
        if self.right is None:
            return split_side_by_side(read_image(self.left))
        return read_image(self.left), read_image(self.right)

    def inputs(self) -> dict[str, str]:
        """Hashes of the input files, so that a resumed run notices changed ones."""
        named = {"left": self.left, "right": self.right} if self.right else {"side_by_side": self.left}
        return {name: sha256_of(path) for name, path in named.items() if path is not None and path.is_file()}


@dataclass(frozen=True)
class Settings:
    """What the user asked for, the same for every pair."""

    max_disp: int | None
    left_right: bool
    formats: tuple[str, ...]
    rig: StereoRig | None
    calib: str | None

    def request(self, job: Job, matcher: StereoMatcher) -> dict[str, Any]:
        identity = getattr(matcher, "identity", None)
        return {
            **job.inputs(),
            "model": matcher.name,
            "weights": getattr(identity, "weights_sha256", None),
            "precision": getattr(identity, "precision", None),
            "max_disp": self.max_disp,
            "left_right": self.left_right,
            "formats": list(self.formats),
            "calib": self.calib,
        }


def stereo(
    left: Annotated[Path, typer.Argument(help="Left image, folder of left images, or one side-by-side image.")],
    right: Annotated[Path | None, typer.Argument(help="Right image or folder; leave out for side-by-side.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("depthlight-out"),
    model: ModelOption = None,
    weights: WeightsOption = None,
    calib: Annotated[
        Path | None,
        typer.Option(help="Calibration (Middlebury calib.txt or our JSON): adds depth in metres and a cloud."),
    ] = None,
    max_disp: MaxDispOption = None,
    left_right: Annotated[
        bool, typer.Option("--left-right", help="Check both views against each other (twice the time).")
    ] = False,
    formats: Annotated[
        str, typer.Option("--format", help="Besides png, any of npy,pfm,tiff (comma-separated).")
    ] = "png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do pairs again whose result is there.")] = False,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Disparity (px, left view) of rectified pairs.

    A folder run writes OUT/<name>/ per pair, goes on after a bad pair (status 1 at the end), and when started again
    does only what is missing.
    """
    settings = Settings(
        max_disp=max_disp,
        left_right=left_right,
        formats=_formats(formats),
        rig=StereoRig.from_file(calib) if calib else None,
        calib=sha256_of(calib) if calib else None,
    )
    jobs = list(_jobs(left, right, out))
    matcher = load(model, weights=weights, backend=backend, device=device, precision=precision, threads=threads)
    if left_right and not isinstance(matcher, StereoModel):
        raise InputError(f"--left-right needs a network, not {matcher.name}")
    if left.is_dir():
        _run_folder(jobs, matcher, settings, overwrite=overwrite, as_json=as_json, quiet=quiet)
        return
    result = _do(jobs[0], matcher, settings)
    if as_json:
        emit_json(result)
    _tell(jobs[0], result, quiet=quiet, as_json=as_json)


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in FORMATS:
            raise InputError(f"--format {name!r} is not known", expected="any of " + ", ".join(FORMATS))
    return names


def _jobs(left: Path, right: Path | None, out: Path) -> Iterator[Job]:
    for path in (left, right):
        if path is not None and not path.exists():
            raise InputError(f"{path} does not exist", expected="an image or a folder")
    if right is None:
        if left.is_dir():
            raise InputError(
                f"{left} is a folder and no right one was given", hint="Give two folders, or one side-by-side image"
            )
        yield Job(left, None, out)
    elif left.is_dir() != right.is_dir():
        raise InputError(f"{left} and {right} are a folder and a file", expected="two images or two folders")
    elif left.is_dir():
        pairs = pair_folders(left, right)
        for name, (_, one, other) in zip(safe_names([stem for stem, _, _ in pairs]), pairs, strict=True):
            yield Job(one, other, inside(out, name))
    else:
        yield Job(left, right, out)


def _do(job: Job, matcher: StereoMatcher, settings: Settings) -> dict[str, Any]:
    left, right = job.images()
    if isinstance(matcher, StereoModel):
        prediction = matcher.predict(left, right, max_disp=settings.max_disp, left_right=settings.left_right)
    else:
        prediction = matcher.predict(left, right, max_disp=settings.max_disp)
    return save_prediction(
        job.folder,
        prediction,
        left,
        formats=settings.formats,
        rig=settings.rig,
        request=settings.request(job, matcher),
    )


def _run_folder(
    jobs: list[Job], matcher: StereoMatcher, settings: Settings, *, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    done: list[str] = []
    kept: list[str] = []
    failed: dict[str, str] = {}
    with progress("stereo", len(jobs), quiet=quiet) as bar:
        for job in jobs:
            name = job.folder.name
            try:
                if not overwrite and is_complete(job.folder, settings.request(job, matcher)):
                    kept.append(name)
                else:
                    _do(job, matcher, settings)
                    done.append(name)
            except DepthlightError as error:
                failed[name] = str(error)
                bar.warn(f"{name}: {error}")
            bar.step(name)
    if as_json:
        emit_json({"done": done, "kept": kept, "failed": failed})
    say(f"{len(done)} done, {len(kept)} already there, {len(failed)} failed.", quiet=quiet, as_json=as_json)
    if failed:
        raise CheckFailedError(f"{len(failed)} of {len(jobs)} pairs failed, first {next(iter(failed))}")


def _tell(job: Job, result: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    say(
        f"{job.folder}: disparity {result['disparity_min']:.1f} to {result['disparity_max']:.1f} px "
        f"by {result['model']} in {result['seconds']:.2f} s.",
        quiet=quiet,
        as_json=as_json,
    )
    if result["saturated_share"] > SATURATION_TO_MENTION:
        say(
            f"{100 * result['saturated_share']:.1f} % of the pixels are at the range limit ({result['max_disp']} px): "
            "nearer things are cut off. Try a larger --max-disp with --backend torch, or smaller images.",
            quiet=quiet,
            as_json=as_json,
        )
