"""Readers of public stereo data sets, by name.

``open_dataset("kitti2015", root)`` gives a ``StereoDataset``; the module of a set is imported only then. What each
expects on disk is in the docstring of its class and in docs/reference/datasets.md.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from ...core.errors import ConfigError, UnknownNameError
from ..samples import StereoDataset

_READERS: Mapping[str, tuple[str, str]] = {
    "sceneflow": ("readers.sceneflow", "SceneFlow"),
    "fallingthings": ("readers.fallingthings", "FallingThings"),
    "fsd": ("readers.fsd", "FSD"),
    "crestereo": ("readers.crestereo", "CREStereo"),
    "vkitti2": ("readers.vkitti2", "VKITTI2"),
    "tartanair": ("readers.tartanair", "TartanAir"),
    "dynamic-replica": ("readers.dynamic_replica", "DynamicReplica"),
    "kitti2012": ("readers.kitti", "KITTI2012"),
    "kitti2015": ("readers.kitti", "KITTI2015"),
    "middlebury": ("readers.middlebury", "Middlebury"),
    "eth3d": ("readers.eth3d", "ETH3D"),
    "drivingstereo": ("readers.drivingstereo", "DrivingStereo"),
    "instereo2k": ("readers.instereo2k", "InStereo2K"),
    "booster": ("readers.booster", "Booster"),
    "scenes": ("scenes", "SceneFolder"),
    "pairs": ("folders", "PairFolder"),
}


def list_datasets() -> list[str]:
    """All names that :func:`open_dataset` knows, sorted."""
    return sorted(_READERS)


def open_dataset(name: str, root: str | os.PathLike[str], **options: Any) -> StereoDataset:
    """The data set ``name`` below ``root``; ``options`` are those of its class.

    Raises:
        UnknownNameError: no set is called that; the nearest name is offered.
        ConfigError: the set has no such option, or not such a value.
        InputError: the folder does not look like the set; the message says what was expected.
    """
    if name not in _READERS:
        raise UnknownNameError("data set", name, _READERS)
    module, class_name = _READERS[name]
    reader: Callable[..., StereoDataset] = getattr(importlib.import_module(f"..{module}", __name__), class_name)
    known = [option for option in inspect.signature(reader).parameters if option != "root"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"{name} has no option {', '.join(unknown)}", expected=", ".join(known) or "no options")
    return reader(root, **options)
