"""``depthlight serve`` as a process on loopback: slow and vanishing clients (S3), large bodies (S2), leaving (S6)."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from random import Random

import httpx
import pytest

from depthlight.app.settings import MIB
from depthlight.cli import main as cli

GET = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
FORM = b"POST /v1/stereo HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: multipart/form-data; boundary=b\r\n"


def url(address, path=""):
    return f"http://{address[0]}:{address[1]}{path}"


def form(pair):
    """A whole request for a pair, as bytes."""
    request = httpx.Request("POST", "http://127.0.0.1/v1/stereo", files=pair)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /v1/stereo HTTP/1.1\r\n{head}\r\n".encode() + request.read()


def metric(address, name):
    lines = httpx.get(url(address, "/metrics")).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"depthlight_{name} "))


def until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def listener(make_listener):
    return make_listener(head_seconds=0.3, body_seconds=0.6, max_body=MIB)


def test_a_hundred_lazy_connections_delay_nobody(make_listener, pair, record_property):  # S3
    _, address = make_listener()
    whole = form(pair)

    def ask():
        begun = time.monotonic()
        httpx.post(url(address, "/v1/stereo"), files=pair, timeout=30).raise_for_status()
        return time.monotonic() - begun

    with contextlib.ExitStack() as stack:
        lazy = [stack.enter_context(socket.create_connection(address)) for _ in range(100)]
        for index, connection in enumerate(lazy):  # nothing, half a head, half a body
            connection.sendall((b"", b"GET /healthz HTTP/1.1\r\nho", whole[: len(whole) // 2])[index % 3])
        busy = min(ask() for _ in range(3))
    delay = busy - min(ask() for _ in range(3))
    assert delay < 1
    record_property("s3_delay_s", delay)


def test_work_whose_client_leaves_is_cancelled(listener, pair, freeze):  # S3
    state, address = listener
    freeze(state.quick)
    before = set(state.store.jobs)
    with contextlib.ExitStack() as stack:
        for _ in range(2):  # one that runs, one that waits
            stack.enter_context(socket.create_connection(address)).sendall(form(pair))
        until(lambda: state.quick.running and state.quick.waiting)
    until(lambda: state.quick.idle and set(state.store.jobs) <= before, 2)
    assert httpx.post(url(address, "/v1/stereo"), files=pair, timeout=30).status_code == 200


def test_heads_and_bodies_must_come_in_time(listener, pair):  # S3
    _, address = listener
    whole = form(pair)
    for sent, says in ((b"", b""), (b"GET /healthz HTTP/1.1\r\nho", b""), (whole[:-9], b" 408 "), (GET * 2, b" 200 ")):
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(sent)
            begun, answer = time.monotonic(), b""
            while chunk := connection.recv(4096):
                answer += chunk
        assert says in answer and bool(says) == bool(answer), answer
        assert time.monotonic() - begun < 8


def test_a_client_that_does_not_read_is_left(listener, pair):  # S3
    state, address = listener
    answer = httpx.post(url(address, "/v1/stereo"), files=pair, timeout=30).json()
    job = state.store.jobs[answer["id"]]
    with (job.out / "large.npy").open("wb") as file:
        file.truncate(64 * MIB)
    job.files["large.npy"] = 64 * MIB
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /v1/jobs/%s/files/large.npy HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % job.id.encode())
        until(lambda: state.guard.active == 1)
        until(lambda: state.guard.active == 0, 5)


def test_of_a_body_too_large_little_is_read(listener):  # S2
    _, address = listener
    before = metric(address, "received_bytes_total")
    for framing in (b"content-length: 99000000", b"transfer-encoding: chunked"):
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(FORM + framing + b"\r\n\r\n")
            data = b'--b\r\ncontent-disposition: form-data; name="left"; filename="l"\r\n\r\n' + bytes(65_000)
            sent = 0
            with contextlib.suppress(OSError):  # it closes when it has had enough
                for _ in range(1000):
                    connection.sendall(b"%x\r\n%s\r\n" % (len(data), data) if framing[:1] == b"t" else data)
                    sent, data = sent + len(data), bytes(65_000)
        assert sent < 20 * MIB, "it went on reading"  # a MiB more than the limit, and what the sockets hold
    # the limit, and one message: what uvicorn holds before it pauses (64 KiB), and one read of the socket (256 KiB)
    assert metric(address, "received_bytes_total") - before < 1.4 * MIB


def first_line(address, data):
    """Send bytes as they are; the status line that comes back."""
    with socket.create_connection(address, timeout=20) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        with contextlib.suppress(OSError):
            return connection.recv(4096).split(b"\r\n")[0]
    return b""


def test_crooked_requests(listener, pair):
    state, address = listener
    get, host = b"GET %s HTTP/1.1\r\n", b"host: 127.0.0.1\r\n"
    many = b"".join(b'--b\r\ncontent-disposition: form-data; name="x%d"\r\n\r\ny\r\n' % i for i in range(5000))
    body = b"content-length: %d\r\n\r\n"
    for data, status in (
        (FORM + body % len(many) + many, b"413"),
        (FORM + body % 500_000 + b"--b\r\nx: " + bytes(499_990), b"422"),
        (FORM + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + GET, b"422"),
        (FORM + b"content-length: -4\r\n\r\n", b"400"),
        (get % b"/healthz" + host + host + b"\r\n", b"400"),
        (get % b"/healthz" + host + b"x: " + bytes(100_000) + b"\r\n\r\n", b"400"),
        (get % b"/healthz" + b"host: evil.example\r\n\r\n", b"403"),
        (get % b"/healthz" + host + b"origin: null\r\n\r\n", b"403"),
        (get % b"/v1/jobs/../../../etc/passwd" + host + b"\r\n", b"404"),
        (get % b"/v1/jobs/%0d%0aset-cookie:x/files/%2e%2e%2fleft" + host + b"\r\n", b"404"),
    ):
        assert first_line(address, data).split(b" ")[1:2] == [status], data[:120]
    random, good, found = Random(0), form(pair), set()
    for _ in range(40):
        bad = bytearray(good)
        for _ in range(random.randint(1, 5)):
            bad[random.randrange(60, 700)] = random.randrange(256)
        found.add(first_line(address, bytes(bad))[9:10])
    assert found <= {b"2", b"4"}, "an answer that is no refusal"
    until(lambda: state.guard.active == 0 and state.guard._held == 0)


def test_sigterm_lets_work_end_and_leaves(make_server, pair, record_property):  # S6
    process, address = make_server()
    answers = []
    clients = [
        threading.Thread(target=lambda: answers.append(httpx.post(url(address, "/v1/stereo"), files=pair, timeout=60)))
        for _ in range(6)
    ]
    for client in clients:
        client.start()
    until(lambda: metric(address, "jobs_running") + metric(address, "jobs_waiting") >= 3)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    ready = httpx.get(url(address, "/readyz"))
    refused = httpx.post(url(address, "/v1/stereo"), files=pair)
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "draining")
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
    status, seconds = process.wait(15), time.monotonic() - begun
    assert status == 0 and seconds < 15
    record_property("s6_drain_s", seconds)
    for client in clients:
        client.join()
    assert [answer.status_code for answer in answers] == [200] * 6
    with pytest.raises(httpx.ConnectError):
        httpx.get(url(address, "/healthz"))


@pytest.mark.slow
def test_work_that_does_not_end_is_left_and_nothing_stays_behind(make_server, pair, tmp_path):  # S6
    process, address = make_server(environment={"TMPDIR": str(tmp_path)})
    job = httpx.post(url(address, "/v1/refine"), files=pair, data={"steps": "5000"}, timeout=30).json()["id"]
    seen = []

    def follow():
        with httpx.stream("GET", url(address, f"/v1/jobs/{job}/events"), timeout=60) as stream:
            seen.extend(line for line in stream.iter_lines() if line.startswith("event"))

    follower = threading.Thread(target=follow)
    follower.start()
    until(lambda: "event: running" in seen or not follower.is_alive())
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert process.wait(20) == 0
    assert time.monotonic() - begun < 15
    follower.join()
    assert seen[-1] == "event: cancelled"
    assert list(tmp_path.glob("depthlight*")) == []


@pytest.mark.slow
def test_a_second_signal_leaves_at_once_and_the_worker_with_it(make_server, pair):
    process, address = make_server()
    httpx.post(url(address, "/v1/refine"), files=pair, data={"steps": "5000"}, timeout=30).raise_for_status()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert process.wait(5) == 0


def test_what_cannot_be_served_is_told_in_a_line(capsys, monkeypatch, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    (tmp_path / "token").write_text("short")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, says in (
            (["--port", str(port)], f"cannot listen on 127.0.0.1:{port}"),
            (["--port", "0", "-m", "no-such"], "unknown model 'no-such'"),
            (["--port", "0", "-m", str(tmp_path / "bad.onnx")], "bad.onnx"),
            (["--port", "0", "--token-file", str(tmp_path / "token")], "16 or more characters"),
        ):
            assert cli.run(["serve", *options]) == 2
            error = capsys.readouterr().err
            assert says in error and len(error.strip().splitlines()) == 1


def test_the_token_comes_from_a_file_or_the_environment(monkeypatch, tmp_path):
    from depthlight.cli.serve import _token

    assert _token(None) is None
    monkeypatch.setenv("DEPTHLIGHT_TOKEN", "from the environment")
    assert _token(None) == "from the environment"
    (tmp_path / "token").write_text("from a file\n")
    assert _token(tmp_path / "token") == "from a file"
