"""Requests made up from the description of the API (schemathesis): every answer is one that is described."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, strategies

from depthlight.app.api import router

DESCRIBED = FastAPI()
DESCRIBED.include_router(router)
PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"
    b"\x00\x00\x00\x0cIDATx\x9cc```\x00\x00\x00\x04\x00\x01\xf6\x178U\x00\x00\x00\x00IEND\xaeB`\x82"
)
schemathesis.openapi.format(
    "binary", strategies.sampled_from([PIXEL, PIXEL, PIXEL[:50], b"II*\0", b""]) | strategies.binary(max_size=64)
)


def described(*, coverage):
    """The API's description; with ``coverage``, hundreds of requests that are wrong in one thing each."""
    phases = {"coverage": {"enabled": coverage}, "fuzzing": {"generation": {"mode": "positive"}}}
    config = schemathesis.Config.from_dict({"phases": phases})
    return schemathesis.openapi.from_dict(DESCRIBED.openapi(), config=config)


few, many = described(coverage=False), described(coverage=True)
schemathesis.checks.load_all_checks()
CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
    )
]
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def address(make_listener):
    host, port = make_listener()[1]
    return f"http://{host}:{port}"


def call(case, address):
    """One request, and what must hold of every answer."""
    response = case.call(base_url=address)
    assert response.status_code < 500 or response.status_code == 501, response.text
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"code", "what", "expected", "hint"}
    case.validate_response(response, checks=CHECKS)


@few.parametrize()
@hypothesis.settings(max_examples=10, deadline=None, suppress_health_check=QUIET, derandomize=True, database=None)
def test_made_up_requests(case, address):
    call(case, address)


@pytest.mark.slow
@many.parametrize()
@hypothesis.settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
def test_many_made_up_requests(case, address):
    call(case, address)
