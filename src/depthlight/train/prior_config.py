"""Settings of the task ``prior``."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import ConfigError
from ..data.mono import MonoAugmentConfig


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """What only the task ``prior`` has.

    ``coarse`` and ``native`` are patches per image at the two scales. ``near`` and ``shift`` are the ranges of scale
    and offset (:func:`depthlight.refine.patches.standard_raw`). ``drop_all`` is the share of patches that are told
    neither photo nor light, ``drop_light`` of those told the photo alone.
    """

    augment: MonoAugmentConfig = field(default_factory=MonoAugmentConfig)
    coarse: int = 3
    native: int = 5
    near: tuple[float, float] = (3.75, 6.65)  # refinement has 5
    shift: tuple[float, float] = (0.0, 1.0)
    drop_all: float = 0.1
    drop_light: float = 0.1

    def __post_init__(self) -> None:
        if min(self.coarse, self.native) < 0 or self.coarse + self.native < 1:
            raise ConfigError("prior.coarse and prior.native", expected="0 or more, together at least 1")
        if not 0 < self.near[0] <= self.near[1] or not 0 <= self.shift[0] <= self.shift[1] <= 1:
            raise ConfigError("prior.near and prior.shift", expected="0 < smallest <= largest; shift within 0..1")
        if min(self.drop_all, self.drop_light) < 0 or self.drop_all + self.drop_light > 1:
            raise ConfigError("prior.drop_all and prior.drop_light", expected="shares that sum to at most 1")
