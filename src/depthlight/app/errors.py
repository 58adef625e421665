"""The one shape of errors, and the HTTP status that goes with each code.

``{"error": {"code", "what", "expected", "hint"}}``: the codes of :mod:`depthlight.core.errors`, and those named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.errors import DepthlightError

if TYPE_CHECKING:
    from starlette.responses import JSONResponse

Problem: TypeAlias = "Mapping[str, str]"  # code, what, expected, hint

STATUS: Mapping[str, int] = {
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "slow_body": 408,
    "cancelled": 410,
    "limit": 413,
    "unsupported_type": 415,
    "busy": 429,
    "bad_output": 500,
    "bad_checkpoint": 500,
    "internal": 500,
    "worker_died": 500,
    "missing_extra": 501,
    "unavailable": 501,
    "draining": 503,
    "time_limit": 504,
}  # any other code is the request's fault: 422


class Refusal(DepthlightError):  # noqa: N818
    """Why a request or a job has no result; ``code`` is a key of :data:`STATUS`, ``seconds`` when to try again."""

    def __init__(self, code: str, what: str, *, expected: str = "", hint: str = "", seconds: int | None = None) -> None:
        again = "" if seconds is None else f"Try again in {seconds} s"
        super().__init__(what, expected=expected, hint=hint or again, code=code, seconds=seconds)


def internal() -> Refusal:
    """What clients learn of a fault of ours; the rest is for the log."""
    return Refusal("internal", "something went wrong in the server")


def problem_of(error: DepthlightError) -> dict[str, str]:
    """The error as plain values."""
    code = str(error.details.get("code", error.code))
    return {"code": code, "what": error.what, "expected": error.expected, "hint": error.hint}


def again(problem: Mapping[str, Any]) -> Refusal:
    """The error that :func:`problem_of` made plain."""
    return Refusal(**problem)


def answer_to(error: DepthlightError) -> JSONResponse:
    """How an error leaves."""
    from starlette.responses import JSONResponse  # not for workers, which use the rest of this file

    problem, seconds = problem_of(error), error.details.get("seconds")
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    if problem["code"] == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": problem}, STATUS.get(problem["code"], 422), headers)
