"""Bounds in numbers, bytes and seconds (S2-S4): what is beyond them is refused, and what it held is free again."""

from __future__ import annotations

import os
import threading
import time
import zlib

import pytest

from depthlight.app.settings import MIB, ServeConfig, label
from depthlight.core.errors import ConfigError


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_full_queue_is_told_and_cancelled_jobs_leave_it(make_application, pair, freeze, record_property):  # S2
    client = make_application(refine_queue=2)
    jobs = [client.post("/v1/refine", files=pair, data={"steps": "5000"}).json()["id"]]
    until(lambda: client.get(f"/v1/jobs/{jobs[0]}").json()["state"] == "running")
    jobs += [client.post("/v1/refine", files=pair).json()["id"] for _ in range(2)]
    assert [client.get(f"/v1/jobs/{job}").json()["before"] for job in jobs] == [None, 0, 1]
    refused = client.post("/v1/refine", files=pair)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "busy"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert client.post("/v1/stereo", files=pair).status_code == 200  # other work goes on
    assert client.delete(f"/v1/jobs/{jobs[1]}").status_code == 204
    assert client.post("/v1/refine", files=pair).status_code == 202  # its place is free
    begun = time.monotonic()
    assert client.delete(f"/v1/jobs/{jobs[0]}").status_code == 204  # ends the worker
    seconds = time.monotonic() - begun
    assert seconds < 2 and client.state.slow.restarts == 1
    record_property("s3_cancel_s", seconds)
    assert client.get(f"/v1/jobs/{jobs[0]}").status_code == 404


def test_work_beyond_its_time_is_ended_and_the_next_is_done(make_application, pair, freeze):
    client = make_application(work_seconds=0.5, workers=1)
    pids = freeze(client.state.quick)
    response = client.post("/v1/stereo", files=pair)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "time_limit")
    until(lambda: not alive(pids[0]))
    client.state.config.__dict__["work_seconds"] = 60
    assert client.post("/v1/stereo", files=pair).status_code == 200
    assert client.state.quick.restarts == 1 and client.state.quick.idle
    assert len(client.state.store.jobs) == 1  # of the failed one nothing is kept


def test_a_worker_that_dies_is_told_and_replaced(make_application, pair, freeze):
    client = make_application()
    pids = freeze(client.state.quick)
    killer = threading.Thread(target=lambda: until(lambda: client.state.quick.running) or os.kill(pids[0], 9))
    killer.start()
    response = client.post("/v1/stereo", files=pair)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "worker_died")
    assert client.post("/v1/stereo", files=pair).status_code == 200
    killer.join()


def test_a_large_body_is_refused_and_forgotten(make_application):  # S2; test_serve.py counts what is read
    client = make_application(max_body=MIB)
    response = client.post("/v1/stereo", files={"left": bytes(2 * MIB)})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "limit")
    assert response.headers["connection"] == "close"
    assert client.app._held == 0 and client.state.quick.idle


def test_too_many_parts_and_pixels(client, pair, png):  # S2
    many = [("left", (f"{index}.png", b"x")) for index in range(9)]
    assert client.post("/v1/stereo", files=many).status_code == 413
    assert client.post("/v1/stereo", files=pair, data={f"f{i}": "x" for i in range(99)}).status_code == 413
    assert client.post("/v1/stereo", files=pair, data={"model": "x" * 20_000}).status_code == 413
    assert client.post("/v1/stereo", files=pair | {"calib": bytes(2 * MIB)}).status_code == 413
    bomb = _png_of(60_000, 60_000)
    begun = time.monotonic()
    response = client.post("/v1/stereo", files={"left": bomb, "right": bomb})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "limit")
    assert time.monotonic() - begun < 2 and client.state.quick.restarts == 0


def _png_of(width, height):
    """A PNG whose header states this size; its pixels are zeros."""

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(bytes(2**20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_results_expire_and_the_oldest_go_first(make_application, pair):  # S4
    client = make_application(keep_jobs=2)
    answers = [client.post("/v1/stereo", files=pair).json() for _ in range(3)]
    assert len({answer["id"] for answer in answers}) == 3 and all(len(answer["id"]) == 32 for answer in answers)
    folders = [
        client.state.store.jobs[answer["id"]].folder for answer in answers if answer["id"] in client.state.store.jobs
    ]
    until(lambda: client.get(f"/v1/jobs/{answers[0]['id']}").status_code == 404)
    last = answers[2]["files"][0]["url"]
    assert client.get(last).status_code == 200
    client.state.config.__dict__["keep_seconds"] = 0.0
    assert client.get(last).status_code == 404  # at once
    until(lambda: not any(folder.exists() for folder in folders))  # and its files soon after


def test_files_are_only_those_a_job_lists(client, pair):  # S4
    answer = client.post("/v1/stereo", files={"left": ("../../../l.png", pair["left"]), "right": pair["right"]}).json()
    job = client.state.store.jobs[answer["id"]]
    until(lambda: [path.name for path in job.folder.iterdir()] == ["out"])  # what was sent does not stay
    base = f"/v1/jobs/{answer['id']}/files/"
    (job.out / "secret").symlink_to("/etc/passwd")
    for name in ("../left", "..%2fleft", "%2e%2e/left", "%2fetc%2fpasswd", "secret", "nothing", "disparity.png%00", ""):
        assert client.get(base + name).status_code == 404, name
    kept = client.get(base + "disparity.png").headers
    assert kept["x-content-type-options"] == "nosniff" and "public" not in kept["cache-control"]


def test_token_host_and_origin(make_application, pair):
    token = "0123456789abcdef"
    client = make_application(token=token)
    for headers in ({}, {"authorization": "Bearer 0123456789abcdeg"}, {"authorization": f"Basic {token}"}):
        for path in ("/v1/models", "/metrics", "/v1/jobs/x"):
            response = client.get(path, headers=headers)
            assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
        assert client.post("/v1/stereo", files=pair, headers=headers).status_code == 401
    good = {"authorization": f"Bearer {token}"}
    assert client.get("/v1/models", headers=good).status_code == 200
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert client.get("/v1/models", headers=good | {"host": "evil.example"}).status_code == 403
    assert client.get("/v1/models", headers=good | {"origin": "http://evil.example"}).status_code == 403
    assert client.get("/v1/models", headers=good | {"origin": "http://127.0.0.1:8000"}).status_code == 200
    assert "access-control-allow-origin" not in client.get("/healthz").headers


def test_settings_that_cannot_be(tmp_path):
    for wrong in ({"token": "short"}, {"queue": 0}, {"models": ()}, {"models": ("a/x.onnx", "b/x.onnx")}):
        with pytest.raises(ConfigError):
            ServeConfig(**wrong)
    assert label("some/where/best.safetensors") == "best" and label("owner/model") == "owner/model"
    assert "secret" not in repr(ServeConfig(token="secret secret secret"))


def test_many_clients_at_once_get_the_serial_result(make_application, views, make_pair, png):  # S1, small
    _many(make_application(queue=64), make_pair, png, clients=8, requests=16)


@pytest.mark.slow
def test_five_hundred_requests_of_32_clients(make_application, make_pair, png):  # S1
    _many(make_application(queue=64), make_pair, png, clients=32, requests=500)


def _many(client, make_pair, png, *, clients, requests):
    forms = [{"left": png(left), "right": png(right)} for left, right in (make_pair(s, 32, 64, s) for s in range(4))]

    def ask(index):
        answer = client.post("/v1/stereo", files=forms[index % 4], data={"format": "npy"})
        if answer.status_code != 200:
            return answer.status_code
        url = next(file["url"] for file in answer.json()["files"] if file["name"] == "disparity.npy")
        return client.get(url).content

    serial = [ask(index) for index in range(4)]
    todo, found = iter(range(requests)), {}

    def work():
        for index in todo:
            found[index] = ask(index)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == requests and all(found[index] == serial[index % 4] for index in found)
