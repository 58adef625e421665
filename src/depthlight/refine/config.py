"""What a refinement is made of: frozen configurations, read from a recipe (``recipes/*.toml``). Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..core.config import from_dict, to_dict
from ..core.errors import ConfigError
from ..core.recipes import Recipes

RECIPES = Recipes(Path(__file__).parent / "recipes")
LARGEST = 4096  # px, of what a network works at
LARGEST_SEED = 2**40  # torch's generators take 64 bits, and every restart has its own
LARGEST_RATE = 1e3
LEAST_RENDER = 8  # px
_MOST = {
    "longest": LARGEST,
    "render": LARGEST,
    "seed": LARGEST_SEED,
    "steps": 10**6,
    "restarts": 10**4,
    "lights": 256,
    "lr_tokens": LARGEST_RATE,
    "lr_head": LARGEST_RATE,
    "lr_offset": LARGEST_RATE,
    "lr_depth": LARGEST_RATE,
}
Group = Literal["tokens", "head", "offset", "depth"]


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """How the prior guides. What is None is the prior's own default.

    Attributes:
        weight: of the guidance in the loss; 0 turns it off.
        scale: g of ``eps = eps_cond + g (eps_cond - eps_uncond)``, the paper's convention; the usual one is 1 + g.
        t_high, t_low: noise levels, shares of the prior's schedule (0..1).
        anneal: go from t_high to t_low over the run, instead of drawing between them.
        weighting: of the noise levels; ``image`` is the small priors' own, and only theirs.
        prompt: of priors that take text; None leaves it to the prior (a caption, or none).
        captioner: hub id or folder of the model that makes the caption; None is BLIP large.
    """

    weight: float = 1.0
    scale: float | None = None
    t_high: float | None = None
    t_low: float | None = None
    anneal: bool | None = None
    weighting: Literal["uniform", "sds", "fantasia3d", "image"] | None = None
    prompt: str | None = None
    captioner: str | None = None

    def __post_init__(self) -> None:
        _need_numbers(self, ("weight", "scale"), where="guidance.")
        low = 0.0 if self.t_low is None else self.t_low
        high = 1.0 if self.t_high is None else self.t_high
        if not 0 <= low <= high <= 1:
            raise ConfigError(
                f"guidance.t_low is {self.t_low} and guidance.t_high {self.t_high}",
                expected="0 <= t_low <= t_high <= 1",
            )


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """One refinement. The defaults are the paper's (Re-Depth Anything, arXiv 2512.17908).

    Attributes:
        longest: longest side the network works at, px, each side a multiple of the network's; 0 = the network's own.
        render: shorter side of the re-lit photos, px, where the working size is larger; 0 = the working size.
        steps: of each restart.
        restarts: independent runs; the result is the mean of their raw answers.
        lights: re-lit photos per step.
        optimise: the groups. ``tokens``: the maps between encoder and head; ``head``: the head's weights; ``offset``:
            the scale offset of the pseudo depth; ``depth``: the raw map itself, which excludes tokens and head.
        lr_tokens, lr_head, lr_offset, lr_depth: learning rates of the groups.
        weight_decay: AdamW's.
        residual: optimise what is added to the tokens, so that weight decay pulls to the start and not to zero.
        min_stride: optimise only token maps at least this much coarser than the working size; 0 = all.
        smoothness: weight of the mean absolute Laplacian; 0 turns it off.
        anchored: weight of the distance from measured depth, as a share of the map's range, where some is given.
        scale, shift: of the pseudo depth ``(scale + tanh(offset)) / (raw + shift)``.
        unit: of the raw values that enter the pseudo depth: the network's own, or ``standard``: the scale at which the
            small priors have seen depth (:func:`depthlight.refine.patches.standard_raw`), settled by the first answer.
        camera: behind the normals: the paper's orthographic one, or a pinhole, which needs ``focal``.
        focal: focal length of the pinhole as a multiple of the longer side, where the photo's own is not given.
        normals: sign of their x and y, see :mod:`depthlight.refine.render`.
        scored: what the prior sees: the re-lit photo, or the raw map itself as a gray picture (an ablation).
        upsample: how the change of the depth is brought to the photo's size.
        seed: of lights and noise. Same seed, same threads, same device: same bits.
        guidance: how the prior guides.
    """

    longest: int = 518
    render: int = 0
    steps: int = 1000
    restarts: int = 10
    lights: int = 1
    optimise: tuple[Group, ...] = ("tokens", "head", "offset")
    lr_tokens: float = 1e-3
    lr_head: float = 2e-6
    lr_offset: float = 1e-3
    lr_depth: float = 1e-3
    weight_decay: float = 0.01
    residual: bool = False
    min_stride: int = 0
    smoothness: float = 1.0
    anchored: float = 10.0
    scale: float = 7.0
    shift: float = 0.1
    unit: Literal["network", "standard"] = "network"
    camera: Literal["orthographic", "pinhole"] = "orthographic"
    focal: float = 1.0
    normals: Literal["surface", "paper"] = "paper"
    scored: Literal["relit", "depth"] = "relit"
    upsample: Literal["bilinear", "guided"] = "bilinear"
    seed: int = 0
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)

    def __post_init__(self) -> None:
        _need_numbers(self, ("longest", "render", "weight_decay", "min_stride", "smoothness", "anchored", "seed"))
        rates = ("lr_tokens", "lr_head", "lr_offset", "lr_depth")
        _need_numbers(self, ("steps", "restarts", "lights", *rates, "shift", "focal"), positive=True)
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{name} is {getattr(self, name)}", expected=f"at most {most}")
        if 0 < self.render < LEAST_RENDER:
            raise ConfigError(f"render is {self.render}", expected=f"0, or {LEAST_RENDER} and more")
        if not 1 < self.scale < math.inf:
            raise ConfigError(f"scale is {self.scale}", expected="a finite number above 1")
        groups = set(self.optimise)
        if len(groups) != len(self.optimise) or not groups - {"offset"}:
            raise ConfigError(f"optimise is {list(self.optimise)}", expected="tokens, head or depth, each once")
        if "depth" in groups and groups & {"tokens", "head"}:
            raise ConfigError(f"optimise is {list(self.optimise)}", expected="depth without tokens and head")


def _need_numbers(config: Any, names: tuple[str, ...], *, positive: bool = False, where: str = "") -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and (value > 0 if positive else value >= 0)):
            raise ConfigError(f"{where}{name} is {value}", expected="above 0" if positive else "0 or more")


def load_recipe(recipe: str, overrides: Mapping[str, Any] | None = None) -> RefineConfig:
    """The configuration of a recipe, or of a TOML file, with ``overrides`` laid over it.

    Args:
        recipe: a name from ``RECIPES``, or a path ending in ``.toml``.
        overrides: field names to values; ``guidance`` may be a mapping of its own. None values are left out.

    Raises:
        UnknownNameError: no such recipe or setting.
        InputError, FileFormatError: the file is missing, or is no TOML.
        ConfigError: a value is refused.
    """
    return from_dict(RefineConfig, _laid_over(RECIPES.read(recipe), overrides or {}))


def changed(config: RefineConfig, overrides: Mapping[str, Any]) -> RefineConfig:
    """``config`` with ``overrides`` laid over it, as by :func:`load_recipe`."""
    return from_dict(RefineConfig, _laid_over(to_dict(config), overrides))


def _laid_over(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in overrides.items() if value is not None}
    guidance = {key: value for key, value in given.pop("guidance", {}).items() if value is not None}
    return {**values, **given, "guidance": {**values.get("guidance", {}), **guidance}}


def without_guidance(config: RefineConfig) -> RefineConfig:
    """The same refinement with nothing but smoothness to follow (``--prior none``)."""
    return replace(config, guidance=replace(config.guidance, weight=0.0))
