"""Numbers of calibration files as decimals.

A file may store a product (ROS and KITTI: focal length times baseline) or another unit (Middlebury: millimetres). In
decimals products and units are exact, so that what is written comes back as the same float, to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal

from ...core.errors import FileFormatError, InputError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_LONGEST = 800  # characters
_LARGEST = Decimal(10) ** 12
EXACT = Context(prec=1600)
UNITS = {"m": 0, "mm": 3, "cm": 2}


def number(text: str, where: str) -> Decimal:
    """The finite number ``text`` spells.

    Raises:
        FileFormatError: it spells none, or one beyond 1e12. ``where`` names it in the error.
    """
    text = text.strip()
    if len(text) <= _LONGEST and _NUMBER.fullmatch(text):
        value = Decimal(text)
        if abs(value) < _LARGEST:
            return value
    raise FileFormatError(f"{where} is {text[:40]!r}", expected="a finite number")


def numbers(texts: Iterable[str], where: str, count: int | Sequence[int] | None = None) -> list[Decimal]:
    """Each text as a number; ``count`` of them (or one of several counts).

    Raises:
        FileFormatError: another count, or one of them is not a number.
    """
    values = [number(text, where) for text in texts]
    counts = (count,) if isinstance(count, int) else count
    if counts is not None and len(values) not in counts:
        raise FileFormatError(f"{where} has {len(values)} numbers", expected=" or ".join(map(str, counts)))
    return values


def whole(text: str, where: str) -> int:
    """A whole number (``640`` or ``6.400000e+02``).

    Raises:
        FileFormatError: it is not one, or larger than a million (no image side).
    """
    value = number(text, where)
    if value != value.to_integral_value() or abs(value) > 1_000_000:
        raise FileFormatError(f"{where} is {text.strip()[:40]!r}", expected="a whole number of pixels")
    return int(value)


def decimal(value: float) -> Decimal:
    """The shortest decimal that reads back as ``value``."""
    return Decimal(repr(float(value)))


def text(value: Decimal | float) -> str:
    """Digits that read back as the same number."""
    return repr(float(value)) if not isinstance(value, Decimal) else str(value)


def times(a: Decimal, b: Decimal) -> Decimal:
    """The exact product."""
    return EXACT.multiply(a, b)


def over(a: Decimal, b: Decimal, where: str) -> Decimal:
    """The quotient to 1600 digits.

    Raises:
        FileFormatError: division by zero.
    """
    if not b:
        raise FileFormatError(f"{where} is 0", expected="a positive number")
    return EXACT.divide(a, b)


def plus(a: Decimal, b: Decimal) -> Decimal:
    """The exact sum."""
    return EXACT.add(a, b)


def in_metres(value: Decimal, unit: str) -> Decimal:
    """A length in ``unit`` (m, cm or mm) as metres, exactly."""
    return value.scaleb(-UNITS[unit], EXACT)


def from_metres(value: float, unit: str) -> Decimal:
    """Metres as a length in ``unit``, exactly."""
    return decimal(value).scaleb(UNITS[unit], EXACT)


def length(text_with_unit: str, what: str) -> float:
    """``25mm``, ``2.5cm`` or ``0.025m`` in metres.

    Raises:
        InputError: no number, no unit, or not positive.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(mm|cm|m)\s*", text_with_unit)
    if match is None or not _NUMBER.fullmatch(match[1]) or Decimal(match[1]) <= 0:
        raise InputError(f"{what} is {text_with_unit[:40]!r}", expected="a length with its unit, such as 25mm")
    return float(in_metres(number(match[1], what), match[2]))
