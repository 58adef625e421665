"""Checkpoints of a run; they live in ``io``, as refinement keeps its state in the same way."""

from __future__ import annotations

from ..io.checkpoint import FORMAT, State, clean, load, load_latest, save

__all__ = ["FORMAT", "State", "clean", "load", "load_latest", "save"]
