"""YAML as nested mappings and lists whose leaves stay text, so that numbers can be read exactly.

It also spares YAML's traps: PyYAML takes ``1e-05`` for text and ``NO`` for a truth value. The loader is PyYAML's safe
one: it makes no object of any other kind. Unknown tags (``!!opencv-matrix``) count as the mapping, list or text they
mark.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ...core.errors import FileFormatError
from .exact import number, numbers, whole

_DIRECTIVE = re.compile(r"\A%YAML:?[ \t]*1\.\d[ \t]*\r?\n")


class _TextLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Safe, and without a type for any leaf."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 the name PyYAML looks for


def _untyped(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_TextLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: _untyped(loader, "", node))
_TextLoader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: _untyped(loader, "", node))
_TextLoader.add_multi_constructor("", _untyped)


def documents(text: str, path: Path) -> list[Any]:
    """All documents of a YAML file; OpenCV's own first line ``%YAML:1.0`` is taken too.

    Raises:
        FileFormatError: it is not YAML.
    """
    found = []
    try:
        loader = _TextLoader(_DIRECTIVE.sub("", text))
        while loader.check_data():
            found.append(loader.get_data())
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FileFormatError(f"{path} is not YAML ({reason})", expected="a YAML calibration") from None
    return found


def value_of(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The first of ``names`` that is there, or None."""
    return next((values[name] for name in names if name in values), None)


def matrix(value: Any, where: str, counts: tuple[int, ...]) -> list[str]:
    """The numbers of ``{rows, cols, data}`` or of a plain (nested) list, as text, row by row.

    Raises:
        FileFormatError: neither of the two, or another count.
    """
    rows = cols = None
    if isinstance(value, dict):
        rows, cols, value = value.get("rows"), value.get("cols"), value.get("data")
    if not isinstance(value, list):
        raise FileFormatError(f"{where} is no matrix", expected="rows, cols and data, or a list of numbers")
    flat: list[Any] = []
    for item in value:
        flat += item if isinstance(item, list) else [item]
    if not all(isinstance(item, str) for item in flat):
        raise FileFormatError(f"{where} holds something that is no number", expected="numbers")
    numbers(flat, where, counts)
    if isinstance(rows, str) and isinstance(cols, str) and whole(rows, where) * whole(cols, where) != len(flat):
        raise FileFormatError(f"{where} states {rows}x{cols} and has {len(flat)} numbers", expected="as many as stated")
    return flat


def floats(value: Any, where: str, counts: tuple[int, ...]) -> list[float]:
    """:func:`matrix` as floats."""
    return [float(number(item, where)) for item in matrix(value, where, counts)]
