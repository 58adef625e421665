"""Data sources named in a configuration, as data sets."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import InputError
from ..data.readers import open_dataset
from ..data.samples import StereoDataset, StereoSample
from ..data.scenes import SceneFolder
from .config import Source


def open_source(source: Source) -> StereoDataset:
    """The data set of one source.

    Raises:
        InputError: the folder is missing or holds nothing of that kind.
        UnknownNameError: no reader of that name.
    """
    dataset: StereoDataset = _open(source)
    if source.limit:
        dataset = First(dataset, source.limit)
    if not len(dataset):
        raise InputError(f"{source.path} holds no samples of kind {source.kind!r}")
    return dataset


def _open(source: Source) -> StereoDataset:
    if source.kind == "synth":
        return Synthetic(source)
    path = Path(source.path)
    if source.kind == "pairs" and any(path.glob("*/left.*")):
        return SceneFolder(path, need_truth=False)
    return open_dataset(source.kind, path)


class First:
    """The first ``count`` samples of a set."""

    def __init__(self, dataset: StereoDataset, count: int) -> None:
        self.dataset, self.count, self.name = dataset, count, dataset.name

    def __len__(self) -> int:
        return min(self.count, len(self.dataset))

    def __getitem__(self, index: int) -> StereoSample:
        return self.dataset[index]

    def sample_name(self, index: int) -> str:
        return self.dataset.sample_name(index)


class Synthetic:
    """Scenes of the engine, made when asked for; ``source.path`` may name a folder of textures."""

    name = "synth"

    def __init__(self, source: Source) -> None:
        from ..data.synth.engine import Engine, SynthConfig

        self.count = source.count
        self.engine = Engine(SynthConfig(height=source.height, width=source.width, textures=source.path or None))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> StereoSample:
        return self.engine.sample(index)

    def sample_name(self, index: int) -> str:
        return f"{index:08d}"
