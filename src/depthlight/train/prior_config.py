"""Settings of the task ``prior``."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import ConfigError
from ..data.mono import MonoAugmentConfig


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """What only the task ``prior`` has.

    ``coarse`` and ``native`` are patches per image at the two scales. ``drop_all`` is the share of patches that are
    told neither photo nor light, ``drop_light`` of those told the photo alone.

    ``wrong`` is the share of patches that are lit by a wrong map (:mod:`.wrong_depth`), from which the true picture is
    still to be found. Half of the wrong maps begin with the answers of ``estimator``, a depth model of single photos;
    where none is named, all are made from the truth.
    """

    augment: MonoAugmentConfig = field(default_factory=MonoAugmentConfig)
    coarse: int = 3
    native: int = 5
    drop_all: float = 0.1
    drop_light: float = 0.1
    wrong: float = 0.0
    estimator: str = ""

    def __post_init__(self) -> None:
        if min(self.coarse, self.native) < 0 or self.coarse + self.native < 1:
            raise ConfigError("prior.coarse and prior.native", expected="0 or more, together at least 1")
        if min(self.drop_all, self.drop_light) < 0 or self.drop_all + self.drop_light > 1:
            raise ConfigError("prior.drop_all and prior.drop_light", expected="shares that sum to at most 1")
        if not 0 <= self.wrong <= 1:
            raise ConfigError(f"prior.wrong is {self.wrong}", expected="a share, 0 to 1")
        if self.estimator and not self.wrong:
            raise ConfigError("prior.estimator is for wrong maps", expected="prior.wrong above 0")
