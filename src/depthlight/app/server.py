"""Running the application with uvicorn: listening, patience with slow clients, and leaving on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..core.errors import InputError
from .guard import Guard
from .settings import ServeConfig

_LAST_ANSWERS = 3  # s for connections to end, once work has


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=1024)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", hint="Choose another --host or --port"
        ) from None


async def serve(app: Guard, sock: socket.socket, *, started: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; ``started`` is called once models are loaded.

    Raises:
        DepthlightError: a model cannot be loaded.
    """
    config: ServeConfig = app.config
    await app.app.state.shared.open()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    protocol = type("Protocol", (_PatientProtocol,), {"seconds": config.head_seconds})
    options = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,  # it would hold the ids of results
        log_level="error",  # below that, any client could fill the log
        server_header=False,
        proxy_headers=False,
        limit_concurrency=config.connections,
        timeout_graceful_shutdown=_LAST_ANSWERS,
    )
    started()
    await _Server(options, app).serve(sockets=[sock])


class _Server(uvicorn.Server):
    """Leaves once work has ended: until then it still answers, and says that it is not ready."""

    def __init__(self, config: uvicorn.Config, app: Guard) -> None:
        super().__init__(config)
        self._app = app
        self._until = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins to drain, the second one ends it."""
        if self._app.draining:
            self.should_exit = self.force_exit = True
        self._app.draining = True
        self._until = time.monotonic() + self._app.config.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self._app.draining and not self.should_exit:
            state = self._app.app.state.shared
            late = time.monotonic() > self._until
            if late or (state.idle and not self._app.active):
                await state.stop()  # whoever still waits is told so
                self.should_exit = True
        return await super().on_tick(counter)


class _PatientProtocol(H11Protocol):
    """uvicorn's protocol, with an end to waiting for the head of a request (it has none of its own)."""

    seconds = 10.0
    _seen: Any = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close if between this look and the last one no request was under way and none has begun."""
        resting = self.cycle is None or self.cycle.response_complete
        if resting and self._seen is self.cycle:
            with contextlib.suppress(Exception):
                self.transport.close()
            return
        self._seen = self.cycle
        self._timer = self.loop.call_later(self.seconds, self._look)
