"""``depthlight stereo`` of a video: two files, cameras or numbered pictures, or one whose frames hold both views."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import typer

from ..core.errors import InputError
from ..core.registry import sha256_of
from ..core.signals import StopFlag
from ..infer.doctor.diagnose import glance
from ..infer.owned import RESULT
from ..infer.prediction import StereoMatcher
from ..infer.video import StereoVideo
from ..infer.video_folder import GLIMPSES, MAPS, PREVIEW, RUN, Recording, record
from ..io.names import image_files
from ..io.video import VIDEO_SUFFIXES
from .common import emit_json, progress, say
from .search import saturation_told

if TYPE_CHECKING:
    from .stereo import Job, Settings

TopBottomOption = Annotated[bool, typer.Option("--top-bottom", help="A video's frames hold the left view on top.")]
VideoOption = Annotated[bool, typer.Option("--video", help="The folders given are the frames of one video.")]
FramesOption = Annotated[int | None, typer.Option("--frames", min=1, help="Stop after so many frames of a video.")]
FpsOption = Annotated[
    float | None, typer.Option("--fps", min=0.1, max=1000, help="Frames per second, where the video states none.")
]
ColoursOption = Annotated[
    str | None, typer.Option("--colours", help="LOW,HIGH px: disparities of the first and last colour of a video.")
]
SteadyOption = Annotated[bool, typer.Option("--steady", help="Steady what does not move in a video.")]


# libav's and OpenCV's own words about a damaged file or an absent camera: ours are one line
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class VideoOptions:
    """What was said about a video."""

    video: bool
    top_bottom: bool
    frames: int | None
    fps: float | None
    colours: str | None
    steady: bool

    def open(
        self, left: Path, right: Path | None, *, side_by_side: bool, unfit: Mapping[str, object]
    ) -> StereoVideo | None:
        """The video with its first frame, or None if the inputs are none. ``unfit``: options that go with images.

        Raises:
            InputError: something was said that goes with the other kind of inputs; or as
                :class:`~depthlight.infer.video.StereoVideo`.
        """
        paths = [left] if right is None else [left, right]
        moving = any(path.suffix.lower() in VIDEO_SUFFIXES or camera_of(path) is not None for path in paths)
        if not moving and not (self.video and left.is_dir()):
            said = [name for name, value in asdict(self).items() if value not in (None, False)]
            if said:
                raise InputError(
                    f"--{said[0].replace('_', '-')} goes with a video, and {left} is none",
                    expected="a video file, a camera's index, or folders with --video",
                )
            return None
        for name, value in unfit.items():
            if value not in (None, False) and (name, value) != ("--cloud", "none"):
                raise InputError(f"{name} goes with images, and a video was given", hint="Leave it out")
        layouts = [name for name, given in (("side-by-side", side_by_side), ("top-bottom", self.top_bottom)) if given]
        if len(layouts) + len(paths) > 2:
            raise InputError("--side-by-side and --top-bottom go with one video, one of them", hint="Leave one out")
        sources = [path if (camera := camera_of(path)) is None else camera for path in paths]
        return StereoVideo(*sources, layout=layouts[0] if layouts else None, most=self.frames)

    def span(self) -> tuple[float, float] | None:
        """The range of colours asked for."""
        if self.colours is None:
            return None
        try:
            low, high = (float(part) for part in self.colours.split(","))
        except ValueError:
            low, high = 0.0, 0.0
        if not -65536 < low < high < 65536:
            raise InputError(f"--colours {self.colours!r}", expected="LOW,HIGH in px, such as 0,80")
        return low, high


def camera_of(path: Path) -> int | None:
    """The index that stands where a file could, unless there is such a file."""
    return int(str(path)) if str(path).isascii() and str(path).isdigit() and not path.exists() else None


def run(
    job: Job,
    video: StereoVideo,
    options: VideoOptions,
    matcher: StereoMatcher,
    settings: Settings,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Match the video into OUT, until it ends or Ctrl-C; returns the exit status."""
    written = [(job.folder / name).resolve() for name in (*MAPS, PREVIEW, RUN, RESULT)]
    paths = [path for path in (job.left, job.right) if path is not None]
    for path in paths:
        if any(path.resolve().is_relative_to(place) for place in written):
            raise InputError(f"{path} is an input and would be replaced", hint="Choose another folder with --out")
    inputs = {"inputs": [_digest(path) for path in paths], "layout": video.layout, "steady": options.steady}
    looks = chain([video.first], () if video.live else video.glimpses(GLIMPSES))
    recording = Recording(
        folder=job.folder,
        request=settings.request(job, matcher) | inputs,
        how={**settings.search.options(matcher, looks), "left_right": settings.left_right},
        formats=settings.formats or ("png",),
        rig=settings.rig,
        metres=settings.metres,
        temporal=options.steady,
        fps=options.fps,
        colours=options.span(),
    )
    with StopFlag() as stop, progress("stereo", video.stated, quiet=quiet) as bar:
        result = record(
            matcher, video, recording, overwrite=overwrite, stopped=lambda: bool(stop.requested), step=bar.step
        )
    if as_json:
        emit_json(result)
    for line in _lines(job, result):
        say(line, quiet=quiet, as_json=as_json)
    if not result["complete"]:
        return 128 + stop.requested
    fault = glance(*video.first, recording.how["max_disp"] or matcher.max_disp)
    if fault is not None and not (fault.id == "negative-disparity" and recording.how.get("min_disp", 0) < 0):
        say(f"This looks wrong: {fault.says}. Run depthlight doctor on a frame.", quiet=quiet, as_json=as_json)
    return 0


def _digest(path: Path) -> str:
    if camera_of(path) is not None:
        return f"camera {path}"
    if not path.is_dir():
        return sha256_of(path)
    return hashlib.sha256("".join(p.name + sha256_of(p) for p in image_files(path)).encode()).hexdigest()


def _lines(job: Job, result: Mapping[str, Any]) -> list[str]:
    """What to tell about a run."""
    frames, stated, (low, high) = result["frames"], result["frames_stated"], result["colours"]
    speed = f", {result['frames_per_second']:.1f} frames/s" if result["frames_per_second"] else ""
    how = ", already there" if result.get("kept") else speed
    lines = [f"{job.folder}: {frames} frames by {result['model']}{how}; colours are {low:.1f} to {high:.1f} px."]
    told = saturation_told(result["saturated_share_largest"], result["min_disp"], result["max_disp"])
    if told:
        lines.append(f"In the worst frame {told}")
    if not result["complete"]:
        lines.append("Stopped; the same command goes on from here.")
    elif stated is not None and frames != stated:
        lines.append(f"{job.left} states {stated} frames, and {frames} could be read.")
    return lines
