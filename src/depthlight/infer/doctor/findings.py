"""What the doctor says: findings, and the diagnosis that holds them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .measure import Measurements

Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")  # the worst first


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        id: its name, stable (``vertical-offset``).
        severity: ``error``: disparity or metres will be wrong; ``warning``: worse than they could be, or some of them;
            ``notice``: good to know.
        value, unit: what was measured.
        says: what was found, one sentence.
        why: why it matters, one sentence.
        do: what to do about it, one sentence.
    """

    id: str
    severity: Severity
    value: float
    unit: str
    says: str
    why: str
    do: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the number rounded to four digits behind the point."""
        return {**asdict(self), "value": round(self.value, 4)}


@dataclass(frozen=True)
class Diagnosis:
    """Everything found on a pair, the worst first, and what it was found from."""

    findings: tuple[Finding, ...]
    measured: Measurements = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether there is no error among the findings."""
        return not any(finding.severity == "error" for finding in self.findings)

    def __getitem__(self, name: str) -> Finding:
        """The finding called ``name``.

        Raises:
            KeyError: it was not found.
        """
        for finding in self.findings:
            if finding.id == name:
                return finding
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        """Whether there is a finding called ``name``."""
        return any(finding.id == name for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """``{"ok", "findings", "measured"}`` for JSON; ``measured`` holds the numbers behind the findings."""
        return {
            "ok": self.ok,
            "findings": [finding.to_dict() for finding in self.findings],
            "measured": self.measured.to_dict(),
        }
