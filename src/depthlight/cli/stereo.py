"""``depthlight stereo``: a pair, two folders, or a side-by-side image in; prediction folders out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..core.config import to_dict
from ..core.errors import InputError
from ..core.registry import sha256_of
from ..geometry.calibration.plausible import doubt as calibration_doubt
from ..geometry.rgbd import need_replaceable
from ..geometry.rig import StereoRig
from ..infer.doctor.diagnose import glance
from ..infer.folder import FORMATS, is_complete, need_apart, need_writable, save_prediction
from ..infer.load import load
from ..infer.metres import Metres
from ..infer.prediction import StereoMatcher, StereoPrediction
from ..infer.region import Region, predict_region
from ..io.images import read_image
from ..io.names import safe_names, split_side_by_side
from .calibration import CalibFormatOption, UnitOption, check_size, rig_for, states_size
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
    say,
)
from .metric import (
    CloudOption,
    DepthOption,
    ExportOption,
    MaxDepthOption,
    MeshOption,
    MinDepthOption,
    NormalsOption,
    VoxelOption,
    export_results,
    metres_from,
    need_outside,
)
from .region import MaskOption, RoiOption, region_from
from .search import FindRangeOption, MaxMemoryOption, MinDispOption, Search, limit_memory, saturation_told
from .stereo_video import (
    ColoursOption,
    FpsOption,
    FramesOption,
    SteadyOption,
    TopBottomOption,
    VideoOption,
    VideoOptions,
)
from .stereo_video import run as run_video
from .work import chosen, pair_jobs, run_folder


@dataclass(frozen=True)
class Job:
    """One pair to do: where it comes from and where it goes. ``right`` is None for a side-by-side image.

    ``certain``: the user said that it is side by side, so that its shape need not.
    """

    left: Path
    right: Path | None
    folder: Path
    certain: bool = False

    def images(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The two views, RGB uint8.

        Raises:
            InputError: one image was given, and its halves would be narrower than high.
        """
        if self.right is not None:
            return read_image(self.left), read_image(self.right)
        both = read_image(self.left)
        height, width = both.shape[:2]
        if width < 2 * height and not self.certain:
            raise InputError(
                f"{self.left} is {width}×{height}, which does not look like two views side by side",
                expected="a second image",
                hint="Give --side-by-side if it is one all the same",
            )
        return split_side_by_side(both)

    def inputs(self) -> dict[str, str]:
        """Hashes of the input files, so that a resumed run notices changed ones."""
        named = {"left": self.left, "right": self.right} if self.right else {"side_by_side": self.left}
        return {name: sha256_of(path) for name, path in named.items() if path is not None and path.is_file()}


@dataclass(frozen=True)
class Settings:
    """What the user asked for, the same for every pair."""

    search: Search
    left_right: bool
    formats: tuple[str, ...]
    rig: StereoRig | None
    metres: Metres
    one_size: bool = False  # the calibration states no image size: it was read for that of the first pair
    region: Region | None = None
    region_id: Mapping[str, str] = field(default_factory=dict)  # what the request says of it

    def request(self, job: Job, matcher: StereoMatcher) -> dict[str, Any]:
        """Everything the result depends on: a result of another request is done again."""
        return {
            **job.inputs(),
            **asdict(matcher.identity),
            "max_disp": self.search.max_disp,
            **self.search.request(),
            "left_right": self.left_right,
            "formats": list(self.formats),
            "rig": to_dict(self.rig) if self.rig else None,
            "metres": to_dict(self.metres) if self.rig else None,
            **self.region_id,
        }


def stereo(
    left: Annotated[
        Path,
        typer.Argument(help="Left image, folder of left images, or one side-by-side image; video or camera index."),
    ],
    right: Annotated[Path | None, typer.Argument(help="The right one of these; leave out for side-by-side.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("depthlight-out"),
    model: ModelOption = None,
    weights: WeightsOption = None,
    calib: Annotated[
        Path | None,
        typer.Option(help="Calibration of the rectified pair, in any known format: adds metres and a cloud."),
    ] = None,
    calib_format: CalibFormatOption = None,
    unit: UnitOption = None,
    depth: DepthOption = None,
    cloud: CloudOption = None,
    mesh: MeshOption = False,
    min_depth: MinDepthOption = None,
    max_depth: MaxDepthOption = None,
    voxel: VoxelOption = None,
    normals: NormalsOption = False,
    export: ExportOption = None,
    max_disp: MaxDispOption = None,
    min_disp: MinDispOption = 0,
    find_range: FindRangeOption = False,
    max_memory: MaxMemoryOption = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="The one image given is two views, whatever its shape.")
    ] = False,
    left_right: Annotated[
        bool, typer.Option("--left-right", help="Check both views against each other (twice the time).")
    ] = False,
    formats: Annotated[
        str, typer.Option("--format", help="Besides png, any of npy,pfm,tiff (comma-separated).")
    ] = "png",
    roi: RoiOption = None,
    mask: MaskOption = None,
    video: VideoOption = False,
    top_bottom: TopBottomOption = False,
    frames: FramesOption = None,
    fps: FpsOption = None,
    colours: ColoursOption = None,
    steady: SteadyOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do pairs again whose result is there.")] = False,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> int:
    """Disparity (px, left view) of rectified pairs.

    A folder run writes OUT/<name>/ per pair, goes on after a bad pair (status 1 at the end), and when started again
    does only what is missing.
    """
    options = VideoOptions(video, top_bottom, frames, fps, colours, steady)
    unfit = {"--roi": roi, "--mask": mask, "--cloud": cloud, "--mesh": mesh, "--voxel": voxel, "--normals": normals}
    source = options.open(left, right, side_by_side=side_by_side, unfit=unfit | {"--export": export})
    region, region_id = region_from(roi, mask)
    jobs = [Job(left, right, out)] if source else _jobs(left, right, out, side_by_side=side_by_side)
    size = source.size if source else None
    rig = rig_for(calib, jobs[0].left, side_by_side=right is None, size=size, format=calib_format, unit=unit)
    settings = Settings(
        search=Search(max_disp, min_disp, find_range),
        left_right=left_right,
        formats=chosen(formats, FORMATS),
        rig=rig,
        metres=metres_from(
            calib is not None,
            depth=depth,
            cloud=cloud,
            mesh=mesh,
            nearest=min_depth,
            farthest=max_depth,
            voxel=voxel,
            normals=normals,
            export=export,
        ),
        one_size=not states_size(calib, format=calib_format, unit=unit),
        region=region,
        region_id=region_id,
    )
    suspect = "" if rig is None else calibration_doubt(rig)
    inputs = [path for job in jobs for path in (job.left, job.right)]
    need_apart([job.folder for job in jobs], [*inputs, calib, mask, weights, Path(model) if model else None])
    if export:
        need_outside(out / export, inputs)
        need_replaceable(out / export, export)
    matcher = load(model, weights=weights, backend=backend, device=device, precision=precision, threads=threads)
    limit_memory(matcher, max_memory)
    settings.search.check(matcher)
    if source is not None:
        if suspect:
            say(f"{calib}: {suspect}", quiet=quiet, as_json=as_json)
        return run_video(jobs[0], source, options, matcher, settings, overwrite=overwrite, as_json=as_json, quiet=quiet)
    if left.is_dir():
        need_writable(out)
        exported = (export, out) if export else None
        if suspect:
            say(f"{calib}: {suspect}", quiet=quiet, as_json=as_json)
        _run_folder(jobs, matcher, settings, overwrite=overwrite, exported=exported, as_json=as_json, quiet=quiet)
        return 0
    result, doubt = _do(jobs[0], matcher, settings)
    if export:
        _export(export, out, jobs)
    if as_json:
        emit_json(result)
    _tell(jobs[0], result, quiet=quiet, as_json=as_json)
    if suspect:
        say(f"{calib}: {suspect}", quiet=quiet, as_json=as_json)
    if doubt:
        say(f"This looks wrong: {doubt}. Run depthlight doctor on the pair.", quiet=quiet, as_json=as_json)
    return 0


def _jobs(left: Path, right: Path | None, out: Path, *, side_by_side: bool) -> list[Job]:
    if right is not None:
        if side_by_side:
            raise InputError("--side-by-side goes with one image, and two were given", hint="Leave one of them out")
        return [Job(pair.left, pair.right, pair.folder) for pair in pair_jobs(left, right, out)]
    if not left.exists():
        raise InputError(f"{left} does not exist", expected="an image or a folder")
    if left.is_dir():
        raise InputError(
            f"{left} is a folder and no right one was given", hint="Give two folders, or one side-by-side image"
        )
    return [Job(left, None, out, side_by_side)]


def _do(job: Job, matcher: StereoMatcher, settings: Settings) -> tuple[dict[str, Any], str]:
    """Compute and write one pair; returns what ``result.json`` holds, and what speaks against trusting it."""
    left, right = job.images()
    if settings.rig is not None:  # a wrong calibration is told before the work, not after
        check_size(settings.rig, left.shape[1], left.shape[0], one_size=settings.one_size)
    prediction = _predict(matcher, left, right, settings)
    result = save_prediction(
        job.folder,
        prediction,
        left,
        formats=settings.formats,
        rig=settings.rig,
        metres=settings.metres,
        request=settings.request(job, matcher),
    )
    fault = glance(left, right, prediction.max_disp)
    expected = fault is not None and fault.id == "negative-disparity" and prediction.min_disp < 0
    return result, "" if fault is None or expected else fault.says


def _predict(
    matcher: StereoMatcher, left: NDArray[np.uint8], right: NDArray[np.uint8], settings: Settings
) -> StereoPrediction:
    how = {**settings.search.options(matcher, [(left, right)]), "left_right": settings.left_right}
    if settings.region is None:
        return matcher.predict(left, right, **how)
    return predict_region(matcher, left, right, settings.region, **how)


def _run_folder(
    jobs: list[Job],
    matcher: StereoMatcher,
    settings: Settings,
    *,
    overwrite: bool,
    exported: tuple[str, Path] | None,
    as_json: bool,
    quiet: bool,
) -> None:
    doubted: dict[str, str] = {}
    cut_off: dict[str, str] = {}

    def do(job: Job) -> None:
        result, doubt = _do(job, matcher, settings)
        if doubt:
            doubted[job.folder.name] = doubt
        told = saturation_told(result["saturated_share"], result["min_disp"], result["max_disp"])
        if told:
            cut_off[job.folder.name] = told

    outcome = run_folder(
        "stereo",
        jobs,
        do,
        lambda job: not overwrite and is_complete(job.folder, settings.request(job, matcher)),
        quiet=quiet,
    )
    if exported and (outcome.done or outcome.kept):
        _export(*exported, [job for job in jobs if job.folder.name not in outcome.failed])
    outcome.tell(as_json=as_json, quiet=quiet)
    if doubted:
        name, doubt = next(iter(doubted.items()))
        text = f"{len(doubted)} of {len(outcome.done)} look wrong, first {name}: {doubt}. "
        say(f"{text}Run depthlight doctor on that pair.", quiet=quiet, as_json=as_json)
    if cut_off:
        name, told = next(iter(cut_off.items()))
        say(
            f"{len(cut_off)} of {len(outcome.done)} reach the range's ends, first {name}: {told}",
            quiet=quiet,
            as_json=as_json,
        )
    outcome.raise_failures("pairs")


def _export(layout: str, out: Path, jobs: list[Job]) -> None:
    """All results of this run as one RGB-D folder, named after their left images."""
    names = safe_names([job.left.stem for job in jobs])
    export_results(layout, out, ((name, job.folder, job.images()[0]) for name, job in zip(names, jobs, strict=True)))


def _tell(job: Job, result: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    say(
        f"{job.folder}: disparity {result['disparity_min']:.1f} to {result['disparity_max']:.1f} px "
        f"by {result['model']} in {result['seconds']:.2f} s.",
        quiet=quiet,
        as_json=as_json,
    )
    if 0 in (result.get("metres", {}).get(kind) for kind in ("points", "triangles")):
        say(
            "No cloud or mesh: no pixel is certain enough. Run depthlight doctor on the pair.",
            quiet=quiet,
            as_json=as_json,
        )
    cut_off = saturation_told(result["saturated_share"], result["min_disp"], result["max_disp"])
    if cut_off:
        say(cut_off, quiet=quiet, as_json=as_json)
