"""Stereo networks, by family name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.config import from_dict
from ...core.errors import UnknownNameError

if TYPE_CHECKING:
    from .base import StereoNet

# family: module and class; the class's config is <class>Config in the same module, with the family's sizes as defaults
_CLASSES: Mapping[str, tuple[str, str]] = {
    "light": ("light", "Light"),
    "light-s": ("light", "LightS"),
    "las1": ("las1", "LAS1"),
    "las2-s": ("las2", "LAS2S"),
    "las2-m": ("las2", "LAS2M"),
    "las2-l": ("las2", "LAS2L"),
    "las2-h": ("las2h", "LAS2H"),
}


def build(family: str, config: Mapping[str, Any] | None = None) -> StereoNet:
    """A network with fresh weights.

    Args:
        family: one of light, light-s, las1, las2-s, las2-m, las2-l, las2-h.
        config: fields of the family's config that differ from its defaults.

    Raises:
        UnknownNameError: no such family, or no such field.
        ConfigError: a value is not allowed.
        MissingExtraError: timm is not installed.
    """
    if family not in _CLASSES:
        raise UnknownNameError("network family", family, _CLASSES)
    module, name = _CLASSES[family]
    source = importlib.import_module(f".{module}", __name__)
    network: Any = getattr(source, name)
    net: StereoNet = network(from_dict(getattr(source, f"{name}Config"), config or {}))
    return net
