"""Where figures go: tables between markers in docs/benchmarks.md, raw numbers as JSON beside it, the machine in words.

Nothing here names a host, a user or a path.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from depthlight.core.config import to_dict
from depthlight.core.errors import FileFormatError
from depthlight.core.registry import WEIGHTS_DIR, bundled
from depthlight.io.atomic import atomic_write_bytes

ROOT = Path(__file__).resolve().parents[1]
DOC = ROOT / "docs" / "benchmarks.md"
EXPERIMENTS = ROOT / "docs" / "experiments.md"
PICTURES = ROOT / "docs" / "pictures"
RAW = ROOT / "docs" / "benchmarks"
TOLD_FLAGS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "AVX512-BF16"}
TOLD_FLAGS |= {"amx_tile": "AMX", "asimd": "NEON"}
DIGITS = 6  # significant, in the JSON


def write_section(name: str, body: str, raw: Mapping[str, Any], *, document: Path = DOC) -> None:
    """:func:`put_section`, and ``raw`` into the section's JSON."""
    put_section(name, body, document)
    write_json(name, raw)


def put_section(name: str, body: str, document: Path) -> None:
    """Put ``body`` between the markers of section ``name`` of the document.

    Raises:
        FileFormatError: the document has no such markers.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = document.read_text(encoding="utf-8")
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise FileFormatError(f"{document.name} has no section {name!r}", expected=f"{begin} … {end}")
    atomic_write_bytes(document, f"{head}{begin}\n{body.strip()}\n{end}{tail}".encode())


def write_json(name: str, raw: Mapping[str, Any]) -> None:
    """Write ``docs/benchmarks/<name>.json``, floats to six significant digits."""
    RAW.mkdir(exist_ok=True)
    text = json.dumps(_short(raw), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    atomic_write_bytes(RAW / f"{name}.json", text.encode())


def note_on_card(model: str, **changes: Any) -> None:
    """Change fields of the card of bundled weights."""
    bundled.cache_clear()  # another section may have written it since
    text = json.dumps(to_dict(replace(bundled()[model], **changes)), indent=2) + "\n"
    atomic_write_bytes(WEIGHTS_DIR / f"{model}.json", text.encode())
    bundled.cache_clear()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table, – for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def machine(*packages: str) -> dict[str, Any]:
    """The machine in words: processor, cores, flags that matter, memory, and versions of ``packages``."""
    facts = _processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.date.today().isoformat(),
        "processor": facts.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "flags": [word for flag, word in TOLD_FLAGS.items() if flag in facts.get("flags", "").split()],
        "memory_gib": round(memory),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "load_before": round(os.getloadavg()[0], 2),
    }


def in_words(facts: Mapping[str, Any]) -> str:
    """:func:`machine` as a line of text."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['date']}; {facts['processor']}, {facts['cores']} cores, {', '.join(facts['flags'])}; "
        f"{facts['memory_gib']} GiB; {facts['system']}, Python {facts['python']}{', ' if versions else ''}{versions}"
    )


def short_hash(sha256: str | None) -> str:
    """The first eight digits; – where there are no weights."""
    return "–" if sha256 is None else f"`{sha256[:8]}`"


def _processor() -> dict[str, str]:
    """Fields of the first processor, as Linux tells them."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value
