"""The one shape in which stereo data travels: from readers and the engine to augmentation, training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StereoSample:
    """A rectified pair with what is known about it. Left view unless said otherwise; H, W are the image size.

    ``disparity_HW`` is float32 px, positive, x_right = x_left - d; only meaningful where ``valid_HW`` is true (a sky at
    disparity 0 can be valid). ``visible_HW`` is true where the pixel is seen in both views.
    """

    left_HW3: NDArray[np.uint8]
    right_HW3: NDArray[np.uint8]
    name: str
    disparity_HW: NDArray[np.float32] | None = None
    valid_HW: NDArray[np.bool_] | None = None
    visible_HW: NDArray[np.bool_] | None = None
    right_disparity_HW: NDArray[np.float32] | None = None
    path: Path | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class StereoDataset(Protocol):
    """A finite, indexable collection of samples; ``dataset[i]`` reads and raises a DepthlightError on a bad one."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> StereoSample: ...

    def sample_name(self, index: int) -> str:
        """A stable name of sample ``index`` (its path inside the set), without reading it."""
        ...


def iterate(dataset: StereoDataset) -> Iterator[StereoSample]:
    """All samples in order."""
    for index in range(len(dataset)):
        yield dataset[index]
