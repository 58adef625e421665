"""A stereo video as a folder of files: disparity (and depth) of each frame, a preview video, and ``result.json``.

Layout: ``disparity/000000.png`` … (16 bits at KITTI's scale of 256, with a sidecar only where the range needs another),
other formats on request, with a calibration ``depth/000000.npy`` …, ``preview.mp4`` (the left view beside its
disparity, in one range of colours), ``run.json`` (what was asked for) and ``result.json``, written last, which says
that all is whole. A run that was cut short goes on after the last frame whose disparity is there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import CheckFailedError, DepthlightError, InputError
from ..geometry.rig import StereoRig
from ..io.atomic import atomic_write_bytes
from ..io.colour import colour_map, robust_range
from ..io.disparity_files import KITTI_SCALE, read_disparity, write_disparity
from ..io.native import write_native
from ..io.text import read_text
from ..io.video import video_writer
from .folder import clear, need_writable
from .metres import Metres
from .owned import RESULT
from .prediction import StereoMatcher, StereoPrediction
from .temporal import Map
from .video import StereoVideo, ahead, match_frames

RUN, PREVIEW = "run.json", "preview.mp4"
MAPS = ("disparity", "depth")  # folders of one file per frame
_NUMBERED = re.compile(r"[0-9]{6,}\.(png|json|npy|pfm|tiff)")
LIVE_FPS = 25.0  # of the preview of a camera that states no rate
GLIMPSES = 5  # frames that say which colours to use, and which range to search


@dataclass(frozen=True)
class Recording:
    """What is asked for, the same for every frame.

    Attributes:
        folder: where it goes.
        request: all that the maps depend on; a run of another request begins anew.
        how: range and left-right check, for ``predict``.
        formats: of the disparity, of :data:`depthlight.infer.folder.FORMATS`.
        rig, metres: add ``depth``, in ``metres.depth`` formats between ``metres.nearest`` and ``metres.farthest``.
        temporal: steady what does not move.
        fps: of the preview; None takes the source's.
        colours: disparities (px) of the first and the last colour; None: as a look at a few frames suggests.
    """

    folder: Path
    request: Mapping[str, Any]
    how: Mapping[str, Any] = field(default_factory=dict)
    formats: Sequence[str] = ("png",)
    rig: StereoRig | None = None
    metres: Metres = field(default_factory=Metres)
    temporal: bool = False
    fps: float | None = None
    colours: tuple[float, float] | None = None

    def path(self, kind: str, index: int, suffix: str) -> Path:
        """The file of a frame."""
        return self.folder / kind / f"{index:06d}.{suffix}"

    def read(self, index: int) -> Map | None:
        """The disparity of a frame that an earlier run has written, None if it is not there or damaged."""
        path = self.path("disparity", index, self.formats[-1])
        try:
            return read_disparity(path).disparity_HW if path.is_file() else None
        except DepthlightError:
            return None

    def write(self, index: int, prediction: StereoPrediction) -> None:
        """The maps of a frame; the one that says that all are there comes last."""
        if self.rig is not None:
            depth = prediction.to_depth(self.rig).between(self.metres.nearest, self.metres.farthest)
            for suffix in self.metres.depth:
                depth.save(self.path("depth", index, suffix))
        plain = prediction.min_disp >= 0 and float(prediction.disparity.max()) * KITTI_SCALE <= 65535
        for suffix in self.formats:
            path = self.path("disparity", index, suffix)
            if suffix == "png" and plain:  # as write_disparity, ten times as fast
                path.with_suffix(".json").unlink(missing_ok=True)
                write_native(path, np.maximum(np.rint(prediction.disparity * KITTI_SCALE), 1).astype(np.uint16))
            else:
                write_disparity(path, prediction.disparity, sidecar=not plain, signed=prediction.min_disp < 0)


class _Tally:
    """Counts frames, and how fast they come after the first one computed; what was searched in those, and whether it
    was enough.
    """

    def __init__(self) -> None:
        self.frames = self.computed = self.shown = 0
        self.searched: tuple[float, float] | None = None
        self.saturated: list[float] = []
        self._started = time.perf_counter()

    def count(self, prediction: StereoPrediction | None) -> None:
        self.frames += 1
        if prediction is None:
            return
        self.computed += 1
        self.searched = (prediction.min_disp, prediction.max_disp)
        self.saturated.append(prediction.saturated)
        if self.computed == 1:
            self._started = time.perf_counter()

    @property
    def rate(self) -> float:
        """Frames per second, 0 while nothing can be said."""
        return 0.0 if self.computed < 2 else (self.computed - 1) / max(time.perf_counter() - self._started, 1e-9)

    def due(self, fps: float) -> int:
        """How often to show a camera's frame: they come as they can, and the preview keeps time."""
        wanted = max(0, 1 + int((time.perf_counter() - self._started) * fps) - self.shown)
        self.shown += wanted
        return wanted


def record(
    matcher: StereoMatcher,
    video: StereoVideo,
    recording: Recording,
    *,
    overwrite: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    step: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Match a video and write its folder, both at the same time as it is read; returns what ``result.json`` holds.

    Args:
        overwrite: begin anew; a camera's recording is never replaced without it.
        stopped: asked after every frame; True ends the run. That of a camera is whole then; any other returns
            ``complete: False``, leaves no ``result.json``, and goes on when started again.
        step: told after every frame, with the frames per second.

    Raises:
        InputError: no frame rate is known, a camera's recording is there, or the first frame cannot be matched.
        CheckFailedError: the video ended early, or a later frame cannot be matched; what was written before is kept.
        OutputError: a file cannot be written.
    """
    fps = recording.fps or video.fps or (LIVE_FPS if video.live else None)
    if fps is None:
        raise InputError(f"{video.label} states no frame rate", hint="Give one with --fps")
    need_writable(recording.folder)
    asked = {"frames": video.most, "fps": fps, "colours": recording.colours and list(recording.colours)}
    earlier = None if overwrite or video.live else _whole(recording, asked)
    if earlier is not None:
        return earlier | {"kept": True}
    colours = _begin(matcher, video, recording, overwrite=overwrite)
    tally = _Tally()
    trouble = _run(matcher, video, recording, (fps, colours), tally, stopped, step)
    complete = video.live or not stopped()
    if trouble is not None and not (video.live and stopped()):
        kept = f"The {tally.frames} frames before that are in {recording.folder}"
        raise CheckFailedError(trouble.what, expected=trouble.expected, hint=f"{trouble.hint} {kept}".strip())
    result = {
        **_facts(matcher, video, tally),
        "fps": fps,
        "colours": list(colours),
        "complete": complete,
        "asked": asked,
        "request": dict(recording.request),
    }
    if complete:
        atomic_write_bytes(recording.folder / RESULT, json.dumps(result, indent=2).encode())
    return result


def _run(
    matcher: StereoMatcher,
    video: StereoVideo,
    recording: Recording,
    look: tuple[float, tuple[float, float]],
    tally: _Tally,
    stopped: Callable[[], bool],
    step: Callable[[str], None],
) -> InputError | None:
    """Match and write until the end or a stop; returns what ended it early. ``look``: rate and colours shown."""
    fps, colours = look
    stored = recording.read if not video.live else (lambda index: None)
    matched = match_frames(matcher, video, recording.how, temporal=recording.temporal, stored=stored)
    width, height = video.size
    preview = video_writer(recording.folder / PREVIEW, fps, 2 * width, height)
    with preview as show, closing(ahead(matched)) as results:
        try:
            for index, left_HW3, disparity_HW, prediction in results:
                if prediction is not None:
                    recording.write(index, prediction)
                tally.count(prediction)
                picture = np.hstack([left_HW3, colour_map(disparity_HW, *colours)])
                for _ in range(tally.due(fps) if video.live else 1):
                    show(picture)
                step(f"{tally.rate:.1f} frames/s")
                if stopped():
                    break
        except InputError as error:  # of the source or the matcher
            if not tally.frames:
                raise
            return error
    return None


def _facts(matcher: StereoMatcher, video: StereoVideo, tally: _Tally) -> dict[str, Any]:
    """Which model, which frames, how fast, and of the frames computed now what was searched."""
    identity = asdict(matcher.identity)
    return {
        "model": identity.pop("name"),
        **identity,
        "height": video.size[1],
        "width": video.size[0],
        "space": "disparity",
        "unit": "px",
        "frames": tally.frames,
        "frames_stated": video.stated,
        "frames_computed": tally.computed,
        "frames_per_second": round(tally.rate, 2),
        "min_disp": tally.searched[0] if tally.searched else None,
        "max_disp": tally.searched[1] if tally.searched else None,
        "saturated_share": float(np.mean(tally.saturated)) if tally.saturated else None,
        "saturated_share_largest": max(tally.saturated, default=None),
    }


def _begin(matcher: StereoMatcher, video: StereoVideo, recording: Recording, *, overwrite: bool) -> tuple[float, float]:
    """Keep what an earlier run of the same request has left, or remove it; returns the range of colours."""
    folder = recording.folder
    earlier = _json(folder / RUN)
    if video.live and earlier and not overwrite:
        raise InputError(f"{folder} holds a recording", hint="Choose another folder with --out, or give --overwrite")
    goes_on = not overwrite and earlier.get("request") == dict(recording.request)
    unfinished = [path.name for path in folder.glob(f".{Path(PREVIEW).stem}.*.tmp{Path(PREVIEW).suffix}")]  # if killed
    clear(folder, (RESULT, *unfinished, *(() if goes_on else (RUN, PREVIEW, *_numbered(folder)))))
    colours = recording.colours or (earlier["colours"] if goes_on else None)
    if colours is None:
        pairs = [video.first] if video.live else video.glimpses(GLIMPSES)
        seen = [matcher.predict(left, right, **recording.how).disparity for left, right in pairs]
        colours = robust_range(np.stack(seen or [matcher.predict(*video.first, **recording.how).disparity]))
    run = {"request": dict(recording.request), "colours": list(colours)}
    atomic_write_bytes(folder / RUN, json.dumps(run, indent=2).encode())
    return colours[0], colours[1]


def _numbered(folder: Path) -> list[str]:
    """The files of single frames that a recording owns, relative to its folder."""
    found = [path for kind in MAPS if (folder / kind).is_dir() for path in (folder / kind).iterdir()]
    return [f"{path.parent.name}/{path.name}" for path in found if _NUMBERED.fullmatch(path.name)]


def _whole(recording: Recording, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``result.json`` says if it is of this request and all files are there, else None."""
    result = _json(recording.folder / RESULT)
    if result.get("request") != dict(recording.request) or result.get("asked") != asked:
        return None
    there = all(recording.path("disparity", i, recording.formats[-1]).is_file() for i in range(result["frames"]))
    return result if there and (recording.folder / PREVIEW).is_file() else None


def _json(path: Path) -> dict[str, Any]:
    """A JSON object of ours, empty if it is not there or not one."""
    try:
        found = json.loads(read_text(path, what="a result"))
    except (DepthlightError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
