"""Configurations round-trip, and refuse what they do not know."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthlight.core.config import from_dict, to_dict
from depthlight.core.errors import ConfigError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ConfigError(f"rate is {self.rate}", expected="at least 0")


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    kind: Literal["a", "b"] = "a"
    size: tuple[int, int] = (1, 2)
    inner: Inner = field(default_factory=Inner)
    weights: dict[str, float] = field(default_factory=dict)
    folder: str | None = None
    many: tuple[Inner, ...] = ()


@given(
    st.integers(),
    st.sampled_from(["a", "b"]),
    st.tuples(st.integers(), st.integers()),
    st.floats(0, 1e9),
    st.dictionaries(st.text(), st.floats(allow_nan=False)),
    st.none() | st.text(),
    st.lists(st.floats(0, 1), max_size=3),
)
def test_round_trip_through_json(steps, kind, size, rate, weights, folder, rates):
    config = Outer(
        steps=steps,
        kind=kind,
        size=size,
        inner=Inner(rate=rate),
        weights=weights,
        folder=folder,
        many=tuple(Inner(rate=r) for r in rates),
    )
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"stpes": 1}, UnknownNameError, "did you mean 'steps'"),
        ({"steps": 1, "inner": {"rat": 1}}, UnknownNameError, "did you mean 'inner.rate'"),
        ({}, ConfigError, "steps is missing"),
        ({"steps": "1"}, ConfigError, "steps is '1'"),
        ({"steps": True}, ConfigError, "steps is True"),
        ({"steps": 1.0}, ConfigError, "steps is 1.0"),
        ({"steps": 1, "kind": "c"}, ConfigError, "kind is 'c'"),
        ({"steps": 1, "size": [1, 2, 3]}, ConfigError, "size has 3 values"),
        ({"steps": 1, "inner": {"rate": -1}}, ConfigError, "at least 0"),
        ({"steps": 1, "many": [{"rate": "x"}]}, ConfigError, r"many\[0\]"),
    ],
)
def test_refuses_with_a_clear_line(values, error, says):
    with pytest.raises(error, match=says):
        from_dict(Outer, values)


def test_whole_numbers_are_good_floats():
    assert from_dict(Inner, {"rate": 1}) == Inner(rate=1.0)


def test_numbers_beyond_a_float_are_refused():
    with pytest.raises(ConfigError, match="rate"):
        from_dict(Inner, {"rate": 10**400})
