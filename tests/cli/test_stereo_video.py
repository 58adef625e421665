"""``depthlight stereo`` of videos: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from depthlight.cli import stereo_video
from depthlight.io.disparity_files import read_disparity
from depthlight.io.video import VideoReader, video_writer


@pytest.fixture
def beside(tmp_path, make_pair):
    """A video of five frames, two views of 96×64 side by side, 8 px of disparity."""
    left, right = make_pair(8, 64, 116)
    path = tmp_path / "beside.mp4"
    with video_writer(path, 25, 192, 64) as append:
        for t in range(0, 20, 4):
            append(np.hstack([left[:, t : t + 96], right[:, t : t + 96]]))
    return path


def test_a_video_gives_a_map_per_frame_and_a_preview(call, tmp_path, beside):
    out = tmp_path / "out"
    status, text, err = call("stereo", beside, "-o", out, "--steady")
    assert (status, err) == (0, "") and "5 frames by light" in text and "frames/s" in text
    assert {path.name for path in out.iterdir()} == {"disparity", "preview.mp4", "result.json", "run.json"}
    for t in range(5):
        stored = read_disparity(out / "disparity" / f"{t:06d}.png")
        assert stored.valid_HW.all() and abs(np.median(stored.disparity_HW[:, 16:]) - 8) < 1
    assert VideoReader(out / "preview.mp4").stated == 5
    status, text, _ = call("stereo", beside, "-o", out, "--steady", "--json")
    assert (status, json.loads(text)["kept"]) == (0, True)
    assert json.loads(call("stereo", beside, "-o", out, "--json", "--frames", 2)[1])["frames"] == 2, "not steady: anew"


def test_folders_as_a_video_with_metres(call, save, tmp_path, make_pair):
    left, right = make_pair(8, 64, 96)
    for t in (9, 10):
        save(tmp_path / f"l/f{t}.png", left)
        save(tmp_path / f"r/f{t}.png", right)
    calib = tmp_path / "rig.json"
    calib.write_text(json.dumps({"fx": 100, "fy": 100, "cx": 48, "cy": 32, "baseline": 0.1, "width": 96, "height": 64}))
    how = [tmp_path / "l", tmp_path / "r", "--video", "-o", tmp_path / "out", "--calib", calib, "--colours", "0,20"]
    status, _, err = call("stereo", *how)
    assert status == 2 and "--fps" in err
    status, text, _ = call("stereo", *how, "--fps", 10, "--json")
    told = json.loads(text)
    assert (status, told["frames"], told["fps"], told["colours"]) == (0, 2, 10, [0, 20])
    assert np.median(np.load(tmp_path / "out/depth/000001.npy")) == pytest.approx(10 / 8, rel=0.1)


def test_a_stop_is_told_and_the_same_command_goes_on(call, tmp_path, beside, monkeypatch):
    record = stereo_video.record
    monkeypatch.setattr(stereo_video, "record", lambda *args, **how: record(*args, **{**how, "stopped": lambda: True}))
    status, text, _ = call("stereo", beside, "-o", tmp_path / "out")
    assert status == 128 and "Stopped" in text, "128 and the number of the signal, of which there was none"
    monkeypatch.setattr(stereo_video, "record", record)
    told = json.loads(call("stereo", beside, "-o", tmp_path / "out", "--json")[1])
    assert (told["frames"], told["frames_computed"]) == (5, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["beside.mp4", "--roi", "1,1,9,9"], "--roi goes with images"),
        (["beside.mp4", "--cloud", "ply"], "--cloud goes with images"),
        (["beside.mp4", "--colours", "9"], "--colours"),
        (["beside.mp4", "beside.mp4", "--top-bottom"], "one video"),
        (["beside.mp4", "--top-bottom", "--side-by-side"], "one of them"),
        (["none.mp4"], "does not exist"),
        (["77"], "camera 77 cannot be opened"),
        (["left.png", "--steady"], "--steady goes with a video"),
        (["frames"], "no right one"),
    ],
)
def test_what_is_refused_is_one_line(call, tmp_path, beside, monkeypatch, arguments, words):
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "left.png")
    monkeypatch.chdir(tmp_path)
    status, _, err = call("stereo", *arguments, "-o", "out")
    assert status == 2 and words in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_replaced(call, tmp_path, beside):
    own = beside.rename(tmp_path / "preview.mp4")
    status, _, err = call("stereo", own, "-o", tmp_path)
    assert status == 2 and "would be replaced" in err and VideoReader(own).stated == 5


def test_a_damaged_video_is_one_line_and_keeps_its_frames(tmp_path, make_pair):
    left, right = make_pair(8, 64, 96)
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (192, 64))
    for _ in range(12):
        writer.write(np.hstack([left, right]))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    command = [sys.executable, "-m", "depthlight", "stereo", str(path), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1 and "of the 12 frames" in done.stderr and "are in" in done.stderr
    kept = len(list((tmp_path / "out/disparity").iterdir()))
    assert 3 <= kept < 10 and VideoReader(tmp_path / "out/preview.mp4").stated == kept
