"""What two real cameras do to a clean pair: light, lens, sensor, compression, and never quite the same twice.

The truth is not touched: the misrectification moves rows only, and only in the right view. Shape legend: H, W image
size; 3 = RGB, 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError
from .layers import to_bytes
from .scene import FloatImage

PHYSICAL = ("vignetting", "blur", "noise", "misrectification")
EFFECTS = ("exposure", "white_balance", *PHYSICAL, "jpeg", "gray")


@dataclass(frozen=True)
class CameraConfig:
    """Which effects, and how strong.

    Attributes:
        strength: 0 is off (the pair is only rounded to bytes), 1 the normal spread, up to 2.
        effects: out of :data:`EFFECTS`. Training pools use none or :data:`PHYSICAL` ones: the rest is drawn anew
            each time a pair is used.
        asymmetric: the views differ in exposure, colour, blur and noise; False gives both the same settings.
        symmetric_share: share of pairs whose views get the same settings although ``asymmetric`` is true.
        gray_share: share of pairs turned gray.
    """

    strength: float = 1.0
    effects: tuple[str, ...] = EFFECTS
    asymmetric: bool = True
    symmetric_share: float = 0.3
    gray_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 2:
            raise ConfigError(f"camera.strength is {self.strength}", expected="0 to 2")
        for name in self.effects:
            if name not in EFFECTS:
                raise ConfigError(f"camera.effects holds {name!r}", expected="any of " + ", ".join(EFFECTS))
        for name in ("symmetric_share", "gray_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"camera.{name} is {getattr(self, name)}", expected="0 to 1")


@dataclass(frozen=True)
class Sensor:
    """The settings of one camera for one picture; the defaults change nothing."""

    gain: float = 1.0
    gamma: float = 1.0
    offset: float = 0.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignetting: float = 0.0
    blur: float = 0.0
    read_noise: float = 0.0
    shot_noise: float = 0.0
    chroma_noise: bool = False
    jpeg: int = 100
    shift_y: float = 0.0
    tilt: float = 0.0
    gray: bool = False


def photograph(
    rng: np.random.Generator, left_HW3: FloatImage, right_HW3: FloatImage, config: CameraConfig
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both views as two cameras would have taken them, as bytes."""
    if config.strength == 0 or not config.effects:
        return to_bytes(left_HW3), to_bytes(right_HW3)
    left, right = sensors(rng, config)
    return expose(rng, left_HW3, left), expose(rng, right_HW3, right)


def sensors(rng: np.random.Generator, config: CameraConfig) -> tuple[Sensor, Sensor]:
    """Settings of the left and the right camera; only the right one is misrectified."""
    strength = config.strength
    base = _sensor(rng, strength)
    other = _nudged(rng, base, strength)
    same = not config.asymmetric or rng.random() < config.symmetric_share
    gray = bool(rng.random() < config.gray_share)
    off_rows = rng.random() < 0.4
    shift, tilt = float(rng.uniform(-0.5, 0.5)), float(rng.normal(0, 0.0006))
    left, right = replace(base, gray=gray), replace(base if same else other, gray=gray)
    if off_rows:
        right = replace(right, shift_y=shift * min(strength, 1.0), tilt=tilt * strength)
    return _only(left, config.effects), _only(right, config.effects)


def _sensor(rng: np.random.Generator, k: float) -> Sensor:
    warmth, tint = rng.normal(0, 0.06 * k), rng.normal(0, 0.025 * k)
    return Sensor(
        gain=float(np.exp(rng.normal(0, 0.2 * k))),
        gamma=float(np.exp(rng.normal(0, 0.15 * k))),
        offset=float(rng.normal(0, 4 * k)),
        balance=(float(np.exp(warmth)), float(np.exp(tint)), float(np.exp(-warmth))),
        vignetting=float(max(0.0, rng.normal(0, 0.2 * k))),
        blur=float(rng.uniform(0.25, 0.9) * k) if rng.random() < 0.5 else 0.0,
        read_noise=float(rng.exponential(1.2) * k),
        shot_noise=float(rng.exponential(0.12) * k),
        chroma_noise=bool(rng.random() < 0.5),
        jpeg=int(rng.integers(60, 97)) if rng.random() < 0.3 else 100,
    )


def _nudged(rng: np.random.Generator, base: Sensor, k: float) -> Sensor:
    """The second camera of a pair: near the first, not the same."""
    wobble = np.exp(rng.normal(0, 0.03 * k, 3))
    red, green, blue = base.balance
    return replace(
        base,
        gain=base.gain * float(np.exp(rng.normal(0, 0.08 * k))),
        gamma=base.gamma * float(np.exp(rng.normal(0, 0.05 * k))),
        offset=base.offset + float(rng.normal(0, 2 * k)),
        balance=(red * float(wobble[0]), green * float(wobble[1]), blue * float(wobble[2])),
        vignetting=base.vignetting * float(rng.uniform(0.5, 1.5)),
        blur=max(0.0, base.blur + float(rng.normal(0, 0.25 * k))) if rng.random() < 0.5 else base.blur,
        read_noise=base.read_noise * float(rng.uniform(0.5, 2)),
    )


KEYS = {
    "exposure": ("gain", "gamma", "offset"),
    "white_balance": ("balance",),
    "vignetting": ("vignetting",),
    "blur": ("blur",),
    "noise": ("read_noise", "shot_noise", "chroma_noise"),
    "jpeg": ("jpeg",),
    "misrectification": ("shift_y", "tilt"),
    "gray": ("gray",),
}


def _only(sensor: Sensor, effects: tuple[str, ...]) -> Sensor:
    """``sensor`` with everything outside ``effects`` at its neutral value."""
    kept = {key for effect in effects for key in KEYS[effect]}
    return Sensor(**{field.name: getattr(sensor, field.name) for field in fields(sensor) if field.name in kept})


def expose(rng: np.random.Generator, image_HW3: FloatImage, sensor: Sensor) -> NDArray[np.uint8]:
    """One picture: rows off, lens, light, sensor noise, gray, bytes, JPEG, in this order."""
    image = _rows_moved(image_HW3, sensor) if sensor.shift_y or sensor.tilt else image_HW3.copy()
    if sensor.blur > 0.2:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sensor.blur), np.float32)
    if sensor.vignetting:
        image *= _falloff(image.shape[0], image.shape[1], sensor.vignetting)
    image = _response(image, sensor)
    if sensor.read_noise or sensor.shot_noise:
        channels = 3 if sensor.chroma_noise else 1
        noise = rng.standard_normal((*image.shape[:2], channels), dtype=np.float32)
        spread = np.sqrt(np.float32(sensor.read_noise**2) + np.float32(sensor.shot_noise) * np.clip(image, 0, 255))
        image += noise * spread
    if sensor.gray:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        image = np.repeat((image @ weights)[..., None], 3, axis=2)
    out = to_bytes(image)
    if sensor.jpeg < 100:
        _, data = cv2.imencode(".jpg", out[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg])
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        out = np.ascontiguousarray(decoded[:, :, ::-1])
    return out


def _response(image_HW3: FloatImage, sensor: Sensor) -> FloatImage:
    """Gain, white balance, gamma and offset."""
    neutral = Sensor()
    if (sensor.gain, sensor.gamma, sensor.offset, sensor.balance) == (1.0, 1.0, 0.0, neutral.balance):
        return image_HW3
    scale = np.array(sensor.balance, np.float32) * np.float32(sensor.gain / 255)
    image = np.clip(image_HW3 * scale, 1e-4, 1.2)
    image = cv2.pow(image, sensor.gamma)
    return np.asarray(image * np.float32(255) + np.float32(sensor.offset), np.float32)


def _falloff(height: int, width: int, strength: float) -> FloatImage:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return np.asarray((1 / (1 + np.float32(strength) * (x**2 + y**2) / 2) ** 2)[..., None], np.float32)


def _rows_moved(image_HW3: FloatImage, sensor: Sensor) -> FloatImage:
    """Each column shifted vertically by shift_y + tilt·(x − centre); x stays, so disparities hold."""
    height, width = image_HW3.shape[:2]
    inverse = np.array([[1, 0, 0], [sensor.tilt, 1, sensor.shift_y - sensor.tilt * width / 2]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image_HW3, inverse, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)
