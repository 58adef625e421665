"""The same items on Ray Data: a pool of actors, each with a :class:`~depthlight.batch.desk.Desk` of its own.

A worker that dies is replaced, and its block of items is done again; what was finished is kept. An item under which
workers died :data:`DEATHS` times has failed, and the others go on.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import secrets
import signal
import socket
from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import Any

from ..core.errors import InputError
from ..core.extras import require
from .desk import Desk, Row
from .kinds import Kind
from .manifest import Item, Manifest

LOCAL = "local"
PER_BLOCK = 16  # items that a worker takes at a time
DEATHS = 3


class Worker:
    """What a Ray actor runs."""

    def __init__(self, kinds: Sequence[Kind], out: str, run: str) -> None:
        self.desk = Desk(kinds, out, run)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        item = Item(row["name"], row["work"], json.loads(row["inputs"]))
        if self.desk.store.leftovers(item.name) >= DEATHS:
            text = f"{DEATHS} workers died doing it. Is the machine short of memory?"
            return asdict(Row(item.name, "failed", 0.0, text, 1))
        return asdict(self.desk.do(item))


def run_on_ray(manifest: Manifest, items: Sequence[Item], out: str, address: str) -> Generator[Row]:
    """Rows of the items as they come, in no order.

    Args:
        address: ``local`` starts a cluster on this machine; else as for ``ray.init``: ``auto``, ``ray://HOST:PORT`` ….

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = require("ray", extra="batch", purpose="--ray runs on it")
    require("ray.data", extra="batch", purpose="--ray runs on it")
    here: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if found := re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address):  # Ray itself tries for minutes
            socket.create_connection((found[1], int(found[2])), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except Exception as error:  # Ray's, gRPC's, the system's
        raise InputError(f"no Ray cluster at {address}: {error}", expected="local, auto or an address") from None
    signal.signal(signal.SIGTERM, handler)  # Ray takes it
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        gpu = any(kind.device.startswith("cuda") for kind in manifest.kinds)
        cpus = max(kind.threads for kind in manifest.kinds)
        there = ray.cluster_resources()
        workers = int(there.get("GPU", 0) if gpu else there.get("CPU", 1) / cpus)
        blocks = max(math.ceil(len(items) / PER_BLOCK), min(workers, len(items)))
        rows = [{"name": item.name, "work": item.work, "inputs": json.dumps(dict(item.inputs))} for item in items]
        done = ray.data.from_items(rows, override_num_blocks=blocks).map(
            Worker,
            fn_constructor_args=(manifest.kinds, out, secrets.token_hex(4)),
            compute=ray.data.ActorPoolStrategy(size=max(1, min(workers, blocks))),
            num_cpus=cpus,
            num_gpus=1 if gpu else None,
        )
        for row in done.iter_rows():
            yield Row(**row)
    finally:
        ray.shutdown()
