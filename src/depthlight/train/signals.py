"""Signals of a run; they live in ``core``, as refinement stops in the same way."""

from __future__ import annotations

from ..core.signals import StopFlag, StopRequestedError

__all__ = ["StopFlag", "StopRequestedError"]
