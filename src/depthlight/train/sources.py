"""Data sources named in a configuration, as data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.config import from_dict
from ..core.errors import ConfigError, InputError
from ..data.readers import open_dataset
from ..data.samples import StereoDataset, StereoSample
from ..data.sampling import MixtureSampler
from ..data.scenes import SceneFolder
from .config import Source


def open_source(source: Source, *, seed: int, right_truth: bool) -> StereoDataset:
    """The data set of one source.

    Args:
        seed: of the run; the engine's, unless the source names its own.
        right_truth: whether the right view's disparity will be used; it is not read from scene folders otherwise.

    Raises:
        ConfigError: an option is unknown or refused.
        InputError: the folder is missing or holds nothing of that kind.
        UnknownNameError: no reader of that name.
    """
    dataset = _open(source, seed, right_truth)
    if not len(dataset):
        raise InputError(f"{source.path} holds no samples of kind {source.kind!r}")
    return dataset


def mixture(sources: Sequence[Source], sizes: Sequence[int], seed: int) -> MixtureSampler:
    """The sampler of the sources, which have so many samples: by their weights, or without any by their sizes.

    Raises:
        ConfigError: some have a weight and some none.
    """
    weights = [source.weight for source in sources]
    if any(weights) and not all(weights):
        raise ConfigError("some data have a weight and some none", expected="a weight above 0 for each, or for none")
    return MixtureSampler(sizes, weights if any(weights) else sizes, seed)


def _open(source: Source, seed: int, right_truth: bool) -> StereoDataset:
    if source.kind == "synth":
        return Synthetic(source, seed)
    path = Path(source.path)
    if source.kind == "pairs" and not source.options and any(path.glob("*/left.*")):
        return SceneFolder(path, need_truth=False, right_truth=False, visible=False)
    options = source.options
    if source.kind == "scenes":
        options = {"right_truth": right_truth, "visible": False, **options}
    return open_dataset(source.kind, path, **options)


class Synthetic:
    """Scenes of the engine, made when asked for; ``source.path`` may name a folder of textures."""

    name = "synth"

    def __init__(self, source: Source, seed: int) -> None:
        from ..data.synth.engine import Engine, SynthConfig

        self.count = source.count
        settings = {"seed": seed, "height": source.height, "width": source.width, **source.options}
        if source.path:
            settings["textures"] = source.path
        self.engine = Engine(from_dict(SynthConfig, settings))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> StereoSample:
        return self.engine.sample(index)

    def sample_name(self, index: int) -> str:
        return f"{index:08d}"
