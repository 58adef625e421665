"""Frozen dataclasses as configuration: from and to plain mappings, unknown keys refused.

A config class sits next to its owner, checks its ranges in ``__post_init__`` (raising :class:`ConfigError`),
and round-trips through TOML or JSON by the two functions here.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

from .errors import ConfigError, UnknownNameError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """The dataclass as plain values (tuples become lists), ready for JSON or TOML; ``None`` fields are left out."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if getattr(config, field.name) is not None
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build ``cls`` from a mapping.

    Raises:
        UnknownNameError: a key is not a field; the nearest field is offered.
        ConfigError: a value has the wrong type, or ``cls`` refuses it.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UnknownNameError("setting", f"{where}{key}", [f"{where}{name}" for name in fields])
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        kind = _name(hints[missing[0]])
        raise ConfigError(f"setting {where}{missing[0]} is missing", expected=f"a value of type {kind}")
    return cls(**{key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint``; only lossless conversions (int → float, list → tuple, mapping → config)."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast(type, hint), value, where=f"{where}.")
    if origin is tuple and isinstance(value, list | tuple):
        return _convert_tuple(hint, value, where)
    if origin is dict and isinstance(value, Mapping):
        inner = typing.get_args(hint)[1]
        return {key: _convert(inner, item, f"{where}.{key}") for key, item in value.items()}
    if origin is typing.Literal:
        if value in typing.get_args(hint):
            return value
    elif hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    elif hint is Any or (type(value) is hint):
        return value
    raise ConfigError(f"setting {where} is {value!r}", expected=_name(hint))


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    for choice in typing.get_args(hint):
        if choice is type(None):
            if value is None:
                return None
            continue
        try:
            return _convert(choice, value, where)
        except UnknownNameError:
            raise
        except ConfigError:
            continue
    raise ConfigError(f"setting {where} is {value!r}", expected=str(hint))


def _convert_tuple(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    args = typing.get_args(hint)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(args) != len(value):
        raise ConfigError(f"setting {where} has {len(value)} values", expected=f"{len(args)}")
    return tuple(_convert(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True)))
