"""What every request passes first: names, origin, token; limits of bytes and time on its body; counts for /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from ..core.errors import DepthlightError, LimitError
from .errors import Refusal, answer_to
from .metrics import Metrics
from .settings import MIB, ServeConfig

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_PROTECTED = ("/v1/", "/metrics")
_BODIES_HELD = 8  # bodies of the largest size that may arrive at once
_LINGER_SECONDS = 2.0
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": _POLICY,
    # a page that shares its process with no other may use threads
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
}
_PRIVATE = {"cache-control": "no-store"}


class Guard:
    """ASGI middleware round everything. ``active``: requests under way; ``draining``: no new work is taken."""

    def __init__(self, app: Any, config: ServeConfig, metrics: Metrics) -> None:
        self.app, self.config, self.metrics = app, config, metrics
        self.active = 0
        self.draining = False
        self._held = 0  # bytes of bodies under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        body = _Body(self, scope, receive)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = _HEADERS | (_PRIVATE if scope["path"].startswith(_PROTECTED) else {})
                extra |= {"connection": "close"} if body.unread else {}
                present = {name for name, _ in message["headers"]}
                added = ((name.encode(), value.encode()) for name, value in extra.items())
                message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in present)]
            elif body.unread and not message.get("more_body"):
                await send({**message, "more_body": True})
                await body.linger()
                message = {"type": "http.response.body"}
            async with asyncio.timeout(self.config.body_seconds):  # of a chunk, for a client that does not read
                await send(message)

        self.active += 1
        try:
            self._check(scope)
            await self.app(scope, body.receive, answer)
        except DepthlightError as error:
            await answer_to(error)(scope, receive, answer)
        except TimeoutError:
            return  # the server closes what is not whole
        finally:
            self.active -= 1
            self._held -= body.count
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.request(scope["method"], route, status, time.perf_counter() - began, body.count)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        # a page elsewhere may point a name of its own at this address, and would then be of the same origin
        if self.config.hosts and _name(f"//{host}") not in self.config.hosts:
            raise Refusal(
                "forbidden", "this server does not answer to that name", hint="Start it with --allow-host NAME"
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Refusal("forbidden", "the request comes from a page of another origin")
        path = scope["path"]
        if self.config.token is not None and path.startswith(_PROTECTED):
            self._check_token(headers.get("authorization", ""))
        if self.draining and scope["method"] == "POST":
            raise Refusal("draining", "the server is about to stop", seconds=round(self.config.drain_seconds))
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.config.max_body:
            raise too_large(self.config)

    def _check_token(self, given: str) -> None:
        kind, _, token = given.partition(" ")
        wanted = (self.config.token or "").encode()
        if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), wanted):
            raise Refusal("unauthorized", "a bearer token is needed", expected="Authorization: Bearer TOKEN")

    def hold(self, count: int) -> None:
        """Account for bytes of a body."""
        self._held += count

    def need_room(self) -> None:
        """Refuse where too much arrives at once.

        Raises:
            Refusal: try again later.
        """
        if self._held > _BODIES_HELD * self.config.max_body:
            raise Refusal("busy", "too many uploads at once", seconds=10)


class _Body:
    """A body that may be no larger and no slower than allowed; after its end it only tells of a disconnect."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self.count = 0
        self.unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._guard, self._receive = guard, receive
        self._until = time.monotonic() + guard.config.body_seconds

    async def receive(self) -> Message:
        if not self.unread:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            limit = f"within {self._guard.config.body_seconds:g} s"
            raise Refusal("slow_body", "the body took too long to arrive", expected=limit) from None
        size = len(message.get("body", b""))
        self.unread = message["type"] == "http.request" and message.get("more_body", False)
        self.count += size
        self._guard.hold(size)
        if self.count > self._guard.config.max_body:
            raise too_large(self._guard.config)
        self._guard.need_room()
        return message

    async def linger(self) -> None:
        """Take a little more of a body that is refused: closed at once, the connection would lose the answer."""
        count = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while self.unread and count < MIB:
                    message = await self._receive()
                    count += len(message.get("body", b""))
                    self.unread = message["type"] == "http.request" and message.get("more_body", False)
        self.unread = False


def too_large(config: ServeConfig) -> LimitError:
    """The error for a body beyond the limit."""
    return LimitError("the request is too large", expected=f"at most {config.max_body / MIB:g} MiB")


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an odd bracket
        return ""
