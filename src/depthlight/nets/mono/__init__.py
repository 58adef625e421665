"""Single-image depth networks behind one contract (``base.MonoNet``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.config import from_dict
from ...core.errors import UnknownNameError
from ...core.registry import MONO_FAMILIES

if TYPE_CHECKING:
    from .base import MonoNet


def build(family: str, config: Mapping[str, Any] | None = None) -> MonoNet:
    """One of our own networks with fresh weights; others' come through :mod:`.hub`.

    Raises:
        UnknownNameError: no such family, or no such field in ``config``.
        ConfigError: a value is not allowed.
        MissingExtraError: timm is not installed.
    """
    if family not in MONO_FAMILIES:
        raise UnknownNameError("mono network family", family, MONO_FAMILIES)
    from .small import MonoSmall, MonoSmallConfig

    return MonoSmall(from_dict(MonoSmallConfig, config or {}))
