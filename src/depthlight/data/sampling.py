"""Which sample comes at which position: a pure function, so that resuming needs a number and nothing else.

Positions are cut into blocks. In each block every data set gets its fixed share of the slots, in an order shuffled by
(seed, block). So the number of draws a set has had before any position is known without counting, and the set's own
shuffled epochs follow from that number.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError

BLOCK = 1024


@dataclass(frozen=True)
class Draw:
    """Sample ``index`` of data set ``dataset``, to be augmented with ``seed``."""

    dataset: int
    index: int
    seed: int


class MixtureSampler:
    """A weighted mixture of data sets, each in shuffled epochs of its own.

    Args:
        sizes: number of samples of each set, all > 0.
        weights: relative shares; realised in 1024ths, at least one for each set.
        seed: same seed, same draws, whatever the number of workers or ranks.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        if not sizes or len(sizes) != len(weights):
            raise ConfigError(f"{len(sizes)} data sets and {len(weights)} weights", expected="as many, at least one")
        if min(sizes) <= 0:
            raise ConfigError(f"data set {list(sizes).index(min(sizes))} is empty")
        if min(weights) <= 0 or not np.isfinite(weights).all():
            raise ConfigError(f"weights are {list(weights)}", expected="finite numbers above 0")
        self.sizes = tuple(sizes)
        self.quotas = _quotas(np.asarray(weights, np.float64))
        self.seed = seed
        self._slots = functools.lru_cache(maxsize=4)(self._make_slots)
        self._order = functools.lru_cache(maxsize=2 * len(sizes))(self._make_order)

    def draw(self, position: int) -> Draw:
        """The draw at ``position`` >= 0."""
        block, slot = divmod(position, BLOCK)
        datasets, ranks = self._slots(block)
        dataset = int(datasets[slot])
        epoch, place = divmod(block * int(self.quotas[dataset]) + int(ranks[slot]), self.sizes[dataset])
        index = int(self._order(dataset, epoch)[place])
        seed = int(np.random.SeedSequence([self.seed, 2, position]).generate_state(1, np.uint64)[0])
        return Draw(dataset, index, seed)

    def _make_slots(self, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each slot of the block: its data set, and how many slots before it in the block are of the same set."""
        datasets = np.repeat(np.arange(len(self.sizes)), self.quotas)
        np.random.default_rng([self.seed, 0, block]).shuffle(datasets)
        ranks = np.empty(BLOCK, np.int64)
        for dataset, quota in enumerate(self.quotas):
            ranks[datasets == dataset] = np.arange(quota)
        return datasets, ranks

    def _make_order(self, dataset: int, epoch: int) -> NDArray[np.int64]:
        order: NDArray[np.int64] = np.random.default_rng([self.seed, 1, dataset, epoch]).permutation(
            self.sizes[dataset]
        )
        return order


def _quotas(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Slots per block by largest remainder, at least one for each set."""
    if len(weights) > BLOCK:
        raise ConfigError(f"{len(weights)} data sets", expected=f"at most {BLOCK}")
    exact = 1 + weights / weights.sum() * (BLOCK - len(weights))
    quotas: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    left = BLOCK - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:left]] += 1
    return quotas
