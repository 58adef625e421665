"""What all readers share: a list of entries, and turning one of them into a checked sample."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError, FileFormatError, InputError
from ...io.images import read_image
from ..decoders import Truth
from ..samples import StereoSample


@dataclass(frozen=True)
class Entry:
    """The files of one sample. ``truth`` is None only where a split has none; the others are optional files."""

    name: str
    left: Path
    right: Path
    truth: Path | None = None
    right_truth: Path | None = None
    visible: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Reader(ABC):
    """A dataset over files (a ``StereoDataset``). Listing touches no image; a bad file raises when it is read.

    Subclasses give ``name`` and ``layout``, list their entries and say how their truth is stored.
    """

    name: str
    layout: ClassVar[str]  # what the root should look like, for the error when it does not

    def __init__(self, root: str | os.PathLike[str], entries: Iterable[Entry]) -> None:
        self.root = Path(root)
        self._entries = sorted(entries, key=lambda entry: entry.name)
        if not self._entries:
            raise InputError(
                f"{self.root} holds no sample of {self.name}",
                expected=self.layout,
                hint="Give the folder the archives were unpacked into",
                path=str(self.root),
            )

    def __len__(self) -> int:
        return len(self._entries)

    def sample_name(self, index: int) -> str:
        """The sample's path inside the set, without reading it."""
        return self._entries[index].name

    def __getitem__(self, index: int) -> StereoSample:
        """Read a sample.

        Raises:
            DepthlightError: a file is missing, damaged, or of another size than the left image; names its path.
        """
        entry = self._entries[index]
        left_HW3, right_HW3 = read_image(entry.left), read_image(entry.right)
        size = left_HW3.shape[:2]
        check_size(entry.right, right_HW3.shape[:2], size)
        truth, right_truth = self._truth(entry.truth, entry, size), self._optional_truth(entry, size)
        return StereoSample(
            left_HW3=left_HW3,
            right_HW3=right_HW3,
            name=entry.name,
            disparity_HW=truth.disparity_HW if truth else None,
            valid_HW=truth.valid_HW if truth else None,
            visible_HW=self._visible(entry, size),
            right_disparity_HW=right_truth.disparity_HW if right_truth else None,
            path=entry.left,
            extra=dict(entry.extra),
        )

    @abstractmethod
    def decode(self, path: Path, entry: Entry) -> Truth:
        """The disparity stored in ``path``, the truth of either view of ``entry``."""

    def decode_visible(self, path: Path) -> NDArray[np.bool_]:
        """The mask of pixels seen in both views; by default where a gray image is 255."""
        return np.asarray(read_image(path)[..., 0] == 255)

    def _truth(self, path: Path | None, entry: Entry, size: tuple[int, ...]) -> Truth | None:
        if path is None:
            return None
        truth = self.decode(path, entry)
        check_size(path, truth.disparity_HW.shape, size)
        return truth

    def _optional_truth(self, entry: Entry, size: tuple[int, ...]) -> Truth | None:
        path = entry.right_truth
        return self._truth(path, entry, size) if path is not None and path.is_file() else None

    def _visible(self, entry: Entry, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
        if entry.visible is None or not entry.visible.is_file():
            return None
        mask_HW = self.decode_visible(entry.visible)
        check_size(entry.visible, mask_HW.shape, size)
        return mask_HW


def check_size(path: Path, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise a FileFormatError naming ``path`` unless its (height, width) is that of the left image."""
    if size != expected:
        raise FileFormatError(
            f"{path} is {size[1]}×{size[0]}",
            expected=f"{expected[1]}×{expected[0]} like the left image",
            path=str(path),
        )


def checked_root(root: str | os.PathLike[str], name: str, layout: str) -> Path:
    """``root`` as a path, if it is a folder."""
    path = Path(root)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder", expected=f"the root of {name}: {layout}", path=str(path))
    return path


def choice(option: str, value: str, allowed: Iterable[str]) -> str:
    """``value`` if it is allowed; a ConfigError that lists what is, otherwise."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ConfigError(f"{option}={value!r} is not possible", expected="one of " + ", ".join(allowed))
    return value


def inner_name(path: Path, root: Path) -> str:
    """The path inside the set without its suffix, with forward slashes: a sample's name."""
    return path.relative_to(root).with_suffix("").as_posix()
