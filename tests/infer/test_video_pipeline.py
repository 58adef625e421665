"""Stereo video: where the pairs come from, how they end, the filter, and a recording that goes on."""

from __future__ import annotations

import itertools
import json
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

import depthlight as dl
from depthlight.core.errors import CheckFailedError, ImageError, InputError
from depthlight.infer import video as video_module
from depthlight.infer.prediction import ModelIdentity, StereoPrediction
from depthlight.infer.temporal import TemporalFilter
from depthlight.infer.video import StereoVideo, ahead, predict_video
from depthlight.infer.video_folder import PREVIEW, RUN, Recording, record
from depthlight.io.disparity_files import read_disparity
from depthlight.io.video import VideoReader, video_writer

H, W = 32, 64


class Brightness:
    """A matcher whose disparity is a sixteenth of the left view's green; fails when told to."""

    name, max_disp = "brightness", 64
    identity = ModelIdentity("brightness", None, "numpy", "fp32", "cpu")

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = 0, fails_at

    def check_range(self, max_disp, min_disp=0):
        pass

    def predict(self, left, right, *, max_disp=None, min_disp=0, left_right=False):
        self.calls += 1
        if self.calls == self.fails_at:
            raise InputError("no such luck")
        disparity = left[:, :, 1].astype(np.float32) / 16
        ones = np.ones(disparity.shape, np.float32)
        return StereoPrediction(disparity, ones, ones > 0, 0.0, self.identity, 64, 0.0)


def scene(frames, seed=0):
    """(T, H, W, 3) left and right views: noise that drifts to the left, 4 px of disparity."""
    wide = np.random.default_rng(seed).integers(0, 256, (H, W + 4 + 2 * frames, 3), np.uint8)
    return [np.stack([wide[:, 2 * t + x : 2 * t + x + W] for t in range(frames)]) for x in (0, 4)]


def flicker(frames):
    """The same view again and again, with the noise of a sensor."""
    rng = np.random.default_rng(1)
    view = cv2.GaussianBlur(rng.uniform(0, 255, (H, W, 3)), (0, 0), 3)
    return [np.clip(view + rng.normal(0, 4, view.shape), 0, 255).astype(np.uint8) for _ in range(frames)]


def folder(path, frames):
    """Pictures ``frame_8.png`` …: their order is that of the numbers, not of the letters."""
    path.mkdir(parents=True)
    for t, frame in enumerate(frames, start=8):
        Image.fromarray(frame).save(path / f"frame_{t}.png")
    return path


def clip(path, frames):
    with video_writer(path, 25, frames[0].shape[1], frames[0].shape[0]) as append:
        for frame in frames:
            append(frame)
    return path


def cut_avi(path, frames, share=0.6):
    """A Motion-JPEG AVI that ends before its header says so."""
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def pairs(video):
    return list(video.frames())


# --- sources ---


def test_layouts_and_order(tmp_path):
    left, right = scene(5)
    beside = [np.hstack(pair) for pair in zip(left, right, strict=True)]
    above = [np.vstack(pair) for pair in zip(left, right, strict=True)]
    two = StereoVideo(folder(tmp_path / "l", left), folder(tmp_path / "r", right))
    one = StereoVideo(folder(tmp_path / "b", beside))
    top = StereoVideo(folder(tmp_path / "t", above), layout="top-bottom")
    assert [video.layout for video in (two, one, top)] == [None, "side-by-side", "top-bottom"]
    for video in (two, one, top):
        assert (video.stated, video.fps, video.size) == (5, None, (W, H))
        found = [np.stack(views) for views in zip(*video.frames(), strict=True)]
        np.testing.assert_array_equal(found, [left, right])
        assert [int((left == glimpse).all(axis=(1, 2, 3)).argmax()) for glimpse, _ in video.glimpses(3)] == [0, 2, 4]
    film = StereoVideo(clip(tmp_path / "film.mp4", beside), most=3)
    assert (film.stated, film.fps, film.size, len(pairs(film))) == (3, 25, (W, H), 3)


@pytest.mark.parametrize(
    ("shape", "layout", "words"),
    [
        ((H, W - 2, 3), None, "does not look like"),
        ((H, 2 * W + 1, 3), None, "even width"),
        ((H + 1, W, 3), "top-bottom", "even height"),
        ((H, W, 3), "spiral", "unknown layout"),
    ],
)
def test_frames_that_do_not_hold_two_views(tmp_path, shape, layout, words):
    with pytest.raises(InputError, match=words):
        StereoVideo(folder(tmp_path / "f", [np.zeros(shape, np.uint8)]), layout=layout)


def test_two_that_do_not_go_together(tmp_path):
    left, right = scene(6)
    one, other = clip(tmp_path / "l.mp4", left), clip(tmp_path / "r.mp4", right[:4])
    with pytest.raises(InputError, match=r"states 6 frames and .* 4; .* first 4 with --frames"):
        StereoVideo(one, other)
    assert len(pairs(StereoVideo(one, other, most=4))) == 4
    with pytest.raises(InputError, match="left frames are 64×32 and the right ones 32×32"):
        StereoVideo(one, clip(tmp_path / "s.mp4", right[:, :, :32]))
    for mate in (folder(tmp_path / "r", right), 0):
        with pytest.raises(InputError, match="two of a kind"):
            StereoVideo(one, mate)


def test_a_frame_of_another_size_is_told(tmp_path):
    left, _ = scene(3)
    path = folder(tmp_path / "f", [np.hstack([frame, frame]) for frame in left])
    Image.fromarray(np.zeros((H, 2 * W + 2, 3), np.uint8)).save(path / "frame_9.png")
    video = StereoVideo(path)
    assert len(list(video.glimpses(3))) == 2, "a look passes over it"
    frames = video.frames()
    next(frames)
    with pytest.raises(InputError, match=r"frame 1 of .* has another size"):
        next(frames)


def test_a_video_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path):
    left, right = scene(30)
    beside = [np.hstack(pair) for pair in zip(left, right, strict=True)]
    frames = StereoVideo(cut_avi(tmp_path / "cut.avi", beside)).frames()
    got = 0
    with pytest.raises(ImageError, match=r"ends after \d+ of the 30 frames"):
        for _ in frames:
            got += 1
    assert 10 < got < 25
    whole, cut = cut_avi(tmp_path / "l.avi", left, 1.0), cut_avi(tmp_path / "r.avi", right)
    with pytest.raises(ImageError, match=r"r\.avi ends after \d+ frames and .*l\.avi goes on"):
        pairs(StereoVideo(whole, cut))


# --- threads ---


def test_ahead_keeps_order_and_hands_on_what_is_raised():
    def items():
        yield from range(20)
        raise ValueError("end")

    got = []
    with pytest.raises(ValueError, match="end"):
        for item in ahead(items(), 3):
            got.append(item)
    assert got == list(range(20))


def test_ahead_waits_for_the_slow_and_ends_when_closed():
    made, closed = [], threading.Event()

    def items():
        try:
            for i in itertools.count():
                made.append(i)
                yield i
        finally:
            closed.set()

    running = threading.active_count()
    frames = ahead(items(), 3)
    assert next(frames) == 0
    assert not closed.wait(0.3)
    assert len(made) <= 5, "three in the box, one in hand, one taken"
    frames.close()
    assert closed.is_set() and threading.active_count() == running


def test_ahead_drops_what_nobody_waits_for():
    enough = threading.Event()

    def items():
        for i in range(12):
            if i == 11:
                enough.set()
            yield i

    frames = ahead(items(), 1, latest=True)
    assert next(frames) < 11
    enough.wait(10)
    assert list(frames)[-1] == 11, "the newest is never dropped"


# --- filter ---


def moving_scene(frames, noise=3.0):
    """Left views, noisy disparity and truth: a textured square of 30 px goes by before a wall of 10 px."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (96, 128, 3)), (0, 0), 2) * 2 - 127
    thing = cv2.GaussianBlur(rng.uniform(0, 255, (40, 40, 3)), (0, 0), 2) * 2 - 127
    shown, found, truth = [], [], []
    for t in range(frames):
        image, disparity = wall.copy(), np.full((96, 128), 10, np.float32)
        image[30:70, 10 + 4 * t : 50 + 4 * t], disparity[30:70, 10 + 4 * t : 50 + 4 * t] = thing, 30
        shown.append(np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8))
        found.append((disparity + rng.normal(0, 0.5, disparity.shape)).astype(np.float32))
        truth.append(disparity)
    return shown, np.stack(found), np.stack(truth)


def test_the_filter_steadies_what_stands_and_lets_go_what_moves():
    shown, found, truth = moving_scene(14)
    steady = TemporalFilter()
    kept = np.stack([steady(image, disparity) for image, disparity in zip(shown, found, strict=True)])
    still = np.ptp(truth, axis=0) == 0
    still[:, 100:] = True
    assert kept[:, still].std(axis=0).mean() <= 0.6 * found[:, still].std(axis=0).mean()
    moved = np.abs(np.diff(truth, axis=0, prepend=truth[:1])) > 0
    moved |= truth == 30
    errors = [np.abs(maps - truth)[moved].mean() for maps in (kept, found)]
    assert errors[0] <= 1.02 * errors[1]


def test_the_filter_goes_on_from_files_with_the_same_numbers():
    shown, found, _ = moving_scene(6)
    whole, resumed = TemporalFilter(), TemporalFilter()
    kept = [whole(image, disparity) for image, disparity in zip(shown, found, strict=True)]
    for image, steadied in zip(shown[:3], kept[:3], strict=True):
        resumed.remember(image, steadied)
    for image, disparity, steadied in zip(shown[3:], found[3:], kept[3:], strict=True):
        np.testing.assert_array_equal(resumed(image, disparity), steadied)


def test_predict_video_is_predict_frame_by_frame(tmp_path):
    left, right = scene(4)
    video = dl.StereoVideo(folder(tmp_path / "l", left), folder(tmp_path / "r", right))
    for t, frame in enumerate(dl.predict_video(Brightness(), video)):
        assert frame.index == t and (frame.left == left[t]).all()
        np.testing.assert_array_equal(frame.prediction.disparity, left[t, :, :, 1] / np.float32(16))
    assert t == 3
    video = StereoVideo(folder(tmp_path / "f", [np.hstack([view, view]) for view in flicker(6)]))
    plain, steady = (
        np.stack([frame.prediction.disparity for frame in predict_video(Brightness(), video, temporal=temporal)])
        for temporal in (False, True)
    )
    assert steady.std(axis=0).mean() < 0.6 * plain.std(axis=0).mean()


# --- recordings ---


@pytest.fixture
def video(tmp_path):
    return StereoVideo(clip(tmp_path / "in.mp4", [np.hstack([view, view]) for view in flicker(7)]))


def asked(out, **changes):
    return Recording(out, {"input": "a"}, temporal=True, **changes)


def maps(out):
    return {path.name: path.read_bytes() for path in (out / "disparity").iterdir()}


def test_a_recording_that_was_stopped_goes_on(tmp_path, video):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    told = record(Brightness(), video, asked(whole))
    assert (told["frames"], told["frames_computed"], told["complete"], told["fps"]) == (7, 7, True, 25)
    assert json.loads((whole / "result.json").read_text()) == told
    frames = VideoReader(whole / PREVIEW)
    assert frames.stated == 7 and frames.grab() and frames.retrieve().shape == (H, 2 * W, 3)

    count = itertools.count(1)
    stopped = record(Brightness(), video, asked(parts), stopped=lambda: next(count) >= 3)
    assert (stopped["frames"], stopped["complete"]) == (3, False)
    assert not (parts / "result.json").exists() and VideoReader(parts / PREVIEW).stated == 3
    (parts / "disparity/000001.png").write_bytes(b"damaged")
    (parts / ".preview.0a1b2c3d.tmp.mp4").write_bytes(b"of a run that was killed")
    matcher = Brightness()
    told = record(matcher, video, asked(parts))
    assert (told["frames"], told["frames_computed"], matcher.calls) == (7, 5, 5)
    assert maps(parts) == maps(whole), "to the byte"
    assert (parts / PREVIEW).read_bytes() == (whole / PREVIEW).read_bytes(), "one range of colours"

    assert {path.name for path in parts.iterdir()} == {"disparity", PREVIEW, RUN, "result.json"}
    matcher = Brightness()
    assert record(matcher, video, asked(parts))["kept"] and matcher.calls == 0
    (parts / "mine.txt").write_text("")
    told = record(matcher, video, Recording(parts, {"input": "b"}, formats=("npy",)))
    assert (told["frames_computed"], len(maps(parts))) == (7, 7), "another request begins anew"
    assert (parts / "mine.txt").exists()


class Far(Brightness):
    """Its disparities plus ``by`` px; where that goes below 0, searched from there."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def predict(self, *views, **how):
        found = super().predict(*views, **how)
        disparity = np.maximum(found.disparity - 8, 0) if self.by == 0 else found.disparity + np.float32(self.by)
        ones = found.confidence
        low = min(0, int(self.by))
        return StereoPrediction(disparity, ones, ones > 0, 0.25, self.identity, 512, 0.0, min_disp=low)


@pytest.mark.parametrize("by", [300.3, 0, -100.3])
@pytest.mark.parametrize("formats", [("png",), ("png", "npy")])
def test_a_steadied_recording_goes_on_to_the_bit_in_any_range(tmp_path, video, by, formats):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    told = record(Far(by), video, asked(whole, formats=formats))
    assert (told["max_disp"], told["saturated_share"], told["saturated_share_largest"]) == (512, 0.25, 0.25)
    count = itertools.count(1)
    record(Far(by), video, asked(parts, formats=formats), stopped=lambda: next(count) >= 3)
    assert record(Far(by), video, asked(parts, formats=formats))["frames_computed"] == 4
    assert maps(parts) == maps(whole)


def test_wide_and_exact_formats(tmp_path, video):
    record(Far(300), video, Recording(tmp_path / "o", {}, formats=("png", "npy")))
    exact = np.load(tmp_path / "o/disparity/000000.npy")
    stored = read_disparity(tmp_path / "o/disparity/000000.png").disparity_HW
    assert exact.min() >= 300 and np.abs(stored - exact).max() <= 1 / 256


def test_with_a_calibration_every_frame_has_its_depth(tmp_path, video):
    rig = dl.StereoRig(fx=100, fy=100, cx=32, cy=16, baseline=0.1, width=W, height=H)
    record(Brightness(), video, Recording(tmp_path / "o", {}, formats=("npy",), rig=rig))
    for t in (0, 6):
        disparity = np.load(tmp_path / f"o/disparity/{t:06d}.npy")
        depth = np.load(tmp_path / f"o/depth/{t:06d}.npy")
        np.testing.assert_allclose(depth[depth > 0], 10 / disparity[depth > 0], rtol=1e-5)


def test_what_ends_early_keeps_what_is_written(tmp_path, video):
    with pytest.raises(InputError, match=r"^no such luck\.$"):
        record(Brightness(fails_at=1), video, asked(tmp_path / "none", colours=(0, 16)))
    out = tmp_path / "some"
    with pytest.raises(CheckFailedError, match=r"no such luck\. The 4 frames before that are in"):
        record(Brightness(fails_at=5), video, asked(out, colours=(0, 16)))
    assert len(maps(out)) == 4 and VideoReader(out / PREVIEW).stated == 4 and not (out / "result.json").exists()
    assert record(Brightness(), video, asked(out, colours=(0, 16)))["frames_computed"] == 3
    with pytest.raises(KeyboardInterrupt):
        record(Brightness(), video, asked(tmp_path / "hard"), step=_interrupt)
    names = {path.name for path in (tmp_path / "hard").iterdir()}
    assert names == {RUN, "disparity"}, "no half video"


def _interrupt(_):
    raise KeyboardInterrupt


def test_pictures_need_a_rate(tmp_path):
    left, right = scene(2)
    video = StereoVideo(folder(tmp_path / "l", left), folder(tmp_path / "r", right))
    with pytest.raises(InputError, match="--fps"):
        record(Brightness(), video, asked(tmp_path / "o"))
    assert record(Brightness(), video, asked(tmp_path / "o", fps=10.0))["fps"] == 10


class Camera:
    """A reader of two views side by side, ten a second, that never ends."""

    label, fps, stated = "camera 0", None, None

    def __init__(self, source):
        self.count = 0

    def grab(self):
        self.count += 1
        threading.Event().wait(0.1 if self.count > 1 else 0)
        return True

    def retrieve(self):
        return np.full((H, 2 * W, 3), min(self.count, 255), np.uint8)

    def close(self):
        pass


def test_a_camera_is_recorded_until_stopped_and_keeps_time(tmp_path, monkeypatch):
    monkeypatch.setattr(video_module, "VideoReader", Camera)
    video, count = StereoVideo(0), itertools.count(1)
    assert video.live and video.stated is None
    told = record(Brightness(), video, Recording(tmp_path / "o", {}), stopped=lambda: next(count) >= 6)
    assert (told["complete"], told["frames"]) == (True, 6)
    assert VideoReader(tmp_path / "o" / PREVIEW).stated in range(8, 30), "half a second at 25 frames a second"
    with pytest.raises(InputError, match="holds a recording"):
        record(Brightness(), video, Recording(tmp_path / "o", {}))
