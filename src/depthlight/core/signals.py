"""SIGTERM and SIGINT ask long work to save and leave; another one later leaves at once.

One stop may arrive twice: service managers signal every process of a group, and a process that started others hands it
on to them. What comes within a second of the first is the same stop.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

_WATCHED = (signal.SIGTERM, signal.SIGINT)
SAME_STOP = 1.0  # seconds


class StopRequestedError(Exception):
    """Raised inside long work (evaluation, labelling) once a stop was asked for."""


class StopFlag:
    """Context manager that turns the first signal into ``requested`` (its number) and a later one into an exit."""

    def __init__(self) -> None:
        self.requested = 0
        self._asked = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopFlag:
        for number in _WATCHED:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._asked = number, time.monotonic()
        elif time.monotonic() - self._asked > SAME_STOP:
            os._exit(128 + number)

    def check(self) -> None:
        """Raise :class:`StopRequestedError` if a stop was asked for."""
        if self.requested:
            raise StopRequestedError
