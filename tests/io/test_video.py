"""Videos in and out: what is written is read again, and what is no video is told in one line."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import pytest

from depthlight.core.errors import ImageError, InputError, LimitError
from depthlight.io import video
from depthlight.io.video import VideoReader, counted, video_writer


def write(path, frames, fps=25.0):
    height, width = frames[0].shape[:2]
    with video_writer(path, fps, width, height) as append:
        for frame in frames:
            append(frame)
    return path


def read_all(reader):
    frames = []
    while reader.grab():
        frames.append(reader.retrieve())
    reader.close()
    return frames


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97)])
def test_what_is_written_is_read_again(tmp_path, height, width):
    frames = [np.full((height, width, 3), (200, 60, 20 * t), np.uint8) for t in range(5)]
    reader = VideoReader(write(tmp_path / "a" / "clip.mp4", frames, 12.5))
    assert (reader.fps, reader.stated) == (12.5, 5)
    found = read_all(reader)
    assert len(found) == 5
    for one, other in zip(found, frames, strict=True):
        assert one.shape == (height + height % 2, width + width % 2, 3), "an odd side gets one more, none is cut"
        assert np.abs(one[:height, :width].astype(int) - other).max() < 12, "colours and their order"
    reader = VideoReader(tmp_path / "a" / "clip.mp4")
    reader.seek(3)
    assert reader.grab() and np.abs(reader.retrieve()[0, 0].astype(int) - (200, 60, 60)).max() < 12


def test_a_video_is_there_in_full_or_not_at_all(tmp_path):
    target = write(tmp_path / "clip.mp4", [np.zeros((32, 32, 3), np.uint8)])
    before = target.read_bytes()
    with pytest.raises(RuntimeError), video_writer(target, 25, 64, 64) as append:
        append(np.zeros((64, 64, 3), np.uint8))
        raise RuntimeError
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("name", "fps"), [("clip.avi", 25), ("clip.mp4", 0), ("clip.mp4", float("nan"))])
def test_what_cannot_be_written_is_refused(tmp_path, name, fps):
    with pytest.raises(InputError), video_writer(tmp_path / name, fps, 32, 32):
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "not a video"),  # a playlist would open other files
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "not a video"),
        (b"\0\0\0\x20ftypisom" + bytes(50), "damaged or cut off"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path, content, words):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        VideoReader(path)


def test_a_folder_is_no_video_file(tmp_path):
    with pytest.raises(InputError, match="not a file"):
        VideoReader(tmp_path)


class Capture:
    """Stands for a camera."""

    facts: ClassVar = {cv2.CAP_PROP_FRAME_WIDTH: 64, cv2.CAP_PROP_FRAME_HEIGHT: 32}

    def __init__(self, index):
        self.index = index

    def isOpened(self):  # noqa: N802 OpenCV's name
        return self.index == 0

    def get(self, key):
        return self.facts.get(key, 0.0)

    def grab(self):
        return True

    def retrieve(self):
        return False, None


def test_cameras(monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", Capture)
    reader = VideoReader(0)
    assert (reader.label, reader.fps, reader.stated) == ("camera 0", None, None)
    with pytest.raises(ImageError, match="cannot be decoded"):
        reader.retrieve()
    with pytest.raises(InputError, match="camera 1 cannot be opened"):
        VideoReader(1)
    monkeypatch.setattr(Capture, "facts", {cv2.CAP_PROP_FRAME_WIDTH: 60000, cv2.CAP_PROP_FRAME_HEIGHT: 60000})
    with pytest.raises(LimitError):
        VideoReader(0)


def test_numbers_in_names_count():
    assert sorted(["f10", "f9", "f1_2", "f1_10"], key=counted) == ["f1_2", "f1_10", "f9", "f10"]
