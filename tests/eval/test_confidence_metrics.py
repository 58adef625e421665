from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.core.errors import InputError, NonFiniteError
from depthlight.core.tolerances import tolerance
from depthlight.eval.confidence import ause, bad_of_kept, confidence_metrics, relative_drop

CLOSE = tolerance("metrics")
ERRORS = np.array([0.0, 1.0, 2.0, 5.0])
vectors = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=6)


def curve(error: tuple[float, ...]) -> np.ndarray:
    return np.array([np.mean(error[:kept]) for kept in range(1, len(error) + 1)])


def test_a_perfect_ranking_has_no_area() -> None:
    assert ause(ERRORS, np.array([0.9, 0.8, 0.3, 0.1])) == 0.0


def test_the_worst_ranking_by_hand() -> None:
    # kept 1..4, worst first: 5, 3.5, 8/3, 2; oracle: 0, 0.5, 1, 2; EPE 2
    expected = np.mean([5 - 0, 3.5 - 0.5, 8 / 3 - 1, 2 - 2]) / 2
    assert ause(ERRORS, np.array([0.1, 0.3, 0.8, 0.9])) == pytest.approx(expected, abs=CLOSE)


def test_a_constant_map_scores_like_a_random_order() -> None:
    expected = np.mean(np.full(4, 2.0) - curve((0, 1, 2, 5))) / 2
    assert ause(ERRORS, np.full(4, 0.5)) == pytest.approx(expected, abs=CLOSE)


@settings(max_examples=60, deadline=None)
@given(vectors)
def test_ties_are_the_mean_over_all_their_orders(pairs: list[tuple[int, int]]) -> None:
    error, confidence = (np.array(values, np.float64) for values in zip(*pairs, strict=True))
    orders = [
        order
        for order in itertools.permutations(range(len(pairs)))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    curves = np.mean([curve(tuple(error[list(order)])) for order in orders], axis=0)
    epe = error.mean()
    expected = np.mean(curves - curve(tuple(np.sort(error)))) / epe if epe else 0.0
    assert ause(error, confidence) == pytest.approx(expected, abs=CLOSE)
    kept = -(-len(pairs) * 8 // 10)
    bad = np.mean([100 * np.mean(error[list(order)][:kept] > 2) for order in orders])
    assert bad_of_kept(error, confidence) == pytest.approx(bad, abs=CLOSE)


@settings(max_examples=60, deadline=None)
@given(vectors, st.randoms())
def test_only_the_ranking_matters(pairs: list[tuple[int, int]], random: object) -> None:
    error, confidence = (np.array(values, np.float64) for values in zip(*pairs, strict=True))
    before = confidence_metrics(error, confidence)
    after = confidence_metrics(error, np.exp(confidence) * 0.01)
    order = np.arange(len(pairs))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = confidence_metrics(error[order], confidence[order])
    assert after == before
    assert shuffled.to_dict() == pytest.approx(before.to_dict(), abs=CLOSE)
    assert ause(error * 8, confidence) == pytest.approx(before.ause, abs=CLOSE)


def test_the_least_confident_fifth_is_dropped() -> None:
    error = np.array([0, 0, 0, 0, 0, 0, 0, 9, 9, 9.0])
    confidence = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0.0])
    assert bad_of_kept(error, confidence) == pytest.approx(12.5, abs=CLOSE)
    assert bad_of_kept(error, confidence, share=1.0) == pytest.approx(30.0, abs=CLOSE)
    assert relative_drop(30.0, 12.5) == pytest.approx(100 * 17.5 / 30)
    assert relative_drop(0.0, 0.0) is None


def test_no_error_at_all_scores_zero() -> None:
    assert ause(np.zeros(3), np.array([0.1, 0.5, 0.2])) == 0.0


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="no pixel"):
        ause(np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="shape"):
        ause(np.zeros(3), np.zeros(2))
    with pytest.raises(NonFiniteError, match="entry 1"):
        ause(np.zeros(3), np.array([0, np.nan, 0]))
    with pytest.raises(InputError, match="kept share"):
        bad_of_kept(np.zeros(3), np.zeros(3), share=0.0)
