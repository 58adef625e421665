import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from depthlight.core.errors import ImageError
from depthlight.data.augment import AugmentConfig
from depthlight.data.loader import Batch, LoaderPlan, batches
from depthlight.data.samples import StereoSample
from depthlight.data.sampling import MixtureSampler


class Made:
    """Random samples; those in ``broken`` cannot be read."""

    def __init__(self, size: int, broken: frozenset[int] = frozenset()) -> None:
        self.name, self.size, self.broken = "made", size, broken

    def __len__(self) -> int:
        return self.size

    def sample_name(self, index: int) -> str:
        return f"scene-{index}"

    def __getitem__(self, index: int) -> StereoSample:
        if index in self.broken:
            raise ImageError(f"/data/scene-{index}/left.png is not an image")
        rng = np.random.default_rng(index)
        left, right = rng.integers(0, 256, (2, 48, 80, 3), dtype=np.uint8)
        disparity = rng.uniform(1, 20, (48, 80)).astype(np.float32)
        return StereoSample(left, right, f"scene-{index}", disparity, disparity > 5, path=Path("/data"))


def take(count: int, *, start: int = 0, dataset: Made | None = None, **plan: object) -> list[Batch]:
    datasets = [dataset or Made(9)]
    sampler = MixtureSampler([len(d) for d in datasets], [1.0], seed=1)
    full = LoaderPlan(**{"batch": 4, "crop": (32, 64), "augment": AugmentConfig()} | plan)  # type: ignore[arg-type]
    return list(itertools.islice(batches(datasets, sampler, full, start), count))


def same(one: Batch, two: Batch) -> bool:
    maps = ("left_B3HW", "right_B3HW", "disp_BHW", "mask_BHW")
    return one.names == two.names and all(torch.equal(getattr(one, m), getattr(two, m)) for m in maps)


def test_order_and_bytes_do_not_depend_on_the_workers() -> None:
    alone, one, two = (take(5, workers=workers) for workers in (0, 1, 2))
    assert all(same(a, b) and same(a, c) for a, b, c in zip(alone, one, two, strict=True))


def test_any_position_can_be_taken_up() -> None:
    for resumed, unbroken in zip(take(3, start=8), take(5)[2:], strict=True):
        assert same(resumed, unbroken)


def test_ranks_share_each_batch() -> None:
    whole = take(3)
    parts = [take(3, rank=rank, world=2) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        assert batch.positions == parts[0][step].positions + parts[1][step].positions
        assert torch.equal(batch.left_B3HW[2:], parts[1][step].left_B3HW)
        assert parts[0][step].nominal == 2


def test_images_arrive_channels_last() -> None:
    (batch,) = take(1)
    assert batch.left_B3HW.shape == (4, 3, 32, 64) and batch.left_B3HW.dtype == torch.uint8
    assert batch.left_B3HW.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_samples_are_reported_and_never_replaced(workers: int) -> None:
    broken = frozenset({2, 5})
    with_bad = take(9, dataset=Made(9, broken), workers=workers)
    without = take(9)
    reported = [bad for batch in with_bad for bad in batch.bad]
    assert {bad.name for bad in reported} == {"made/scene-2", "made/scene-5"}
    assert len(reported) == 8  # four epochs of nine samples, two of them bad
    assert all("/data/scene-" in bad.error for bad in reported)
    for holed, full in zip(with_bad, without, strict=True):
        lost = {bad.position for bad in holed.bad}
        kept = [i for i, position in enumerate(full.positions) if position not in lost]
        assert holed.positions == tuple(full.positions[i] for i in kept)
        assert torch.equal(holed.left_B3HW, full.left_B3HW[kept])
        assert holed.nominal == 4


def test_a_batch_of_bad_samples_is_empty() -> None:
    (batch,) = take(1, dataset=Made(3, frozenset({0, 1, 2})))
    assert batch.names == () and batch.left_B3HW.shape == (0, 3, 32, 64) and len(batch.bad) == 4


def test_programming_errors_are_not_bad_samples() -> None:
    class Wrong(Made):
        def __getitem__(self, index: int) -> StereoSample:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take(1, dataset=Wrong(3))


def test_student_views_are_perturbed_copies() -> None:
    (batch,) = take(1, student=True)
    assert batch.student_left_B3HW is not None
    assert batch.student_left_B3HW.shape == batch.left_B3HW.shape
    assert not torch.equal(batch.student_left_B3HW, batch.left_B3HW)
    assert take(1)[0].student_left_B3HW is None


def test_the_teacher_sees_the_clean_crop() -> None:
    """Of what happens to the views only the geometry reaches the teacher, and the truth is that of stage 1."""
    everything = replace(AugmentConfig(), gray=1.0, noise=1.0, blur=1.0, jpeg=1.0, erase=1.0, vertical_jitter=1.0)
    looks = ("photometric", "gray", "noise", "blur", "jpeg", "erase", "vertical_jitter")
    geometry_alone = replace(everything, **dict.fromkeys(looks, 0.0))
    (perturbed,) = take(1, student=True, augment=everything)
    (clean,) = take(1, augment=geometry_alone)
    (supervised,) = take(1, augment=everything)
    assert same(perturbed, clean)
    assert torch.equal(perturbed.disp_BHW, supervised.disp_BHW)
    assert not torch.equal(supervised.left_B3HW, clean.left_B3HW)
    assert perturbed.student_left_B3HW is not None
    spread = perturbed.student_left_B3HW.float().std(1).mean()
    assert spread < 0.5 * clean.left_B3HW.float().std(1).mean(), "the student's gray views are not those of stage 1"
