"""The memory guard: what is refused before it starts, and what shares a pass."""

from __future__ import annotations

import numpy as np
import pytest

import depthlight as dl
from depthlight.core.errors import LimitError
from depthlight.core.tolerances import tolerance
from depthlight.infer import memory, pairs
from depthlight.infer.memory import bytes_needed, need_memory
from depthlight.infer.search_range import Windows


def test_too_large_is_refused_before_the_backend_runs(monkeypatch):
    model = dl.load(threads=1)
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    monkeypatch.setattr(model.backend, "run", lambda *args: pytest.fail("ran"))
    image = np.zeros((64, 96, 3), np.uint8)
    with pytest.raises(LimitError, match=r"a 96×64 pair at a range of 192 px needs about .* GiB.*smaller images"):
        model.predict(image, image)


def test_what_fits_is_let_through():
    need_memory("nothing", 0)
    with pytest.raises(LimitError):
        need_memory("everything", 2**60)


def test_pairs_that_do_not_fit_together_are_computed_apart(monkeypatch):
    model = dl.load(threads=1)
    rng = np.random.default_rng(0)
    pairs_given = [tuple(rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)) for _ in range(4)]
    together = model.predict_batch(pairs_given)
    counts = []
    run = model.backend.run
    monkeypatch.setattr(
        model.backend, "run", lambda left, right, px: (counts.append(len(left)), run(left, right, px))[1]
    )
    monkeypatch.setattr(model, "_most_pixels", lambda shape, windows: 2 * 64 * 96 // shape[0])
    apart = model.predict_batch(pairs_given)
    assert counts == [2, 2]
    for one, other in zip(together, apart, strict=True):
        assert np.abs(one.disparity - other.disparity).max() <= tolerance("batch.max")
    monkeypatch.undo()
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    with pytest.raises(LimitError, match="a 96×64 pair"):
        dl.load(threads=1).predict_batch(pairs_given)


def test_what_a_runtime_keeps_for_the_next_run_counts_as_free(monkeypatch):
    model = dl.load(threads=1)
    image = np.zeros((64, 96, 3), np.uint8)
    needed = bytes_needed(model.backend, Windows(192, (0,)), 1, 64 * 96, 64 * 96)
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    model.predict(image, image)
    monkeypatch.setattr(memory, "available_memory", lambda: needed // 2)
    model.predict(image, image)
    with pytest.raises(LimitError):
        dl.load(threads=1).predict(image, image)


def test_stacks_stay_within_their_pixels(monkeypatch):
    monkeypatch.setattr(pairs, "STACK_PIXELS", 250)
    small, large = (np.zeros((10, width, 3), np.uint8) for width in (10, 40))
    order = [small] * 5 + [large] * 2 + [small]
    found = [[pair[0].shape[1] for pair in group] for group in pairs.stacks((image, image) for image in order)]
    assert found == [[10, 10], [10, 10], [10], [40], [40], [10]]
