"""The process that computes: reads jobs as JSON lines, writes prediction folders, and is ended by its parent.

It stands in the job's folder while it works, so that no message names a path of the server. Inputs have the name of
their form field, results are written to ``out/``. Whatever a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.config import from_dict
from ..core.errors import DepthlightError, InputError, LimitError
from ..core.memory import keep_freed_memory
from ..geometry.rig import StereoRig
from ..infer.doctor.diagnose import RANGE, diagnose, glance
from ..infer.folder import save_prediction
from ..infer.load import load
from ..infer.metres import Metres
from ..infer.prediction import StereoMatcher
from ..infer.stereo import StereoModel
from ..io.colour import colour_map, robust_range
from ..io.guard import ImageLimits
from ..io.images import read_image
from ..io.names import split_side_by_side
from ..io.pictures import write_image
from .errors import Refusal, internal, problem_of

OUT = Path("out")
SO_FAR = "so_far.png"  # of a refinement under way
_BETWEEN = 0.25  # s between two reports of progress
_BETWEEN_PICTURES = 1.0
_MODELS = 3  # of each kind that stay loaded
Image = NDArray[np.uint8]
Report = Callable[[dict[str, Any]], None]


class Desk:
    """Where jobs are done: the models, and one method per kind of job.

    ``setup`` holds ``models`` (options of :func:`depthlight.load`), ``device``, ``max_memory``, ``limits`` and
    ``preload`` (names of stereo models).
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self.limits = ImageLimits(**setup["limits"])
        self._loaded: dict[tuple[str, str], Any] = {}
        for name in setup["preload"]:
            self._matcher(name)

    def do(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        """Do one job in the current folder; returns what ``result.json`` holds, and what belongs beside it."""
        kind = task["kind"]
        if kind == "stereo":
            return self._stereo(task)
        if kind == "mono":
            return self._mono(task)
        return self._refine_pair(task, report) if Path("left").exists() else self._refine_photo(task, report)

    # -------------------------------------------------------------------------------------------- models

    def _kept(self, kind: str, name: str, make: Callable[[], Any]) -> Any:
        """A model that is loaded once; the ones used longest ago go first."""
        found = self._loaded.pop((kind, name), None)
        self._loaded[kind, name] = make() if found is None else found
        for key in [key for key in self._loaded if key[0] == kind][:-_MODELS]:
            del self._loaded[key]
        return self._loaded[kind, name]

    def _matcher(self, name: str, backend: str | None = None) -> StereoMatcher:
        def make() -> StereoMatcher:
            options = self.setup["models"] | ({"backend": backend} if backend else {})
            matcher = load(name, **({} if name.startswith("sgbm") else options))
            if isinstance(matcher, StereoModel):
                matcher.max_memory = self.setup["max_memory"]
            return matcher

        return self._kept(f"stereo {backend or ''}", name, make)  # type: ignore[no-any-return]

    def _mono_model(self, name: str) -> Any:
        from ..infer.mono import load_mono

        return self._kept("mono", name, lambda: load_mono(name, device=self.setup["device"]))

    # -------------------------------------------------------------------------------------------- inputs

    def _image(self, name: str) -> Image:
        return read_image(Path(name), limits=self.limits, name=name)

    def _pair(self) -> tuple[Image, Image]:
        if Path("side_by_side").exists():
            return split_side_by_side(self._image("side_by_side"))
        return self._image("left"), self._image("right")

    def _rig(self, task: dict[str, Any], left_HW3: Image) -> StereoRig | None:
        """The calibration, checked against the picture before any work."""
        if not Path("calib").exists():
            return None
        height, width = left_HW3.shape[:2]
        rig = StereoRig.from_file("calib", size=(width, height), format=task["calib_format"], unit=task["unit"])
        rig.resized(width, height)
        return rig

    # -------------------------------------------------------------------------------------------- jobs

    def _stereo(self, task: dict[str, Any]) -> dict[str, Any]:
        left, right = self._pair()
        rig = self._rig(task, left)
        matcher = self._matcher(task["model"])
        low, high = task["min_disp"], task["max_disp"]
        if task["find_range"]:
            if not isinstance(matcher, StereoModel):
                raise InputError(f"find_range says nothing to {matcher.name}", hint="Give max_disp")
            low, high = matcher.find_range(left, right)
        window = {"max_disp": high} | ({"min_disp": low} if low else {})
        prediction = matcher.predict(left, right, **window, left_right=task["left_right"])
        metres = from_dict(Metres, task["metres"])
        result = save_prediction(OUT, prediction, left, formats=task["format"], rig=rig, metres=metres)
        fault = glance(left, right, prediction.max_disp)
        expected = fault is not None and fault.id == "negative-disparity" and prediction.min_disp < 0
        result["doubt"] = None if fault is None or expected else fault.says
        if task["doctor"]:
            result["doctor"] = diagnose(left, right, rig, max_disp=high or RANGE).to_dict()
        return result

    def _mono(self, task: dict[str, Any]) -> dict[str, Any]:
        from ..infer.mono_folder import save_mono

        photo, model = self._image("image"), self._mono_model(task["model"])
        prediction = model.predict(photo, focal=task["focal"])
        return save_mono(OUT, prediction, photo, formats=task["format"])

    def _refine_photo(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        from ..refine.api import configured, refine_photo
        from ..refine.files import save_refinement

        photo = self._image("image")
        overrides = {name: task[name] for name in ("steps", "restarts", "seed", "prompt")}
        config = configured(task["recipe"], **overrides)
        total = config.steps * config.restarts
        result = refine_photo(
            photo,
            model=self._mono_model(task["model"]),
            prior=task["prior"],
            recipe=config,
            focal=task["focal"],
            on_step=lambda row: report(_progress(row, (int(row["restart"]) - 1) * config.steps, total)),
            on_map=_Album(),
        )
        return _whole(save_refinement(OUT, result, photo), result.stopped)

    def _refine_pair(self, task: dict[str, Any], report: Report) -> dict[str, Any]:
        from ..refine.stereo_api import refine_stereo, stereo_configured
        from ..refine.stereo_files import save_stereo_refinement

        left, right = self._pair()
        rig = self._rig(task, left)
        config = stereo_configured(task["recipe"], steps=task["steps"])
        result = refine_stereo(
            left,
            right,
            model=self._matcher(task["model"], "torch"),
            recipe=config,
            max_disp=task["max_disp"],
            on_step=lambda row: report(_progress(row, 0, config.steps)),
            on_map=_Album(),
        )
        return _whole(save_stereo_refinement(OUT, result, left, rig=rig), result.stopped)


def _progress(row: dict[str, float], before: int, total: int) -> dict[str, Any]:
    losses = {name: value for name, value in row.items() if name not in ("restart", "step")}
    picture = {"picture": SO_FAR} if (OUT / SO_FAR).is_file() else {}
    return {"step": before + int(row["step"]), "steps": total, "losses": losses, **picture}


class _Album:
    """Draws the map of a refinement so far, now and then, in the colours of the first one."""

    def __init__(self) -> None:
        self._span: tuple[float, float] | None = None
        self._last = 0.0

    def __call__(self, values_HW: NDArray[np.float32]) -> None:
        now = time.monotonic()
        if now - self._last >= _BETWEEN_PICTURES:
            self._last = now
            self._span = self._span or robust_range(values_HW)
            write_image(OUT / SO_FAR, colour_map(values_HW, *self._span))


def _whole(facts: dict[str, Any], stopped: str) -> dict[str, Any]:
    (OUT / SO_FAR).unlink(missing_ok=True)
    if stopped:
        raise Refusal("stopped_early", stopped, hint="Try fewer steps, or another seed")
    return facts


class _Channel:
    """Messages to the parent; progress no more often than it is looked at."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._last = 0.0

    def say(self, event: str, **values: Any) -> None:
        plain = json.loads(json.dumps(values), parse_constant=lambda _: None)  # JSON knows no NaN
        self._stream.write(json.dumps({"event": event, **plain}).encode() + b"\n")

    def report(self, progress: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._last >= _BETWEEN or progress["step"] == progress["steps"]:
            self._last = now
            self.say("progress", progress=progress)


def _listen(lines: SimpleQueue[bytes]) -> None:
    """Pass on what the parent says; without a parent there is nothing to do, whatever is being computed."""
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)


def main() -> None:
    """Work until the parent leaves."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to all processes of a group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    channel = _Channel(os.fdopen(os.dup(1), "wb", buffering=0))
    os.dup2(2, 1)
    lines: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(lines,), daemon=True).start()
    keep_freed_memory()
    try:
        desk = Desk(json.loads(lines.get()))
    except DepthlightError as error:
        channel.say("failed", problem=problem_of(error))
        return
    channel.say("ready")
    while True:
        task = json.loads(lines.get())
        try:
            os.chdir(task["folder"])
            channel.say("done", result=desk.do(task, channel.report))
        except DepthlightError as error:
            channel.say("failed", problem=problem_of(error))
        except MemoryError:
            channel.say("failed", problem=problem_of(LimitError("memory ran out", hint="Try a smaller image")))
        except Exception:
            traceback.print_exc()
            channel.say("failed", problem=problem_of(internal()))
        finally:
            os.chdir(tempfile.gettempdir())


if __name__ == "__main__":
    main()
