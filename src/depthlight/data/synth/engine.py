"""The engine: (seed, index) → a stereo pair with exact truth.

Shape legend: H, W image size; 3 = RGB. Every sample has its own random generator, seeded by (seed, index): any sample
can be made alone, in any order, in any process, and comes out the same to the byte.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError, InputError, UnknownNameError
from ..samples import StereoSample
from .camera import CameraConfig, photograph
from .layers import MIN_DISPARITY
from .library import MeshLibrary
from .scene import FloatImage, RenderedPair
from .textures import Palette, Textures

# Family name → the module of this package that holds a function of that name.
FAMILIES = {"layered": "layered", "meshes": "meshes", "photowarp": "photowarp", "rooms": "rooms"}
# Raised from 1 when a family makes other scenes of the same seed.
VERSIONS = {"layered": 3, "meshes": 1, "photowarp": 2, "rooms": 2}
DEFAULT_MIXTURE = {"layered": 0.40, "meshes": 0.25, "photowarp": 0.20, "rooms": 0.15}
OCCLUSION_TOLERANCE = 0.5  # px; see :func:`visible_mask`
LARGEST_DISPARITY = 240.0  # leaves room below the 255.99 px of a 16-bit disparity PNG

Make = Callable[[np.random.Generator, int, int, float, Palette], RenderedPair]


@dataclass(frozen=True)
class SynthConfig:
    """What the engine makes.

    Attributes:
        seed: with the sample's index, all there is to its randomness.
        height, width: px.
        families: weight of each scene family, normalised to 1.
        min_max_disp, max_max_disp: px; the largest disparity of a scene is log-uniform between them.
        textures: a folder of images; None takes scikit-image's photographs if installed, and patterns.
        meshes: a folder of OBJ files (or archives of them) for the families that use meshes; None: built-in shapes.
        mesh_cache: a folder for parsed models, which load many times faster; None for none.
        texture_cache_mb: decoded images kept per process.
        camera: see :class:`CameraConfig`.
    """

    seed: int = 0
    height: int = 288
    width: int = 640
    families: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_MIXTURE))
    min_max_disp: float = 8.0
    max_max_disp: float = 190.0
    textures: str | None = None
    meshes: str | None = None
    mesh_cache: str | None = None
    texture_cache_mb: int = 400
    camera: CameraConfig = field(default_factory=CameraConfig)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}", expected="0 or more")
        if not (64 <= self.height <= 4096 and 64 <= self.width <= 4096):
            raise ConfigError(f"size is {self.height}x{self.width}", expected="64 to 4096 px on each side")
        if not 1 <= self.min_max_disp <= self.max_max_disp <= LARGEST_DISPARITY:
            raise ConfigError(
                f"range of the largest disparity is {self.min_max_disp} to {self.max_max_disp} px",
                expected=f"1 <= min_max_disp <= max_max_disp <= {LARGEST_DISPARITY:g}",
            )
        if not self.families or min(self.families.values()) < 0 or sum(self.families.values()) <= 0:
            raise ConfigError(f"families are {self.families}", expected="weights >= 0, at least one above 0")
        for name in self.families:
            if name not in FAMILIES:
                raise UnknownNameError("scene family", name, FAMILIES)


class Engine:
    """Makes samples of a :class:`SynthConfig`; holds nothing but caches.

    Raises:
        InputError: the textures or meshes folder does not exist or is empty, or a family is not installed.
    """

    def __init__(self, config: SynthConfig) -> None:
        self.config = config
        self.textures = Textures(config.textures, cache_mb=config.texture_cache_mb)
        weights = {name: weight for name, weight in sorted(config.families.items()) if weight > 0}
        self._names = list(weights)
        self._shares = np.array(list(weights.values())) / sum(weights.values())
        library = None if config.meshes is None else MeshLibrary(config.meshes, cache=config.mesh_cache)
        self._families = {name: _family(name, library) for name in weights}

    def sample(self, index: int) -> StereoSample:
        """Sample ``index`` (0 or more).

        ``disparity_HW``, ``right_disparity_HW``: exact, every pixel valid, at least 1/256 px (the smallest value a
        disparity PNG can hold). ``visible_HW``: :func:`visible_mask`. ``extra``: family, seed, index, max_disp (px, of
        this sample's left view) and ``calibration``: fx, fy, cx, cy (px), baseline (m), doffs (px). That is the camera
        that a scene in perspective was rendered with; of layers and photo warps, which have no metres, it is nominal.
        """
        if index < 0:
            raise InputError(f"sample index is {index}", expected="0 or more")
        config = self.config
        rng = np.random.default_rng([config.seed, index])
        name = self._names[rng.choice(len(self._names), p=self._shares)]
        max_disp = float(np.exp(rng.uniform(np.log(config.min_max_disp), np.log(config.max_max_disp))))
        calibration = _calibration(rng, config.height, config.width)
        palette = self.textures.palette(rng, int(rng.integers(2, 9)), int(rng.integers(2, 12)))
        pair = self._families[name](rng, config.height, config.width, max_disp, palette)
        if pair.camera is not None:
            focal, horizon, baseline = pair.camera
            calibration |= {"fx": focal, "fy": focal, "cy": horizon, "baseline": baseline}
        _check(pair, f"family {name}, seed {config.seed}, index {index}")
        left, right = photograph(rng, pair.left_HW3, pair.right_HW3, config.camera)
        disparity = np.maximum(pair.disparity_HW, np.float32(MIN_DISPARITY))
        right_disparity = np.maximum(pair.right_disparity_HW, np.float32(MIN_DISPARITY))
        return StereoSample(
            left_HW3=left,
            right_HW3=right,
            name=f"{index:06d}",
            disparity_HW=disparity,
            valid_HW=np.ones(disparity.shape, np.bool_),
            visible_HW=visible_mask(disparity, right_disparity),
            right_disparity_HW=right_disparity,
            extra={
                "family": name,
                "seed": config.seed,
                "index": index,
                "max_disp": float(disparity.max()),
                "calibration": calibration,
            },
        )


def plain_pairs(
    count: int, *, seed: int, size: tuple[int, int], family: str = "layered", largest: float = 150.0
) -> list[StereoSample]:
    """``count`` pairs of one family and ``size`` (height, width), camera effects off, the same at every call.

    Args:
        largest: disparity, px.

    Raises:
        InputError: the family is not part of this installation.
        MissingExtraError: it needs an extra that is not installed.
    """
    height, width = size
    camera = CameraConfig(strength=0.0)
    config = SynthConfig(
        seed=seed, height=height, width=width, families={family: 1.0}, max_max_disp=largest, camera=camera
    )
    engine = Engine(config)
    return [engine.sample(index) for index in range(count)]


def visible_mask(
    disparity_HW: FloatImage, right_disparity_HW: FloatImage, tolerance: float = OCCLUSION_TOLERANCE
) -> NDArray[np.bool_]:
    """True where a left pixel is seen in the right view.

    A pixel at x lands on x − d. It is seen if that is inside the image and the right view's truth there is within
    ``tolerance`` px of d: at a pixel at most 0.75 px away, or interpolated between the two neighbours (slanted
    surfaces). So edges are generous by at most 0.25 px, and a surface hidden by one less than ``tolerance`` px nearer
    counts as seen.
    """
    width = disparity_HW.shape[1]
    landing = np.arange(width, dtype=np.float32)[None, :] - disparity_HW
    inside = landing >= 0
    landing = np.clip(landing, 0, width - 1)
    low = landing.astype(np.int32)
    high = np.minimum(low + 1, width - 1)
    share = landing - low
    before = np.take_along_axis(right_disparity_HW, low, axis=1) - disparity_HW
    after = np.take_along_axis(right_disparity_HW, high, axis=1) - disparity_HW
    agrees = (np.abs(before) <= tolerance) & (share <= 0.75)
    agrees |= (np.abs(after) <= tolerance) & (share >= 0.25)
    agrees |= np.abs(before + (after - before) * share) <= tolerance
    return np.asarray(inside & agrees, np.bool_)


def _calibration(rng: np.random.Generator, height: int, width: int) -> dict[str, float]:
    focal = float(width * rng.uniform(0.6, 1.4))
    baseline = float(np.exp(rng.uniform(np.log(0.05), np.log(0.6))))
    centre = {"cx": (width - 1) / 2, "cy": (height - 1) / 2}
    return {"fx": focal, "fy": focal, **centre, "baseline": baseline, "doffs": 0.0}


def _family(name: str, library: MeshLibrary | None) -> Make:
    """The function of a family, bound to the models if it takes some."""
    module = f"{__package__}.{FAMILIES[name]}"
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != module:
            raise
        known = ", ".join(f"{other}={DEFAULT_MIXTURE[other]:g}" for other in FAMILIES if other != name)
        raise InputError(
            f"scene family {name!r} is not part of this installation", hint=f"Leave it out, as in --families {known}"
        ) from None
    if library is not None and "library" in inspect.signature(function).parameters:
        return functools.partial(function, library=library)
    return function  # type: ignore[no-any-return]


def _check(pair: RenderedPair, where: str) -> None:
    """A family's mistake ends here, not as NaN in a training set."""
    for label in ("left_HW3", "right_HW3", "disparity_HW", "right_disparity_HW"):
        values: FloatImage = getattr(pair, label)
        if not np.isfinite(values).all():
            raise InputError(f"{where}: {label} is not finite", expected="finite values", hint="Report this scene")
    if min(pair.disparity_HW.min(), pair.right_disparity_HW.min()) < 0:
        raise InputError(f"{where}: a disparity is negative", expected="0 or more", hint="Report this scene")
