"""Batches by position: the same order and bytes with 0, 1 or 2 workers, from any position on.

A sample that cannot be read is reported in its batch with its path, and the batch is that much smaller. It is never
replaced by another one: what was trained on must follow from the seed and the data alone.

Shape legend: B batch, H W crop. Images RGB uint8 (channels-last in memory), disparity px, left view.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..core.errors import DepthlightError, InputError
from .augment import AugmentConfig, appearance, geometry, strong_colour_jitter
from .samples import StereoDataset, StereoSample
from .sampling import MixtureSampler

T = TypeVar("T")


class Samples(Protocol):
    """Any indexable collection of samples; every sample has a ``name``."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def sample_name(self, index: int) -> str:
        """A stable name of sample ``index``, without reading it."""
        ...


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be read: where it was, what was wrong."""

    name: str
    position: int
    error: str


def moved(batch: T, device: torch.device) -> T:
    """The same batch (a frozen dataclass) with its tensors on ``device``."""
    tensors: dict[str, Any] = {
        key: value.to(device, non_blocking=True) for key, value in vars(batch).items() if isinstance(value, Tensor)
    }
    return replace(batch, **tensors)  # type: ignore[type-var]


@dataclass(frozen=True)
class Batch:
    """What a training step sees.

    ``mask_BHW`` is true where the truth is known. ``student_left/right`` are the perturbed views of stage 2, beside
    which ``left`` and ``right`` are clean.
    ``nominal`` is the batch size asked for: losses are divided by it, so a missing sample weighs nothing rather than
    raising the weight of its neighbours. ``cpu_seconds`` is what making the batch cost.
    """

    left_B3HW: Tensor
    right_B3HW: Tensor
    disp_BHW: Tensor
    mask_BHW: Tensor
    names: tuple[str, ...]
    positions: tuple[int, ...]
    nominal: int
    student_left_B3HW: Tensor | None = None
    student_right_B3HW: Tensor | None = None
    bad: tuple[BadSample, ...] = ()
    cpu_seconds: float = 0.0

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on ``device``."""
        return moved(self, device)


@dataclass(frozen=True)
class BatchFacts:
    """What every batch states beside its tensors (see :class:`Batch`), whatever it is made of."""

    names: tuple[str, ...]
    positions: tuple[int, ...]
    nominal: int
    bad: tuple[BadSample, ...]
    cpu_seconds: float


@dataclass(frozen=True)
class _Item:
    value: Any
    name: str
    position: int
    cpu_seconds: float


class _Positions(Dataset["_Item | BadSample"]):
    """Positions → prepared samples; what the workers run."""

    def __init__(
        self,
        datasets: Sequence[Samples],
        sampler: MixtureSampler,
        prepare: Callable[[Any, np.random.Generator], Any],
    ) -> None:
        self.datasets, self.sampler, self.prepare = tuple(datasets), sampler, prepare

    def __getitem__(self, position: int) -> _Item | BadSample:
        started = time.thread_time()
        draw = self.sampler.draw(position)
        dataset = self.datasets[draw.dataset]
        try:
            sample = dataset[draw.index]
            value = self.prepare(sample, np.random.default_rng(draw.seed))
        except (DepthlightError, OSError) as error:
            return BadSample(f"{dataset.name}/{dataset.sample_name(draw.index)}", position, str(error))
        return _Item(value, sample.name, position, time.thread_time() - started)


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """How positions become batches: global ``batch``, of which this ``rank`` of ``world`` takes its slice."""

    batch: int
    workers: int = 0
    rank: int = 0
    world: int = 1


def stream(
    datasets: Sequence[Samples],
    sampler: MixtureSampler,
    prepare: Callable[[Any, np.random.Generator], Any],
    collate: Callable[[list[Any], BatchFacts], T],
    plan: StreamPlan,
    start: int = 0,
) -> Iterator[T]:
    """Endless batches from position ``start`` on (a multiple of the batch size).

    With ``workers`` > 0 the next batches are made in the background while the current one trains.

    Args:
        prepare: makes of a sample what goes into a batch; its randomness is the generator's. A ``DepthlightError`` or
            ``OSError`` of it counts as a bad sample. It is sent to the workers, so it must pickle.
        collate: makes a batch of what ``prepare`` gave (possibly nothing: all bad) and the facts.
    """
    local = plan.batch // plan.world

    def positions() -> Iterator[list[int]]:
        first = start + plan.rank * local
        while True:
            yield list(range(first, first + local))
            first += plan.batch

    loader = DataLoader(
        _Positions(datasets, sampler, prepare),
        batch_sampler=_Endless(positions),
        num_workers=plan.workers,
        collate_fn=_Collate(local, collate, count_cpu=plan.workers > 0),
        worker_init_fn=_quiet_worker,
        prefetch_factor=3 if plan.workers else None,
        persistent_workers=plan.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


class _Endless:
    """An iterable that makes a fresh iterator each time, as DataLoader asks of a batch sampler."""

    def __init__(self, make: object) -> None:
        self.make = make

    def __iter__(self) -> Iterator[list[int]]:
        return self.make()  # type: ignore[operator, no-any-return]


def _quiet_worker(_: int) -> None:
    """Workers leave signals to the trainer, which saves first, and use one thread."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)


class _Collate:
    def __init__(self, nominal: int, make: Callable[[list[Any], BatchFacts], Any], *, count_cpu: bool) -> None:
        self.nominal, self.make, self.count_cpu = nominal, make, count_cpu

    def __call__(self, items: list[_Item | BadSample]) -> Any:
        good = [item for item in items if isinstance(item, _Item)]
        facts = BatchFacts(
            names=tuple(item.name for item in good),
            positions=tuple(item.position for item in good),
            nominal=self.nominal,
            bad=tuple(item for item in items if isinstance(item, BadSample)),
            cpu_seconds=sum(item.cpu_seconds for item in good) if self.count_cpu else 0.0,
        )
        return self.make([item.value for item in good], facts)


def stack_images(images: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
    """(H, W, 3) images as one (B, 3, H, W) uint8 tensor, channels-last in memory; ``size`` (H, W) if there are none."""
    stacked = np.stack(images) if images else np.zeros((0, *size, 3), np.uint8)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def stack_maps(maps: Sequence[np.ndarray | None], size: tuple[int, int], dtype: type) -> Tensor:
    """(H, W) maps as one (B, H, W) tensor; a sample without (None) counts as 0 everywhere."""
    known: list[np.ndarray] = [np.zeros(size, dtype) if m is None else np.asarray(m, dtype) for m in maps]
    return torch.from_numpy(np.stack(known) if known else np.zeros((0, *size), dtype))


# ---------------------------------------------------------------------------------------------------- stereo


@dataclass(frozen=True, kw_only=True)
class LoaderPlan(StreamPlan):
    """A :class:`StreamPlan` for stereo: what happens to each pair.

    ``student`` adds stage 2's perturbed views. Without ``truth`` a pair may lack its disparity, which then counts as
    unknown everywhere; else such a pair is a bad sample.
    """

    crop: tuple[int, int]
    augment: AugmentConfig
    student: bool = False
    truth: bool = True


def batches(
    datasets: Sequence[StereoDataset], sampler: MixtureSampler, plan: LoaderPlan, start: int = 0
) -> Iterator[Batch]:
    """Endless batches of augmented pairs from position ``start`` on; see :func:`stream`."""
    pairs = _Pairs(plan)
    return stream(datasets, sampler, pairs.prepare, pairs.collate, plan, start)


@dataclass(frozen=True)
class _Pair:
    sample: StereoSample
    student: tuple[np.ndarray, np.ndarray] | None


class _Pairs:
    """How pairs are prepared and put together."""

    def __init__(self, plan: LoaderPlan) -> None:
        self.plan = plan

    def prepare(self, sample: StereoSample, rng: np.random.Generator) -> _Pair:
        if self.plan.truth and sample.disparity_HW is None:
            raise InputError(f"{sample.name} has no disparity to learn from", expected="labelled data, or stage 3")
        sample = geometry(sample, self.plan.augment, rng, self.plan.crop)
        views = appearance(sample.left_HW3, sample.right_HW3, self.plan.augment, rng)
        if self.plan.student:  # the sample itself stays clean: it is what the teacher sees
            return _Pair(sample, strong_colour_jitter(*views, rng))
        return _Pair(replace(sample, left_HW3=views[0], right_HW3=views[1]), None)

    def collate(self, pairs: list[_Pair], facts: BatchFacts) -> Batch:
        crop = self.plan.crop
        samples = [pair.sample for pair in pairs]
        students = [pair.student for pair in pairs if pair.student is not None]
        return Batch(
            left_B3HW=stack_images([s.left_HW3 for s in samples], crop),
            right_B3HW=stack_images([s.right_HW3 for s in samples], crop),
            disp_BHW=stack_maps([s.disparity_HW for s in samples], crop, np.float32),
            mask_BHW=stack_maps([s.valid_HW for s in samples], crop, np.bool_),
            student_left_B3HW=stack_images([s[0] for s in students], crop) if students else None,
            student_right_B3HW=stack_images([s[1] for s in students], crop) if students else None,
            **vars(facts),
        )
