import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.core.errors import ConfigError
from depthlight.data.sampling import BLOCK, MixtureSampler


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    forwards = MixtureSampler([7, 5], [1, 2], seed=3)
    backwards = MixtureSampler([7, 5], [1, 2], seed=3)
    positions = [*range(40), 5000, 1023, 1024]
    expected = {position: forwards.draw(position) for position in positions}
    assert {position: backwards.draw(position) for position in reversed(positions)} == expected
    other = MixtureSampler([7, 5], [1, 2], seed=4)
    assert [other.draw(p) for p in range(40)] != [forwards.draw(p) for p in range(40)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(0, 2**31), st.data())
def test_every_epoch_of_every_set_is_a_permutation(sizes: list[int], seed: int, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.floats(0.05, 1), min_size=len(sizes), max_size=len(sizes)))
    sampler = MixtureSampler(sizes, weights, seed)
    drawn: dict[int, list[int]] = {i: [] for i in range(len(sizes))}
    for position in range(3 * BLOCK):
        draw = sampler.draw(position)
        drawn[draw.dataset].append(draw.index)
    for dataset, size in enumerate(sizes):
        for epoch in _chunks(drawn[dataset], size):
            assert len(set(epoch)) == len(epoch)
            assert set(epoch) <= set(range(size))


def _chunks(values: list[int], size: int) -> list[list[int]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def test_epochs_are_shuffled_anew() -> None:
    sampler = MixtureSampler([50], [1.0], seed=0)
    first, second = ([sampler.draw(p).index for p in range(e * 50, e * 50 + 50)] for e in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(50))


def test_shares_follow_the_weights_and_none_is_starved() -> None:
    sampler = MixtureSampler([10, 10, 10], [0.6, 0.3999, 0.0001], seed=0)
    counts = np.bincount([sampler.draw(p).dataset for p in range(BLOCK)], minlength=3)
    assert counts.sum() == BLOCK
    assert abs(counts[0] / BLOCK - 0.6) < 0.004
    assert counts[2] == 1


def test_augmentation_seeds_do_not_repeat() -> None:
    sampler = MixtureSampler([3], [1.0], seed=0)
    assert len({sampler.draw(p).seed for p in range(2000)}) == 2000


@pytest.mark.parametrize(("sizes", "weights"), [([], []), ([3], [1, 2]), ([0], [1]), ([3], [0]), ([3], [float("nan")])])
def test_nonsense_is_refused(sizes: list[int], weights: list[float]) -> None:
    with pytest.raises(ConfigError):
        MixtureSampler(sizes, weights, 0)
