"""The standard ways to measure, as data: which pixels, which cap, how averaged, which figure is quoted.

A protocol travels with every result, so that a number can never be read under the wrong rules. Where a benchmark's
papers differ, the rules are those of the Lite Any Stereo evaluation (train splits, no test-time augmentation, no
resizing), because ours are compared with theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from ..core.config import to_dict
from ..core.errors import ConfigError, InputError, UnknownNameError
from ..data.readers.drivingstereo import WEATHERS
from .metrics import StereoMetrics

Mask = Literal["all", "noc"]
Averaging = Literal["scenes", "pixels"]
METRICS = tuple(field.name for field in fields(StereoMetrics))


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One figure a benchmark quotes: the mean over scenes, or pooled over the pixels of all scenes."""

    metric: str
    average: Averaging = "scenes"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UnknownNameError("metric", self.metric, METRICS)
        if self.average not in get_args(Averaging):
            raise UnknownNameError("averaging", self.average, get_args(Averaging))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How to measure.

    Attributes:
        mask: the ground-truth pixels the headline is over: all, or the non-occluded ones.
        cap: ground-truth pixels at or beyond this disparity (px) do not count anywhere; ``None`` counts them all.
        max_disp: the disparity range (px) the matcher is asked for.
        headline: the figures the benchmark quotes.
        description: the rules in words.
    """

    name: str
    description: str
    headline: tuple[Headline, ...]
    mask: Mask = "all"
    cap: float | None = None
    max_disp: int = 192

    def __post_init__(self) -> None:
        if self.mask not in get_args(Mask):
            raise UnknownNameError("mask", self.mask, get_args(Mask))
        if self.cap is not None and not (math.isfinite(self.cap) and self.cap > 0):
            raise ConfigError(f"protocol {self.name}: cap is {self.cap}", expected="a positive number of px, or none")
        if self.max_disp < 1:
            raise ConfigError(f"protocol {self.name}: max_disp is {self.max_disp}", expected="at least 1 px")
        if not self.headline:
            raise ConfigError(f"protocol {self.name} quotes nothing", expected="at least one headline figure")

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping for the result; ``cap`` is there even when it is ``None``."""
        return {**to_dict(self), "cap": self.cap}


def _middlebury(letter: str, size: str) -> Protocol:
    return Protocol(
        name=f"middlebury-{letter}",
        description=f"Middlebury v3 training pairs at {size} resolution, one pass at that size: bad2 over "
        "non-occluded pixels with truth < 192 px, mean over images",
        headline=(Headline(metric="bad2"),),
        mask="noc",
        cap=192.0,
    )


_DRIVING = (Headline(metric="d1", average="pixels"), Headline(metric="epe"))
_ALL = (
    Protocol(
        name="default",
        description="one forward pass at input size, range 0-192, no test-time augmentation; all ground-truth pixels, "
        "also beyond 192 px, neither valid nor confidence removes one; mean over scenes (public28)",
        headline=tuple(Headline(metric=metric) for metric in ("epe", "bad1", "bad2", "d1")),
    ),
    Protocol(
        name="kitti",
        description="KITTI 2012/2015 training frames, all (occluded too) ground-truth pixels < 192 px: D1 pooled over "
        "the pixels of all frames, EPE as mean over frames",
        headline=_DRIVING,
        cap=192.0,
    ),
    _middlebury("q", "quarter"),
    _middlebury("h", "half"),
    _middlebury("f", "full"),
    Protocol(
        name="eth3d",
        description="ETH3D two-view training pairs: bad1 over non-occluded pixels, no cap, mean over images",
        headline=(Headline(metric="bad1"),),
        mask="noc",
    ),
    Protocol(
        name="drivingstereo",
        description="DrivingStereo weather subsets at full size, ground-truth pixels < 192 px: D1 pooled over the "
        "pixels of all frames, EPE as mean over frames",
        headline=_DRIVING,
        cap=192.0,
    ),
    Protocol(
        name="sceneflow",
        description="SceneFlow test frames, all ground-truth pixels < 192 px: EPE as mean over frames",
        headline=(Headline(metric="epe"),),
        cap=192.0,
    ),
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ALL})


# Of which part of a public set a protocol speaks: protocol, reader, its option, what that may be.
PARTS: Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {
        **{f"middlebury-{size}": {"middlebury": {"size": (size,)}} for size in "qhf"},
        "drivingstereo": {"drivingstereo": {"size": ("full",), "split": WEATHERS}},
        "sceneflow": {"sceneflow": {"split": ("test",)}},
    }
)


def reader_options(protocol: Protocol, reader: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a public set's reader with those that the protocol settles.

    Raises:
        InputError: one contradicts the protocol, or the protocol leaves a choice and none was made.
    """
    options = dict(given)
    for name, allowed in PARTS.get(protocol.name, {}).get(reader, {}).items():
        value = options.setdefault(name, allowed[0] if len(allowed) == 1 else None)
        if value not in allowed:
            said = "is not given" if value is None else f"is {value}"
            raise InputError(
                f"the option {name} of {reader} {said}, and protocol {protocol.name} speaks of another part of the set",
                expected=f"{name} = {' or '.join(allowed)}",
                hint="Or take the protocol default",
            )
    return options


def get_protocol(name: str = "default") -> Protocol:
    """The protocol of that name; ``public28`` is another name for ``default``.

    Raises:
        UnknownNameError: there is none; the nearest is offered.
    """
    name = "default" if name == "public28" else name
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
