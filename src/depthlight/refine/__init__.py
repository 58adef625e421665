"""Test-time refinement: re-light the photo by the depth's normals and improve the depth until it looks right.

The package is callable: ``depthlight.refine(photo)`` is :func:`depthlight.refine.api.refine`, and
``depthlight.refine.render`` is still a module of it (docs/adr/0004-refine-is-a-package-and-a-call.md).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import RefineResult
    from .stereo_result import StereoRefineResult


class _CallablePackage(ModuleType):
    """A package that can be called. Importing it loads no torch; calling it does."""

    def __call__(self, *args: Any, **kwargs: Any) -> RefineResult | StereoRefineResult:
        """Refine the depth of one image or a pair; see :func:`depthlight.refine.api.refine`."""
        from .api import refine

        result: RefineResult | StereoRefineResult = refine(*args, **kwargs)
        return result


refine = sys.modules[__name__]  # where ``depthlight`` looks the name up
refine.__class__ = _CallablePackage
