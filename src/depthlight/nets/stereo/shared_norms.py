"""InstanceNorm over a picture that is never in memory as a whole.

An InstanceNorm divides by statistics of the whole map, so a tile alone gives other numbers than the same place in the
whole. Here the statistics are gathered tile by tile, one norm after the other (the second's input depends on the
first's statistics), each tile counting only what it keeps. While they are in use the tiles agree with the whole.

Shape legend: B batch, C channels, h w size of a map; a map is s times smaller than the tile it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...core.errors import InputError
from .base import StereoNet
from .parts import LiteAnyStereo

Box = tuple[slice, slice]
Part = tuple[Tensor, Tensor, Box]  # left, right (B, 3, H, W) of a tile, and the rows and columns of it that count


class _Enough(Exception):  # noqa: N818 (no error)
    """What is asked for is known; the rest of the pass is not needed."""


def instance_norms(net: nn.Module) -> list[nn.InstanceNorm2d]:
    """The norms of a network that depend on the whole picture."""
    return [module for module in net.modules() if isinstance(module, nn.InstanceNorm2d)]


def can_share(net: StereoNet) -> bool:
    """Whether :func:`shared_norms` knows the network: LAS1 and LAS2 S, M, L. LAS2-H also pools over the picture."""
    return isinstance(net, LiteAnyStereo) and hasattr(net, "refine_1")


@contextmanager
def shared_norms(net: StereoNet, parts: Iterable[Part]) -> Iterator[None]:
    """Within this context the network's InstanceNorms use the statistics of all ``parts`` together.

    Args:
        net: see :func:`can_share`; left as it was afterwards.
        parts: walked through once for each norm; its boxes tile the picture.

    Raises:
        InputError: the network is not one of those.
    """
    if not can_share(net):
        raise InputError(f"{net.family} cannot share its statistics between tiles", hint="Use smaller images")
    norms = instance_norms(net)
    try:
        for norm in norms:
            mean, scale = _gather(net, norm, parts)
            _fix(norm, mean, scale)
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


def _gather(net: StereoNet, norm: nn.InstanceNorm2d, parts: Iterable[Part]) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation (B, C, 1, 1) of the norm's input over all parts, in float64."""
    sums: list[Tensor] = []
    size, box = 0, (slice(0), slice(0))

    def listen(x: Tensor) -> Tensor:
        nonlocal sums
        step = size // x.shape[2]
        kept = x[:, :, *(slice(side.start // step, side.stop // step) for side in box)].double()
        new = [kept.sum((2, 3)), kept.square().sum((2, 3)), kept.new_tensor(kept.shape[2] * kept.shape[3])]
        sums = [old + one for old, one in zip(sums, new, strict=True)] if sums else new
        raise _Enough

    norm.__dict__["forward"] = listen
    with torch.inference_mode():
        for left_B3HW, right_B3HW, box in parts:  # noqa: B007 (``listen`` reads it)
            size = left_B3HW.shape[2]
            try:
                _, left, _ = net.features(left_B3HW, right_B3HW)  # type: ignore[operator]
                net.refine_1(left[0])  # type: ignore[operator]
            except _Enough:
                continue
    mean = sums[0] / sums[2]
    variance = (sums[1] / sums[2] - mean.square()).clamp_min(0)
    return mean[..., None, None], (variance + norm.eps).rsqrt()[..., None, None]


def _fix(norm: nn.InstanceNorm2d, mean: Tensor, scale: Tensor) -> None:
    def normalise(x: Tensor) -> Tensor:
        return (x - mean.to(x.dtype)) * scale.to(x.dtype)

    norm.__dict__["forward"] = normalise
