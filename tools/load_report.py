"""How much ``depthlight serve`` bears: docs/benchmarks/serve.json and the table in docs/reliability.md.

Usage: python tools/load_report.py [--soak N] [--requests N] [--note TEXT]

Starts a server with one worker on one thread, which keeps results for 20 s, and asks it, from threads of this process,
for pairs of smooth noise with a known shift: each answer's disparity is compared with the serial one (bar S1). The soak
(S5) watches the resident memory and open files of server and worker; its slope is a least-squares line through the
second half; without it the stored one stays. ``--note`` says what else the machine was doing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from PIL import Image

from depthlight.io.atomic import atomic_write_bytes

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "docs/benchmarks/serve.json"
MARKERS = ("<!-- load table -->", "<!-- /load table -->")
SIZES = {"96×64": (64, 96, 8), "640×480": (480, 640, 4)}  # height, width, clients
Form = dict[str, bytes]


def pair(height: int, width: int, seed: int) -> Form:
    """Both views as PNG; the right one is the left one, moved."""
    random = np.random.default_rng(seed)
    small = random.random((height // 6, width // 6, 3), dtype=np.float32)
    wide = cv2.resize(small, (width + 8, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    found = {}
    for name, view in (("left", wide[:, :width]), ("right", wide[:, 8:])):
        stream = io.BytesIO()
        Image.fromarray((view * 255).astype(np.uint8)).save(stream, "PNG")
        found[name] = stream.getvalue()
    return found


class Server:
    """A server in a process of its own, and its worker."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address

    def _pids(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, found)]

    def cpu(self) -> float:
        """Seconds of processor time that both have used."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in self._pids()]
        return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> dict[str, float]:
        """MiB that server and worker hold, and the files they have open."""
        pids = self._pids()
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
        files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
        mib = [count * os.sysconf("SC_PAGE_SIZE") / 2**20 for count in pages]
        return {"server": mib[0], "worker": sum(mib[1:]), "files": files}


@contextmanager
def server() -> Iterator[Server]:
    command = [
        sys.executable,
        "-m",
        "depthlight",
        "serve",
        "--port",
        "0",
        "--threads",
        "1",
        "--queue",
        "64",
        "--keep",
        "20",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    if found is None:
        raise SystemExit("load_report: the server did not start")
    yield Server(process, found[0])
    process.terminate()
    process.wait(20)


def ask(client: httpx.Client, form: Form) -> str:
    """One pair; the hash of its disparity, or what went wrong."""
    answer = client.post("/v1/stereo", files=form, data={"format": "npy"}, timeout=120)
    if answer.status_code != 200:
        return str(answer.status_code)
    url = next(file["url"] for file in answer.json()["files"] if file["name"] == "disparity.npy")
    return hashlib.sha256(client.get(url).content).hexdigest()


def load(at: Server, forms: list[Form], requests: int, clients: int, each: Callable[[int], None]) -> dict[str, Any]:
    """``requests`` by ``clients`` at once; ``each`` is told how many are done."""
    with httpx.Client(base_url=at.address) as client:
        serial = [ask(client, form) for form in forms]
    todo, seconds, wrong, lock = iter(range(requests)), [], [0], threading.Lock()

    def work() -> None:
        with httpx.Client(base_url=at.address) as client:
            while True:
                with lock:
                    index = next(todo, None)
                if index is None:
                    return
                began = time.perf_counter()
                found = ask(client, forms[index % len(forms)])
                with lock:
                    seconds.append(time.perf_counter() - began)
                    wrong[0] += found != serial[index % len(forms)]
                    each(len(seconds))

    threads = [threading.Thread(target=work) for _ in range(clients)]
    began, used = time.perf_counter(), at.cpu()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "requests": requests,
        "clients": clients,
        "per_second": round(requests / (time.perf_counter() - began), 2),
        "cpu_s_per_request": round((at.cpu() - used) / requests, 3),
        "p50_s": round(float(np.percentile(seconds, 50)), 3),
        "p99_s": round(float(np.percentile(seconds, 99)), 3),
        "wrong_or_failed": wrong[0],
    }


def soak(at: Server, requests: int) -> dict[str, Any]:
    """Memory and files over many small requests."""
    seen: list[tuple[int, dict[str, float]]] = []

    def look(done: int) -> None:
        if done % 20 == 0:
            seen.append((done, at.memory()))

    row = load(at, [pair(64, 96, seed) for seed in range(4)], requests, 8, look)
    later = [(done, memory) for done, memory in seen if done > requests / 2]
    done = [count / 1000 for count, _ in later]
    for name in ("server", "worker"):
        row[f"{name}_mib"] = round(later[-1][1][name], 1)
        row[f"{name}_mib_per_1000"] = round(float(np.polyfit(done, [memory[name] for _, memory in later], 1)[0]), 2)
    row["files"] = [int(edge([memory["files"] for _, memory in later])) for edge in (min, max)]
    return row


def table(report: dict[str, Any]) -> str:
    rows = [
        "| pairs of | clients | requests | requests/s | CPU per request | p50 | p99 | wrong or failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in report["load"].items():
        seconds = [f"{row[key]} s" for key in ("cpu_s_per_request", "p50_s", "p99_s")]
        counts = [row[key] for key in ("clients", "requests", "per_second")]
        rows.append("| " + " | ".join(map(str, [name, *counts, *seconds, row["wrong_or_failed"]])) + " |")
    row = report["soak"]
    memory = "; ".join(
        f"{name} {row[f'{name}_mib']} MiB, {row[f'{name}_mib_per_1000']:+} MiB per 1,000 requests"
        for name in ("server", "worker")
    )
    soaked = (
        f"Over {row['requests']} requests of 96×64 ({row['wrong_or_failed']} wrong or failed), slopes of the second "
        f"half: {memory}; {row['files'][0]} to {row['files'][1]} open files."
    )
    setting = f"One worker, one thread, {report['cpus']} CPUs ({report['machine']}), loopback. {report['note']}"
    rows += ["", *textwrap.wrap(soaked, 120), "", *textwrap.wrap(setting, 120)]
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", type=int, default=2000, help="requests of the soak; 0 keeps the stored one")
    parser.add_argument("--requests", type=int, default=200, help="requests of each size")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    options = parser.parse_args()
    with server() as at:
        rows = {
            name: load(
                at, [pair(height, width, seed) for seed in range(4)], options.requests, clients, lambda done: None
            )
            for name, (height, width, clients) in SIZES.items()
        }
        report = {
            "machine": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "load_average": round(os.getloadavg()[1], 1),
            "note": options.note,
            "load": rows,
            "soak": soak(at, options.soak) if options.soak else json.loads(STORED.read_text())["soak"],
        }
    atomic_write_bytes(STORED, (json.dumps(report, indent=1) + "\n").encode())
    target = ROOT / "docs/reliability.md"
    before, rest = target.read_text().split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    atomic_write_bytes(target, f"{before}{MARKERS[0]}\n{table(report)}\n{MARKERS[1]}{after}".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
