"""``depthlight models``: what can be loaded, and what is known about it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..core import registry
from ..core.config import to_dict
from .common import JsonFlag, QuietFlag, emit_json, say


def models(
    name: Annotated[str | None, typer.Argument(help="Show this model's card.")] = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """List what can be loaded, or show one model's card. With -q only the status tells whether NAME is known."""
    if name is not None:
        _show(registry.resolve(name), as_json=as_json, quiet=quiet)
        return
    rows = [_row(full) for full in registry.list_models()]
    if as_json:
        emit_json({"default": registry.DEFAULT_MODEL, "models": rows})
    elif not quiet:
        _table(rows)


def _table(rows: list[dict[str, str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("model", "from", "licence", "what"):
        table.add_column(column)
    for row in rows:
        mark = " (default)" if row["name"] == registry.DEFAULT_MODEL else ""
        table.add_row(row["name"] + mark, row["from"], row["licence"], row["what"])
    Console().print(table)


def _row(full: str) -> dict[str, str]:
    card = registry.bundled().get(full)
    if card is not None:
        return {"name": full, "from": "this package", "licence": card.licence, "what": card.summary}
    if full in registry.MONO_HUB:
        licence = "Apache-2.0" if full.endswith("small") else "CC-BY-NC-4.0"
        what = f"depth from one image, {registry.MONO_HUB[full]}"
        return {"name": full, "from": "hub", "licence": licence, "what": what}
    if full in registry.PRIOR_HUB:
        what = f"guidance for refine, {registry.PRIOR_HUB[full]}"
        return {"name": full, "from": "hub", "licence": "CreativeML OpenRAIL-M", "what": what}
    if full in registry.HUB_WEIGHTS:
        what = f"authors' weights, {registry.HUB_REPOSITORY}/{registry.HUB_WEIGHTS[full]}"
        return {"name": full, "from": "hub or --weights", "licence": "MIT", "what": what}
    if full == "sgbm-oracle":
        return {
            "name": full,
            "from": "OpenCV",
            "licence": "Apache-2.0",
            "what": "sgbm with the range of the truth (eval, compare)",
        }
    if full == "sgbm":
        return {
            "name": full,
            "from": "OpenCV",
            "licence": "Apache-2.0",
            "what": "StereoSGBM HH, 192 disparities, holes filled",
        }
    return {"name": full, "from": "--weights FILE", "licence": "MIT", "what": "authors' weights, from a file"}


def _show(full: str, *, as_json: bool, quiet: bool) -> None:
    card = registry.bundled().get(full)
    facts: dict[str, Any] = to_dict(card) if card is not None else _row(full)
    if as_json:
        emit_json(facts)
        return
    for key, value in facts.items():
        say(f"{key}: {json.dumps(value, indent=2) if isinstance(value, dict | list) else value}", quiet=quiet)
