"""``mean.epe<=1.0``: a figure of an evaluation result against a bound, for scripts and continuous integration."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import CheckFailedError, InputError, UnknownNameError

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(?P<path>[^<>=!]+?)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<bound>[^<>=!\s]+)\s*")


@dataclass(frozen=True)
class Assertion:
    """A dotted path into the result, a comparison sign and a bound."""

    path: str
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.path}{self.sign}{self.bound:g}"


def parse_assertion(text: str) -> Assertion:
    """``"groups.kitti12.d1 < 5"`` → an :class:`Assertion`.

    Raises:
        InputError: the text is not ``path sign number``.
    """
    match = _FORM.fullmatch(text)
    bound = _number(match["bound"]) if match else None
    if match is None or bound is None:
        raise InputError(
            f"cannot read the check {text!r}",
            expected="PATH SIGN NUMBER, such as mean.epe<=1.0, with one of " + " ".join(_OPERATORS),
        )
    return Assertion(match["path"], match["sign"], bound)


def check_assertions(result: Mapping[str, Any], checks: Iterable[str | Assertion]) -> None:
    """Compare figures of ``result`` (the mapping of the result JSON) with their bounds.

    Raises:
        CheckFailedError: a figure misses its bound or has no value; names every one that does.
        UnknownNameError: a path leads nowhere.
        InputError: a check cannot be read, or names something that is not a number.
    """
    parsed = [parse_assertion(check) if isinstance(check, str) else check for check in checks]
    values = [lookup(result, check.path) for check in parsed]
    failures = []
    for check, value in zip(parsed, values, strict=True):
        if value is None:
            failures.append(f"{check} does not hold: {check.path} has no value")
        elif not _OPERATORS[check.sign](value, check.bound):
            failures.append(f"{check} does not hold: {check.path} is {value:.6g}")
    if failures:
        raise CheckFailedError("; ".join(failures), failures=failures)


def lookup(result: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path; keys may themselves contain dots. ``None`` where the result has null there.

    Raises:
        UnknownNameError: no such key.
        InputError: the path ends at something that is not a number.
    """
    node: Any = result
    rest = path
    while rest:
        if node is None:
            return None
        if not isinstance(node, Mapping):
            raise InputError(f"{path!r} goes on below a number", expected="a path such as mean.epe")
        key = max((k for k in node if rest == k or rest.startswith(f"{k}.")), key=len, default=None)
        if key is None:
            raise UnknownNameError("figure", path, [f"{path[: len(path) - len(rest)]}{k}" for k in list(node)[:40]])
        node, rest = node[key], rest[len(key) + 1 :]
    if node is None:
        return None
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise InputError(f"{path!r} is not a number in the result", expected="a figure such as mean.epe")
    return float(node)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
