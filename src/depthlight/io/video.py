"""Video files, cameras and numbered pictures as frames, and frames as a video; RGB uint8 (H, W, 3), through OpenCV.

A file is opened only if it begins as a video container does: a playlist would make FFmpeg open other files.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ImageError, InputError, OutputError
from .atomic import atomic_path
from .guard import DEFAULT_LIMITS, check_size
from .images import read_image

Image = NDArray[np.uint8]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
_BEGINNINGS = (b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"G", b"FLV", b"0&\xb2u", b"OggS")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # of MP4 and QuickTime
CODEC, SUFFIX = "mp4v", ".mp4"  # MPEG-4 part 2: what every build of OpenCV can write
FASTEST = 1000.0  # frames a second; what a damaged header states beyond is not believed


class VideoReader:
    """A video file, or a camera by its index: ``grab`` takes the next frame, ``retrieve`` decodes the one taken.

    ``fps`` is None where none is stated, ``stated`` the frames it says it has (an estimate in some containers).
    """

    def __init__(self, source: Path | int) -> None:
        """Open it.

        Raises:
            InputError: there is no such file or camera.
            ImageError: the file is not a video, or its header is damaged.
            LimitError: its frames are larger than an image may be.
        """
        if isinstance(source, int):
            self.label = f"camera {source}"
            self._capture = cv2.VideoCapture(source)
        else:
            self.label = str(source)
            _need_video(source)
            self._capture = cv2.VideoCapture(str(source.resolve()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            if isinstance(source, int):
                raise InputError(f"{self.label} cannot be opened", hint="Check that it is there, and not in use")
            raise ImageError(f"{self.label} cannot be read: its header or index is damaged or cut off")
        size = [int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        check_size(size[0], size[1], self.label, DEFAULT_LIMITS)
        fps, stated = (float(self._capture.get(key)) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps = fps if 0 < fps <= FASTEST else None
        known = not isinstance(source, int) and math.isfinite(stated) and stated > 0
        self.stated = round(stated) if known else None

    def grab(self) -> bool:
        """Take the next frame; False after the last one that can be read."""
        return bool(self._capture.grab())

    def retrieve(self) -> Image:
        """The frame taken; raises ImageError if it cannot be decoded."""
        good, bgr_HW3 = self._capture.retrieve()
        if not good or bgr_HW3 is None:
            raise ImageError(f"a frame of {self.label} cannot be decoded")
        return np.asarray(cv2.cvtColor(bgr_HW3, cv2.COLOR_BGR2RGB), np.uint8)

    def seek(self, index: int) -> None:
        """Let the next frame taken be this one."""
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)

    def close(self) -> None:
        """Let go of the file or the camera."""
        self._capture.release()


class PictureReader:
    """Image files as the frames of a video, in the order given; read as a :class:`VideoReader` is."""

    fps: float | None = None

    def __init__(self, files: Sequence[Path]) -> None:
        self.label = str(files[0].parent)
        self.stated: int | None = len(files)
        self._files, self._index = files, -1

    def grab(self) -> bool:
        """Take the next file; False after the last one."""
        self._index += 1
        return self._index < len(self._files)

    def retrieve(self) -> Image:
        """The picture; raises ImageError or LimitError as :func:`~depthlight.io.images.read_image`."""
        return read_image(self._files[self._index])

    def seek(self, index: int) -> None:
        """Let the next file taken be this one."""
        self._index = index - 1

    def close(self) -> None:
        """Nothing is open."""


def counted(stem: str) -> list[str | int]:
    """A sorting key by which ``frame_9`` comes before ``frame_10``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", stem)]


def _need_video(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} {'is not a file' if path.exists() else 'does not exist'}", expected="a video file")
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise InputError(f"cannot open {path}: {error.strerror or error}") from error
    if not head:
        raise ImageError(f"{path} is empty (0 bytes)", expected="a video file")
    if not head.startswith(_BEGINNINGS) and head[4:8] not in _BOXES:
        raise ImageError(f"{path} is not a video", expected="MP4, MOV, AVI, MKV, WebM, MPEG, WMV, FLV or Ogg")


@contextmanager
def video_writer(
    path: str | os.PathLike[str], fps: float, width: int, height: int
) -> Iterator[Callable[[Image], None]]:
    """A function that appends a frame (height, width, 3); the video is there when the block ends, and whole.

    MPEG-4 in ``.mp4``. An odd side gets one more row or column, a copy of the last, because the codec needs even ones.

    Raises:
        InputError: another suffix, or not a rate.
        OutputError: cannot be written.
    """
    if Path(path).suffix.lower() != SUFFIX:
        raise InputError(f"cannot write a video as {Path(path).name!r}", expected=f"a name ending in {SUFFIX}")
    if not 0 < fps <= FASTEST:
        raise InputError(f"{fps} frames a second", expected=f"above 0, at most {FASTEST:g}")
    right, bottom = width % 2, height % 2
    with atomic_path(path) as temporary:
        code = cv2.VideoWriter.fourcc(*CODEC)
        writer = cv2.VideoWriter(str(temporary.resolve()), cv2.CAP_FFMPEG, code, fps, (width + right, height + bottom))
        if not writer.isOpened():
            raise OutputError(f"cannot write {path}", hint="Check that the folder is writable, and OpenCV has FFmpeg")

        def write(rgb_HW3: Image) -> None:
            bgr_HW3 = cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2BGR)
            if right or bottom:
                bgr_HW3 = cv2.copyMakeBorder(bgr_HW3, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            writer.write(bgr_HW3)

        try:
            yield write
        finally:
            writer.release()
