"""Stereo video: pairs of frames from files, cameras or numbered pictures; reading and matching in threads of their own.

Shape legend: H W size of one view, 3 RGB.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..core.errors import ImageError, InputError, UnknownNameError
from ..io.names import image_files, pair_folders, split_side_by_side, split_top_bottom
from ..io.video import PictureReader, VideoReader, counted
from .pairs import Image, Pair
from .prediction import StereoMatcher, StereoPrediction
from .temporal import Map, TemporalFilter

T = TypeVar("T")
FrameReader: TypeAlias = VideoReader | PictureReader
VideoSource: TypeAlias = "str | os.PathLike[str] | int"
LAYOUTS = {"side-by-side": split_side_by_side, "top-bottom": split_top_bottom}
AHEAD = 4  # frames that wait between two threads
FORGIVEN = 0.02  # share of the stated frames that may be missing: containers count loosely


class StereoVideo:
    """Pairs of frames: two files, cameras or folders of pictures, or one whose frames hold both views.

    Attributes:
        first: the first pair.
        fps: frames a second, None where none is stated (pictures, some cameras).
        stated: how many frames there should be, None where that is not known (cameras).
        layout: how one frame holds both views, None where each view has its own.
        live: frames come from a camera, and those that nobody waits for are dropped.
    """

    def __init__(
        self, left: VideoSource, right: VideoSource | None = None, *, layout: str | None = None, most: int | None = None
    ) -> None:
        """Open the source and look at its first frame.

        Args:
            left: a video file, a folder of pictures (in the order of the numbers in their names), or a camera's index.
            right: the same for the right view; None if the frames hold both.
            layout: ``side-by-side`` (left first) or ``top-bottom`` (left on top); by default side by side if the
                frames are at least twice as wide as high.
            most: stop after so many frames.

        Raises:
            InputError: it does not exist; the two differ in size, rate or number of frames; the layout is not clear or
                does not go with the size.
            ImageError: not a video, damaged, or without frames.
        """
        self._open = _opener(left, right)
        self.most = most
        self.live = isinstance(left, int)
        with self._readers() as readers:
            self.label = readers[0].label
            self.fps, self.stated = readers[0].fps, readers[0].stated
            if len(readers) == 2:
                _need_alike(readers[0], readers[1], most)
            taken = [reader.grab() for reader in readers]
            if not all(taken):
                raise ImageError(f"{self.label} has no frame that can be read", expected="at least one")
            views = [reader.retrieve() for reader in readers]
        self.layout = None if len(views) == 2 else _layout(views[0], layout, self.label)
        self.first = self._pair(views)
        one, other = (f"{view.shape[1]}×{view.shape[0]}" for view in self.first)
        if one != other:
            raise InputError(f"the left frames are {one} and the right ones {other}", expected="one size")
        if self.stated is not None and most is not None:
            self.stated = min(self.stated, most)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of one view, px."""
        return self.first[0].shape[1], self.first[0].shape[0]

    def frames(self) -> Generator[Pair]:
        """All pairs, (H, W, 3) uint8 each, from the beginning.

        Raises:
            ImageError: at the end, after all frames that could be read, if there should have been more.
            InputError: a frame has another size than the first.
        """
        with self._readers() as readers:
            for index in itertools.count():
                if index == self.most:
                    return
                taken = [reader.grab() for reader in readers]
                if not all(taken):
                    self._check_end(readers, taken, index)
                    return
                pair = self._pair([reader.retrieve() for reader in readers])
                if any(view.shape != self.first[0].shape for view in pair):
                    raise InputError(f"frame {index} of {self.label} has another size than the first one")
                yield pair

    def glimpses(self, count: int) -> Iterator[Pair]:
        """At most ``count`` pairs spread over the whole; what cannot be read is left out."""
        places = np.unique(np.linspace(0, max(0, (self.stated or 1) - 1), count).astype(int))
        with self._readers() as readers:
            for place in places:
                for reader in readers:
                    reader.seek(int(place))
                taken = [reader.grab() for reader in readers]
                with suppress(InputError):
                    views = [reader.retrieve() for reader in readers if all(taken)]
                    if views and self._pair(views)[0].shape == self.first[0].shape:
                        yield self._pair(views)

    @contextmanager
    def _readers(self) -> Iterator[list[FrameReader]]:
        with ExitStack() as stack:
            readers = []
            for open_one in self._open:
                readers.append(open_one())
                stack.callback(readers[-1].close)
            yield readers

    def _pair(self, views: list[Image]) -> Pair:
        return (views[0], views[1]) if self.layout is None else LAYOUTS[self.layout](views[0])

    def _check_end(self, readers: list[FrameReader], taken: list[bool], index: int) -> None:
        if any(taken):
            ended, other = (reader.label for _, reader in sorted(zip(taken, readers, strict=True), key=lambda x: x[0]))
            raise ImageError(
                f"{ended} ends after {index} frames and {other} goes on",
                expected="as many frames in both",
                hint="If one is damaged, the views are out of step from there on",
            )
        if self.live:
            raise ImageError(f"{self.label} gives no more frames")
        stated = max(reader.stated or 0 for reader in readers)
        if self.most is not None:
            stated = min(stated, self.most)
        if stated - index > max(2, FORGIVEN * stated):
            raise ImageError(f"{self.label} ends after {index} of the {stated} frames it states: damaged or cut off")


def _opener(left: VideoSource, right: VideoSource | None) -> list[Callable[[], FrameReader]]:
    given = [left] if right is None else [left, right]
    sources = [source if isinstance(source, int) else Path(source) for source in given]
    folders = [source for source in sources if isinstance(source, Path) and source.is_dir()]
    if not folders:
        if len({type(source) for source in sources}) > 1:
            raise InputError("a camera and a file were given", expected="two of a kind, or one")
        return [partial(VideoReader, source) for source in sources]
    if len(folders) < len(sources):
        raise InputError("a folder and something else were given", expected="two of a kind, or one")
    if len(folders) == 1:
        lists = [sorted(image_files(folders[0]), key=lambda path: counted(path.stem))]
    else:
        pairs = sorted(pair_folders(*folders), key=lambda pair: counted(pair[0]))
        lists = [[one for _, one, _ in pairs], [other for _, _, other in pairs]]
    return [partial(PictureReader, files) for files in lists]


def _need_alike(left: FrameReader, right: FrameReader, most: int | None) -> None:
    counts = [reader.stated for reader in (left, right) if reader.stated is not None]
    if len(counts) == 2 and counts[0] != counts[1] and not (most and most <= min(counts)):
        raise InputError(
            f"{left.label} states {counts[0]} frames and {right.label} {counts[1]}",
            expected="as many in both",
            hint=f"If they begin together, take the first {min(counts)} with --frames",
        )
    if left.fps and right.fps and abs(left.fps / right.fps - 1) > 0.01:
        raise InputError(f"the left video has {left.fps:g} frames a second and the right one {right.fps:g}")


def _layout(frame_HW3: Image, layout: str | None, label: str) -> str:
    if layout is not None and layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    height, width = frame_HW3.shape[:2]
    if layout is None and width < 2 * height:
        raise InputError(
            f"{label} is {width}×{height}, which does not look like two views side by side",
            expected="a second video",
            hint="Give --side-by-side or --top-bottom if its frames hold both views",
        )
    return layout or "side-by-side"


def ahead(items: Generator[T], size: int = AHEAD, *, latest: bool = False) -> Generator[T]:
    """Iterate over ``items`` in a thread of its own, at most ``size`` items ahead; what it raises comes out here.

    ``latest`` drops the oldest item when nobody waits, instead of waiting. Close the iterator to end the thread.
    """
    box: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(size)
    stop = threading.Event()
    thread = threading.Thread(target=_feed, args=(items, box, stop, latest), daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if error is not None:
                raise error
            if not item:
                return
            yield item[0]
    finally:
        stop.set()
        thread.join(timeout=5)  # a camera may never answer


def _feed(items: Generator[T], box: queue.Queue[Any], stop: threading.Event, latest: bool) -> None:
    """Put ``([item], None)`` into the box for each, and at the end ``([], what was raised)``."""

    def put(entry: tuple[list[T], BaseException | None]) -> None:
        while not stop.is_set():
            try:
                box.put(entry, timeout=0.05)
                return
            except queue.Full:
                if latest and entry[0]:
                    with suppress(queue.Empty):
                        box.get_nowait()

    end: BaseException | None = None
    try:
        with closing(items):
            for item in items:
                put(([item], None))
                if stop.is_set():
                    return
    except BaseException as error:
        end = error
    put(([], end))


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a result: its number from 0, the left view (H, W, 3) uint8, and what was found."""

    index: int
    left: Image
    prediction: StereoPrediction


def predict_video(
    matcher: StereoMatcher,
    video: StereoVideo,
    *,
    temporal: bool = False,
    max_disp: int | None = None,
    min_disp: int = 0,
    left_right: bool = False,
) -> Iterator[VideoFrame]:
    """Disparity frame by frame, while the next frames are read in a thread; close it to stop early.

    Args:
        matcher: from :func:`depthlight.load`.
        video: where the frames come from.
        temporal: steady what does not move (:class:`TemporalFilter`). Confidence and ``valid`` stay those of the frame.
        max_disp, min_disp, left_right: see :meth:`depthlight.infer.stereo.StereoModel.predict`.

    Raises:
        ImageError: after the last frame that could be read, if there should have been more.
        InputError, LimitError: see there, and :meth:`StereoVideo.frames`.
    """
    how: dict[str, Any] = {"max_disp": max_disp, "left_right": left_right} | (
        {"min_disp": min_disp} if min_disp else {}
    )
    for index, left_HW3, _, prediction in match_frames(matcher, video, how, temporal=temporal):
        if prediction is not None:
            yield VideoFrame(index, left_HW3, prediction)


def match_frames(
    matcher: StereoMatcher,
    video: StereoVideo,
    how: Mapping[str, Any],
    *,
    temporal: bool,
    stored: Callable[[int], Map | None] = lambda _: None,
) -> Generator[tuple[int, Image, Map, StereoPrediction | None]]:
    """(number, left view, disparity, prediction) of each frame; no prediction where ``stored`` has the disparity."""
    steady = TemporalFilter() if temporal else None
    with closing(ahead(video.frames(), 1 if video.live else AHEAD, latest=video.live)) as pairs:
        for index, (left_HW3, right_HW3) in enumerate(pairs):
            known_HW = stored(index)
            if known_HW is not None:
                if steady:
                    steady.remember(left_HW3, known_HW)
                yield index, left_HW3, known_HW, None
                continue
            found = matcher.predict(left_HW3, right_HW3, **how)
            if steady:
                found = replace(found, disparity=steady(left_HW3, found.disparity, signed=found.min_disp < 0))
            yield index, left_HW3, found.disparity, found
