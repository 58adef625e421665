"""Which networks can be run in tiles, and what they need for it: context, and statistics of the whole picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backends import StereoBackend
from ..core.registry import family_of
from .search_range import Windows
from .tiles import CONTEXT, Tile

if TYPE_CHECKING:
    from ..nets.stereo.shared_norms import Part

Image = NDArray[np.uint8]
LOCAL_FAMILIES = ("light", "light-s")  # nothing in them depends on the statistics of the whole picture
WIDE_CONTEXT = 256  # px: the aggregation of Lite Any Stereo looks further than that of light


def _net(backend: StereoBackend) -> Any:
    return getattr(backend, "net", None)


def why_not_tileable(backend: StereoBackend, name: str, windows: Windows) -> str | None:
    """Why tiles would give other numbers than the whole; None where they do not."""
    net = _net(backend)
    family = family_of(name) if net is None else net.family
    if family in LOCAL_FAMILIES:
        return None
    if net is None:
        return f"{family} takes statistics over the whole picture, so it needs torch to be run in tiles"
    from ..nets.stereo.shared_norms import can_share

    if not can_share(net):
        return f"{family} takes statistics over the whole picture that tiles cannot share"
    if windows.lows != (0,):
        return f"{family} in tiles searches one range from 0 px"
    return None


def context_of(backend: StereoBackend) -> int:
    """Px of the picture that a tile must see on every side beside its own."""
    net = _net(backend)
    return CONTEXT if net is None or net.family in LOCAL_FAMILIES else WIDE_CONTEXT


def whole_statistics(
    backend: StereoBackend, left_NHW3: Image, right_NHW3: Image, tiles: Sequence[Tile]
) -> AbstractContextManager[None]:
    """While it is open, tiles of these views are normalised as the whole would be."""
    net = _net(backend)
    if len(tiles) == 1 or net is None or net.family in LOCAL_FAMILIES:
        return nullcontext()
    from ..nets.stereo.shared_norms import shared_norms

    return shared_norms(net, _Parts(left_NHW3, right_NHW3, tiles))


@dataclass(frozen=True)
class _Parts:
    """The tiles as tensors, made anew on each walk."""

    left_NHW3: Image
    right_NHW3: Image
    tiles: Sequence[Tile]

    def __iter__(self) -> Iterator[Part]:
        import torch

        for tile in self.tiles:
            left, right = (
                torch.from_numpy(np.ascontiguousarray(view[:, *tile.seen].transpose(0, 3, 1, 2), dtype=np.float32))
                for view in (self.left_NHW3, self.right_NHW3)
            )
            yield left, right, tile.inner()
