"""What a stereo refinement is made of: a frozen configuration, read from ``recipes/stereo/*.toml``. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.config import from_dict, to_dict
from ..core.errors import ConfigError
from ..core.recipes import Recipes
from ..infer.passes import LARGEST, SCALES
from .config import LARGEST_SEED

RECIPES = Recipes(Path(__file__).parent / "recipes" / "stereo", "stereo recipe")
Adapted = Literal["logits", "upsample", "disparity"]
_ADAPTED: tuple[Adapted, ...] = ("logits", "upsample", "disparity")
_LARGEST_SCALE = 4.0
_MOST = {"seed": LARGEST_SEED, "steps": 10**6, "lights": 256}


@dataclass(frozen=True, kw_only=True)
class StereoRefineConfig:
    """One stereo refinement. The defaults are those of the recipe ``fast``.

    Attributes:
        steps: of the optimisation.
        optimise: what is adapted. ``logits``: a residual on the aggregated volume's scores; ``upsample``: a residual on
            the scores of the convex upsampling; ``disparity``: a residual on the full-size answer.
        lr_logits, lr_upsample, lr_disparity: learning rates (Adam) of the groups; the last in px.
        scales: enlargements, 1 to 4, at each of which the network sees the pair upright and upside down; the result
            stays close to the median of these passes and the plain one. Empty: the plain answer itself.
        largest: px of an enlarged image; larger ones are enlarged less, and a scale that would then hardly differ from
            a smaller one is left out.
        photometric: weight of the reconstruction of the left view from the right one.
        smoothness: weight of the edge-aware curvature.
        closeness: weight of the distance to the passes' median.
        relight: weight of the re-lighting prior (:mod:`depthlight.refine.stereo_relight`); 0 does without.
        lights: re-lit views per step.
        seed: of their lights and noise.
        agreement: px; the closeness counts ``exp(-spread / agreement)`` where the passes differ by ``spread``. Large by
            default: where they differ, their confident middle is still better than the plain answer.
        visible: px; pixels whose left-right difference is above it count as hidden from the right view.
    """

    steps: int = 40
    optimise: tuple[Adapted, ...] = ("logits", "upsample")
    lr_logits: float = 0.1
    lr_upsample: float = 0.1
    lr_disparity: float = 0.05
    scales: tuple[float, ...] = SCALES
    largest: int = LARGEST
    photometric: float = 3.0
    smoothness: float = 3.0
    closeness: float = 1.0
    relight: float = 0.0
    lights: int = 2
    seed: int = 0
    agreement: float = 100.0
    visible: float = 1.0

    def __post_init__(self) -> None:
        for name in ("photometric", "smoothness", "closeness", "relight", "seed"):
            _need(name, getattr(self, name), positive=False)
        for name in ("steps", "lr_logits", "lr_upsample", "lr_disparity", "largest", "lights", "agreement", "visible"):
            _need(name, getattr(self, name), positive=True)
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{name} is {getattr(self, name)}", expected=f"at most {most}")
        rising = [*self.scales] == sorted({*self.scales})
        if not (rising and all(1 <= scale <= _LARGEST_SCALE for scale in self.scales)):
            raise ConfigError(f"scales are {list(self.scales)}", expected="rising numbers from 1 to 4")
        if len({*self.optimise}) != len(self.optimise) or not {*self.optimise} <= {*_ADAPTED}:
            raise ConfigError(f"optimise is {[*self.optimise]}", expected=f"any of {', '.join(_ADAPTED)}, each once")
        if not self.optimise:
            raise ConfigError("optimise is empty", expected=", ".join(_ADAPTED))


def _need(name: str, value: float, *, positive: bool) -> None:
    if not (math.isfinite(value) and (value > 0 if positive else value >= 0)):
        raise ConfigError(f"{name} is {value}", expected="above 0" if positive else "0 or more")


def load_stereo_recipe(recipe: str, overrides: Mapping[str, Any] | None = None) -> StereoRefineConfig:
    """The configuration of a recipe, or of a TOML file, with ``overrides`` (None values left out) laid over it.

    Raises:
        UnknownNameError: no such recipe or setting.
        InputError, FileFormatError: the file is missing, or is no TOML.
        ConfigError: a value is refused.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return from_dict(StereoRefineConfig, {**RECIPES.read(recipe), **given})


def stereo_changed(config: StereoRefineConfig, overrides: Mapping[str, Any]) -> StereoRefineConfig:
    """``config`` with ``overrides`` (None values left out) laid over it."""
    given = {key: value for key, value in overrides.items() if value is not None}
    return from_dict(StereoRefineConfig, {**to_dict(config), **given})
