"""What the server's tests share: pictures as bytes, an application in this process, and one in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from depthlight.app.api import create_app
from depthlight.app.server import listen, serve
from depthlight.app.settings import ServeConfig

CALIB = (
    "cam0=[100 0 48; 0 100 32; 0 0 1]\ncam1=[100 0 50; 0 100 32; 0 0 1]\ndoffs=2\nbaseline=100\nwidth=96\nheight=64\n"
)
SAMPLES = {"one": lambda: {"left.png": b"l", "right.png": b"r", "calib.txt": b"c"}}


@pytest.fixture
def png():
    """A function that encodes an image."""

    def encode(image) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return stream.getvalue()

    return encode


@pytest.fixture
def views(make_pair):
    """A textured pair of 96×64 with a disparity of 6 px: RGB arrays."""
    return make_pair(6, 64, 96)


@pytest.fixture
def pair(views, png):
    """The same as the files of a form."""
    return {"left": png(views[0]), "right": png(views[1])}


@pytest.fixture
def calib():
    """A calibration of it."""
    return CALIB.encode()


@contextlib.contextmanager
def application(**settings):
    """A client of an application with these settings, on one thread."""
    config = ServeConfig(**{"threads": 1, **settings})
    with TestClient(create_app(config, samples=SAMPLES), base_url="http://127.0.0.1:8000") as client:
        client.state = client.app.app.state.shared
        yield client


@pytest.fixture(scope="module")
def client():
    with application(monos=()) as found:  # pairs alone
        yield found


@pytest.fixture
def make_application():
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(application(**settings))


@pytest.fixture(scope="module")
def make_listener():
    """A function that serves an application on a free port from a thread; returns the state and the address."""
    running = []

    def start(**settings):
        app = create_app(ServeConfig(**{"threads": 1, **settings}))
        sock = listen("127.0.0.1", 0)
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(serve(app, sock, started=started.set)))
        thread.start()
        assert started.wait(60)
        running.append((app, thread))
        return app.app.state.shared, sock.getsockname()

    yield start
    for app, thread in running:
        app.draining = True
        thread.join(30)


@pytest.fixture
def make_server():
    """A function that starts ``depthlight serve`` on a free port; returns the process and its address."""
    processes = []

    def start(*options, environment=None):
        command = [sys.executable, "-m", "depthlight", "serve", "--port", "0", "--threads", "1", *options]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        processes.append(process)
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, f"said {line!r}"
        return process, ("127.0.0.1", int(found[1]))

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture
def freeze():
    """A function that stops the workers of a pool in their tracks, so that work takes for ever; returns their ids."""

    def stop(pool) -> list[int]:
        found = [worker.process.pid for worker in pool.workers]
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        return found

    return stop
