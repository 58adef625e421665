"""The JSON beside a map: its space, unit, size, and how each file format encodes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DepthlightError, FileFormatError, InputError

_OWN_KEYS = ("space", "unit", "view", "width", "height", "encodings")
_MAX_BYTES = 2**20


def sidecar_text(
    space: str,
    unit: str,
    shape: tuple[int, ...],
    encodings: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    view: str | None = "left",
) -> str:
    """The sidecar of an (H, W) map, of the left view or, with ``view`` None, of a single photo.

    Raises:
        InputError: ``meta`` takes a key of the sidecar's own, or does not fit into JSON.
    """
    taken = sorted(set(meta) & set(_OWN_KEYS))
    if taken:
        raise InputError(f"meta has {taken[0]!r}, which the sidecar states itself", expected="other keys")
    content = {
        "space": space,
        "unit": unit,
        **({} if view is None else {"view": view}),
        "width": shape[1],
        "height": shape[0],
        **meta,
        "encodings": dict(encodings),
    }
    try:
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"meta cannot be written as JSON ({error})", expected="plain finite values") from error


def read_sidecar(path: Path, space: str = "disparity", unit: str = "px") -> dict[str, Any]:
    """The sidecar, or an empty mapping where there is none (or only someone else's JSON, which has no ``space``).

    Raises:
        FileFormatError: not JSON, or about something else than ``space`` in ``unit``.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_BYTES:
        raise FileFormatError(f"{path} is too large for a sidecar", expected=f"at most {_MAX_BYTES:,} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except DepthlightError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid JSON", expected=f"the sidecar of a {space} map") from error
    if not isinstance(content, dict) or "space" not in content:
        return {}
    if (content["space"], content.get("unit")) != (space, unit):
        raise FileFormatError(
            f"{path} describes {content['space']!r} in {content.get('unit')!r}", expected=f"{space} in {unit}"
        )
    return content


def stated_size(meta: Mapping[str, Any], shape: tuple[int, ...], name: str) -> None:
    """Refuse a sidecar that belongs to a map of another size.

    Raises:
        FileFormatError: width or height differ.
    """
    height, width = shape
    if meta and (meta.get("width"), meta.get("height")) != (width, height):
        raise FileFormatError(
            f"{name} is {width}×{height} but its sidecar says {meta.get('width')}×{meta.get('height')}",
            expected="a sidecar written with the map",
        )


def stated_png_scale(meta: Mapping[str, Any]) -> float | None:
    """The scale of the PNG as the sidecar states it, or None.

    Raises:
        FileFormatError: not a positive number.
    """
    try:
        scale = meta["encodings"]["png"]["scale"]
    except (KeyError, TypeError):
        return None
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise FileFormatError(f"the sidecar states a PNG scale of {scale!r}", expected="a positive number")
    return float(scale)


def stated_png_offset(meta: Mapping[str, Any]) -> float | None:
    """The offset of the PNG as the sidecar states it, or None; only a signed map has one.

    Raises:
        FileFormatError: not a number, or the map is not signed.
    """
    try:
        offset = meta["encodings"]["png"]["offset"]
    except (KeyError, TypeError):
        return None
    usable = isinstance(offset, int | float) and not isinstance(offset, bool) and abs(offset) <= 65535
    if not usable or meta.get("signed") is not True:
        raise FileFormatError(f"the sidecar states a PNG offset of {offset!r}", expected="a number, in a signed map")
    return float(offset)
