"""The one hierarchy of errors, and the one warning class.

Every error a user can cause is a :class:`DepthlightError`: a single line that says what was wrong, what was
expected and what to do. The command line prints that line and exits with ``exit_status``; ``--debug`` shows
the traceback. Machines read ``code`` and ``details``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class DepthlightError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: what was wrong, naming the file or argument.
        expected: what would have been right.
        hint: what to do about it.
        details: further fields for machines (paths, shapes, limits).
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 2

    def __init__(self, what: str, *, expected: str = "", hint: str = "", **details: Any) -> None:
        self.what = what
        self.expected = expected
        self.hint = hint
        self.details = details
        first = what if not expected else f"{what.rstrip('.')}; expected {expected}"
        super().__init__(" ".join(f"{_sentence(first)} {_sentence(hint)}".split()))


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "?", "!")) else f"{text}."


class InputError(DepthlightError):
    """An argument, array or file is not what the function needs."""

    code = "bad_input"


class ImageError(InputError):
    """A file is not an image we accept: missing, damaged, wrong kind, or not an image at all."""

    code = "bad_image"


class FileFormatError(InputError):
    """A depth, calibration or configuration file does not follow its format."""

    code = "bad_file"


class LimitError(InputError):
    """Something is larger than a stated limit (bytes, pixels, range of a file format)."""

    code = "limit"


class NonFiniteError(InputError):
    """NaN or infinity where a finite number is needed; names the position."""

    code = "non_finite"


class ConfigError(InputError):
    """A configuration value or key is not allowed."""

    code = "bad_config"


class UnknownNameError(InputError):
    """A name (model, recipe, key) is not known; offers the nearest known one."""

    code = "unknown_name"

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        suggestion = f"did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"unknown {kind} {name!r}",
            expected="one of " + ", ".join(known) if known else "",
            hint=" ".join(part for part in (suggestion, hint) if part),
            name=name,
            known=known,
        )


class CheckpointError(InputError):
    """A weights file is damaged, foreign, or does not fit the network."""

    code = "bad_checkpoint"


class MissingExtraError(DepthlightError):
    """An optional part of the package is not installed."""

    code = "missing_extra"

    def __init__(self, extra: str, module: str, *, purpose: str = "") -> None:
        need = f" ({purpose})" if purpose else ""
        super().__init__(
            f"{module} is not installed{need}",
            hint=f"Install it with: pip install 'depthlight[{extra}]'",
            extra=extra,
            module=module,
        )


class OutputError(DepthlightError):
    """The result cannot be written where it was asked for."""

    code = "bad_output"


class CheckFailedError(DepthlightError):
    """A check that was asked for did not hold (``eval --assert``, a failed item of a folder)."""

    code = "check_failed"
    exit_status = 1


class DepthlightWarning(UserWarning):
    """Something the user should know that does not stop the work."""
