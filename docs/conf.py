"""The documentation site: ``python -m sphinx -W docs build/site``. Every link is checked, and nothing needs a network.

A line ``<!-- made: NAME -->`` in a page is replaced by what ``NAME`` makes below: what the code itself knows.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

from depthlight import __version__
from depthlight.cli import main as cli
from depthlight.core import registry
from depthlight.eval.protocol import PROTOCOLS

project = "depthlight"
author = "The depthlight authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
html_theme = "furo"
html_title = f"depthlight {__version__}"
html_copy_source = False
suppress_warnings = ["config.cache"]  # the gallery is configured with a function
exclude_patterns = ["conf.py", "gallery/*"]
root_doc = "index"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
python_maximum_signature_line_length = 100
napoleon_use_rtype = False


def written_pictures(block: Any, block_vars: Any, gallery_conf: dict[str, Any]) -> str:
    """Takes in what a block of an example wrote beside its script."""
    names = []
    for found in sorted(Path(block_vars["src_file"]).parent.glob("*.png")):
        names.append(block_vars["image_path_iterator"].next())
        shutil.move(found, names[-1])
    return str(figure_rst(names, gallery_conf["src_dir"]))


sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "made/gallery",
    "filename_pattern": r"\.py$",
    "image_scrapers": (written_pictures,),
    "capture_repr": ("_repr_html_",),
    "reset_modules": (),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "only_warn_on_example_error": False,
    "plot_gallery": "True",
    "within_subsection_order": "FileNameSortKey",
}

MARK = re.compile(r"<!-- made: (?P<name>[\w-]+) -->")


def command_line() -> str:
    """Every verb's help, as a terminal of 100 columns shows it."""
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERMINAL_WIDTH": "100"}
    return "\n\n".join(f"## {verb}\n\n{summary}\n\n```text\n{_help(verb)}\n```" for verb, summary in cli.VERBS.items())


def _help(verb: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        status = cli.run([verb, "--help"])
    if status != 0:
        raise RuntimeError(f"depthlight {verb} --help ended with status {status}")
    return "\n".join(line.rstrip() for line in shown.getvalue().strip().splitlines())


def models() -> str:
    """The cards of the weights in the package."""
    return "\n\n".join(_card(name, card) for name, card in registry.bundled().items())


def _card(name: str, card: registry.WeightCard) -> str:
    lines = [f"## {name}", "", f"{card.summary}. Licence: {card.licence}.", ""]
    lines += [f"- **Data.** {card.data}", f"- **Limits.** {card.limits}", ""]
    lines += ["| lineage | samples | core-hours | seed | start, SHA-256 |", "|---|---|---|---|---|"]
    lines += [_segment(one, first=index == 0) for index, one in enumerate(card.lineage)]
    lines += ["", "| figure | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in card.metrics.items())]
    lines += ["", "| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| {file.file} | {file.bytes:,} | `{file.sha256}` |" for file in card.files.values()]
    return "\n".join(lines)


def _segment(one: dict[str, Any], *, first: bool) -> str:
    """A row of the lineage: what others trained that a run started from, or a segment of a run of ours."""
    if "source" in one:
        return f"| {one['source']} ({one['licence']}) | | | | `{one['sha256'][:12]}` |"
    start = f"`{one['start_sha256'][:12]}`" if one["start_sha256"] else "random" if first else "the one before"
    changed = "".join(f", {key} = {value}" for key, value in one.get("changed", {}).items())
    return (
        f"| {one['recipe']}{changed} (`{one['commit'][:7]}`) | {one['samples']:,} | {one['core_hours']:g} | "
        f"{one['seed']} | {start} |"
    )


def protocols() -> str:
    """How each benchmark is measured."""
    lines = ["| name | mask | cap, px | range, px | quoted | rules |", "|---|---|---|---|---|---|"]
    for name, rules in PROTOCOLS.items():
        quoted = ", ".join(f"{one.metric} ({one.average})" for one in rules.headline)
        cap = "none" if rules.cap is None else f"{rules.cap:g}"
        lines.append(f"| `{name}` | {rules.mask} | {cap} | {rules.max_disp} | {quoted} | {rules.description} |")
    return "\n".join(lines)


MADE: dict[str, Callable[[], str]] = {"command-line": command_line, "models": models, "protocols": protocols}


def _replace_marks(app: Any, page: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda match: MADE[match["name"]](), source[0])


def setup(app: Any) -> None:
    app.connect("source-read", _replace_marks)
