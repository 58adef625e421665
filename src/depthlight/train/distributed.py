"""Several processes as one: gradients, running statistics and decisions are exchanged in one vector per step.

The networks here have a few million parameters, so one flat all-reduce after the backward pass costs little, keeps
every rank's weights *and* BatchNorm statistics identical after every step, and carries the ranks' agreement on
stopping and saving at no extra cost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..core.errors import ConfigError, DepthlightError

GRACE_SECONDS = 8.0  # below the ten seconds in which a run must have left after SIGTERM


class RankLostError(DepthlightError):
    """Another rank is gone; this one cannot go on alone."""

    code = "rank_lost"
    exit_status = 70


@dataclass(frozen=True)
class Ranks:
    """This process among the others."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def exchange(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[float]:
        """Average ``tensors`` over the ranks in place and return the sums of ``numbers``."""
        if self.world == 1:
            return list(numbers)
        tail = torch.tensor(numbers, dtype=torch.float32, device=tensors[0].device)
        vector = torch.cat([*(t.reshape(-1).float() for t in tensors), tail])
        with self._together():
            dist.all_reduce(vector)
        offset = 0
        for tensor in tensors:
            part = vector[offset : offset + tensor.numel()]
            tensor.copy_(part.view(tensor.shape).div_(self.world))
            offset += tensor.numel()
        return [float(x) for x in vector[offset:].tolist()]

    def decide(self, yes: bool, device: torch.device) -> bool:
        """What the first rank says, on every rank."""
        return self.exchange([torch.zeros(1, device=device)], [float(self.is_first and yes)])[0] > 0

    def gather(self, texts: Sequence[str]) -> list[str]:
        """The texts of all ranks, on every rank."""
        if self.world == 1:
            return list(texts)
        found: list[Any] = [None] * self.world
        with self._together():
            dist.all_gather_object(found, list(texts))
        return [text for part in found for text in part]

    def wish_of(self, number: int) -> int:
        """A signal (0 is none) as what :meth:`signal_of` knows it by, in the sum over all ranks."""
        return {0: 0, signal.SIGINT: 1}.get(number, self.world + 1)

    def signal_of(self, wishes: int) -> int:
        """The signal that some rank had: SIGTERM if any had that one."""
        return signal.SIGTERM if wishes > self.world else signal.SIGINT

    def barrier(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            with self._together():
                dist.barrier()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankLostError(f"rank {self.rank} lost the others: {str(error).splitlines()[0]}") from None


def join() -> Ranks:
    """Join the process group that torchrun (or :func:`launch`) describes in the environment; alone without one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timedelta(hours=2))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if dist.get_backend() == "nccl":
        torch.cuda.set_device(local_rank)  # through which texts are gathered
    return Ranks(dist.get_rank(), world, local_rank)


def leave() -> None:
    """Leave the group, if in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launch(command: Sequence[str], ranks: int, *, threads: int) -> int:
    """Run ``python -m <command>`` as ``ranks`` processes of this machine; the first failure ends them all.

    The exit status is that of the first rank to fail, or 0; after a SIGTERM or SIGINT, which is handed on to the ranks,
    it is 143 or 130 unless they had all finished.
    """
    if ranks < 1:
        raise ConfigError(f"--ranks {ranks}", expected="at least 1")
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(ranks),
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        "OMP_NUM_THREADS": str(max(threads, 1)),
    }
    children = [
        subprocess.Popen([sys.executable, "-m", *command], env={**environment, "RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(ranks)
    ]
    with _Forward(children) as forward:
        status = _wait(children)
    return 128 + forward.number if status and forward.number else status


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [child.poll() for child in children]
        failed = [code for code in codes if code]
        if failed or all(code == 0 for code in codes):
            break
        time.sleep(0.2)
    deadline = time.monotonic() + GRACE_SECONDS
    while failed and any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.2)
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()
    status = failed[0] if failed else 0
    return 128 - status if status < 0 else status


class _Forward:
    """Hand SIGTERM and SIGINT on to the ranks while waiting for them."""

    def __init__(self, children: Sequence[subprocess.Popen[bytes]]) -> None:
        self.children = children
        self.number = 0  # of the signal that was handed on

    def __enter__(self) -> _Forward:
        def forward(number: int, _frame: object) -> None:
            self.number = number
            for child in self.children:
                if child.poll() is None:
                    child.send_signal(number)

        # A terminal's Ctrl-C reaches the ranks by itself as well; their StopFlag takes both as one stop.
        signal.signal(signal.SIGINT, forward)
        signal.signal(signal.SIGTERM, forward)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
