"""The camera model: off is off, the two views differ, rows move and columns do not."""

from __future__ import annotations

import numpy as np

from depthlight.data.synth.camera import EFFECTS, CameraConfig, Sensor, expose, photograph, sensors


def ramp() -> np.ndarray:
    y, x = np.mgrid[:64, :96].astype(np.float32)
    return np.stack([x * 2, y * 3, x + y], axis=2)


def test_strength_zero_only_rounds() -> None:
    image = ramp() + np.float32(0.3)
    left, right = photograph(np.random.default_rng(0), image, image, CameraConfig(strength=0.0))
    assert np.array_equal(left, np.rint(image).astype(np.uint8))
    assert np.array_equal(left, right)


def test_symmetric_cameras_share_everything_but_noise_and_rows() -> None:
    for seed in range(20):
        config = CameraConfig(asymmetric=False, effects=tuple(e for e in EFFECTS if e != "misrectification"))
        left, right = sensors(np.random.default_rng(seed), config)
        assert left == right


def test_asymmetric_cameras_mostly_differ() -> None:
    drawn = [sensors(np.random.default_rng(seed), CameraConfig()) for seed in range(60)]
    differ = np.mean([left.gain != right.gain for left, right in drawn])
    assert 0.5 < differ < 0.9
    assert all(left.gray == right.gray and left.shift_y == 0 for left, right in drawn)
    assert 0.1 < np.mean([left.gray for left, _ in drawn]) < 0.4
    assert max(abs(right.shift_y) for _, right in drawn) <= 0.5


def test_effects_not_asked_for_stay_neutral() -> None:
    for seed in range(20):
        left, right = sensors(np.random.default_rng(seed), CameraConfig(effects=("noise",)))
        for sensor in (left, right):
            assert (sensor.gain, sensor.blur, sensor.jpeg, sensor.gray, sensor.shift_y) == (1.0, 0.0, 100, False, 0.0)


def test_misrectification_moves_rows_only() -> None:
    moved = expose(np.random.default_rng(0), ramp(), Sensor(shift_y=0.5))
    clean = expose(np.random.default_rng(0), ramp(), Sensor())
    inner = (slice(2, -2), slice(2, -2))
    assert np.array_equal(moved[..., 0][inner], clean[..., 0][inner])  # depends on x alone
    rise = moved[..., 1][inner].astype(int) - clean[..., 1][inner]
    assert abs(rise.mean() - 3 * 0.5) <= 0.5 and rise.min() >= 1  # 3 gray levels a row, half a row


def test_noise_has_the_stated_spread() -> None:
    flat = np.full((200, 200, 3), 128, np.float32)
    noisy = expose(np.random.default_rng(1), flat, Sensor(read_noise=4.0, chroma_noise=True)).astype(np.float32)
    assert abs(noisy.std() - 4) < 0.2
    assert abs(noisy.mean() - 128) < 0.2
