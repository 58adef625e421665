"""The memory guard: what is refused before it starts, and what shares a pass."""

from __future__ import annotations

import numpy as np
import pytest

import depthlight as dl
from depthlight.core.errors import LimitError
from depthlight.infer import memory, pairs
from depthlight.infer.memory import CAP_WHERE_UNKNOWN, available_memory, need_memory


def test_too_large_is_refused_before_the_backend_runs(monkeypatch):
    model = dl.load(threads=1)
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    monkeypatch.setattr(model.backend, "run", lambda *args: pytest.fail("ran"))
    image = np.zeros((64, 96, 3), np.uint8)
    with pytest.raises(LimitError, match=r"a 96×64 pair at a range of 192 px needs about .* GiB.*smaller images"):
        model.predict(image, image)


def test_what_fits_is_let_through():
    need_memory("nothing", 0)
    free = available_memory()
    assert 2**24 < free < 2**50
    with pytest.raises(LimitError):
        need_memory("everything", 2**60)


def test_a_system_that_does_not_tell_has_a_stated_cap(monkeypatch):
    monkeypatch.setattr(memory, "Path", lambda name: _Absent())
    assert available_memory() == CAP_WHERE_UNKNOWN


class _Absent:
    def read_text(self, encoding):
        raise FileNotFoundError


def test_stacks_stay_within_their_pixels(monkeypatch):
    monkeypatch.setattr(pairs, "STACK_PIXELS", 250)
    small, large = (np.zeros((10, width, 3), np.uint8) for width in (10, 40))
    order = [small] * 5 + [large] * 2 + [small]
    found = [[pair[0].shape[1] for pair in group] for group in pairs.stacks((image, image) for image in order)]
    assert found == [[10, 10], [10, 10], [10], [40], [40], [10]]
