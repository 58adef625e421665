"""Batches by position: the same order and bytes with 0, 1 or 2 workers, from any position on.

A sample that cannot be read is reported in its batch with its path, and the batch is that much smaller. It is never
replaced by another one: what was trained on must follow from the seed and the data alone.

Shape legend: B batch, H W crop. Images RGB uint8 (channels-last in memory), disparity px, left view.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..core.errors import DepthlightError
from .augment import AugmentConfig, appearance, geometry, strong_colour_jitter
from .samples import StereoDataset, StereoSample
from .sampling import MixtureSampler


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be read: where it was, what was wrong."""

    name: str
    position: int
    error: str


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
        moved: dict[str, Any] = {
            key: value.to(device, non_blocking=True) for key, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class _Item:
    sample: StereoSample
    student: tuple[np.ndarray, np.ndarray] | None
    position: int
    cpu_seconds: float


class _Positions(Dataset["_Item | BadSample"]):
    """Positions → augmented samples; what the workers run."""

    def __init__(
        self,
        datasets: Sequence[StereoDataset],
        sampler: MixtureSampler,
        augmentation: AugmentConfig,
        crop: tuple[int, int],
        student: bool,
    ) -> None:
        self.datasets, self.sampler = tuple(datasets), sampler
        self.augmentation, self.crop, self.student = augmentation, crop, student

    def __getitem__(self, position: int) -> _Item | BadSample:
        started = time.thread_time()
        draw = self.sampler.draw(position)
        dataset = self.datasets[draw.dataset]
        try:
            sample = dataset[draw.index]
            rng = np.random.default_rng(draw.seed)
            sample = geometry(sample, self.augmentation, rng, self.crop)
            views = appearance(sample.left_HW3, sample.right_HW3, self.augmentation, rng)
        except (DepthlightError, OSError) as error:
            return BadSample(f"{dataset.name}/{dataset.sample_name(draw.index)}", position, str(error))
        if self.student:  # the sample itself stays clean: it is what the teacher sees
            return _Item(sample, strong_colour_jitter(*views, rng), position, time.thread_time() - started)
        sample = replace(sample, left_HW3=views[0], right_HW3=views[1])
        return _Item(sample, None, position, time.thread_time() - started)


@dataclass(frozen=True, kw_only=True)
class LoaderPlan:
    """How positions become batches: global ``batch``, of which this ``rank`` of ``world`` takes its slice."""

    batch: int
    crop: tuple[int, int]
    augment: AugmentConfig
    student: bool = False
    workers: int = 0
    rank: int = 0
    world: int = 1


def batches(
    datasets: Sequence[StereoDataset], sampler: MixtureSampler, plan: LoaderPlan, start: int = 0
) -> Iterator[Batch]:
    """Endless batches from position ``start`` on (a multiple of the batch size).

    With ``workers`` > 0 the next batches are made in the background while the current one trains.
    """
    local = plan.batch // plan.world

    def positions() -> Iterator[list[int]]:
        first = start + plan.rank * local
        while True:
            yield list(range(first, first + local))
            first += plan.batch

    loader = DataLoader(
        _Positions(datasets, sampler, plan.augment, plan.crop, plan.student),
        batch_sampler=_Endless(positions),
        num_workers=plan.workers,
        collate_fn=_Collate(local, plan.crop, count_cpu=plan.workers > 0),
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
    def __init__(self, nominal: int, crop: tuple[int, int], *, count_cpu: bool) -> None:
        self.nominal, self.crop, self.count_cpu = nominal, crop, count_cpu

    def __call__(self, items: list[_Item | BadSample]) -> Batch:
        good = [item for item in items if isinstance(item, _Item)]
        samples = [item.sample for item in good]
        students = [item.student for item in good if item.student is not None]
        return Batch(
            left_B3HW=self._images([s.left_HW3 for s in samples]),
            right_B3HW=self._images([s.right_HW3 for s in samples]),
            disp_BHW=self._maps([s.disparity_HW for s in samples], np.float32),
            mask_BHW=self._maps([s.valid_HW for s in samples], np.bool_),
            names=tuple(s.name for s in samples),
            positions=tuple(item.position for item in good),
            nominal=self.nominal,
            student_left_B3HW=self._images([s[0] for s in students]) if students else None,
            student_right_B3HW=self._images([s[1] for s in students]) if students else None,
            bad=tuple(item for item in items if isinstance(item, BadSample)),
            cpu_seconds=sum(item.cpu_seconds for item in good) if self.count_cpu else 0.0,
        )

    def _images(self, images: list[np.ndarray]) -> Tensor:
        stacked = np.stack(images) if images else np.zeros((0, *self.crop, 3), np.uint8)
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)

    def _maps(self, maps: list[np.ndarray | None], dtype: type) -> Tensor:
        """A sample without truth counts as unknown everywhere."""
        known: list[np.ndarray] = [np.zeros(self.crop, dtype) if m is None else np.asarray(m, dtype) for m in maps]
        return torch.from_numpy(np.stack(known) if known else np.zeros((0, *self.crop), dtype))
