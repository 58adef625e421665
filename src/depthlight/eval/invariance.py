"""What should not change a disparity, and by how much it does: measured on pairs of the procedural engine.

Each function applies one change to every pair and returns px (or a share) over the pixels of all pairs together. The
bars X1–X8 (docs/reliability.md) and the stored values of the bundled default are in ``core/tolerances.py``; a table of
the measured values is in docs/benchmarks.md. A function says which pixels it counts; confidence removes none.

Shape legend: H W image size, 3 RGB, N pixels counted, B pairs of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.tolerances import tolerance
from ..data.samples import StereoSample
from ..data.synth.engine import plain_pairs
from ..infer.checks import LIMIT_MARGIN, inside_right_view, left_right_agree
from ..infer.prediction import StereoMatcher
from ..infer.stereo import StereoModel

Image = NDArray[np.uint8]
Map = NDArray[np.float32]

PAIR_SEED = 20
PAIR_SIZE = (288, 640)
LARGEST = 150.0  # px: a shift by 32 stays below the range of 192
MARGIN = 64  # px of X3
SHIFTS = tuple(range(1, 33))  # px of X6
BATCHES = (1, 2, 5)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One measured quantity: its stored name, what it is in words, and the tolerance that is its target."""

    name: str
    what: str
    target: str
    unit: str = "px"
    larger_is_better: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` reaches the target."""
        bound = tolerance(self.target)
        return value >= bound if self.larger_is_better else value <= bound


BARS = (
    Bar(name="x1.repeat.max", what="X1 same pair twice: max", target="repeat.max"),
    Bar(name="x1.threads.max", what="X1 one thread against two: max", target="threads.max"),
    Bar(name="x2.batch.max", what="X2 alone against in a batch of 1, 2, 5: max", target="batch.max"),
    Bar(name="x3.padding.mean", what="X3 64 px of padding on every side, interior: mean", target="padding.mean"),
    Bar(name="x3.padding.p99", what="X3 the same: 99th percentile", target="padding.p99"),
    Bar(name="x5.flip.p95", what="X5 upside down: 95th percentile", target="flip.p95"),
    Bar(
        name="x5.lr.share",
        what="X5 right view's disparity within 1 px of the left's, share of non-occluded pixels",
        target="flip.lr_share",
        unit="share",
        larger_is_better=True,
    ),
    Bar(name="x6.shift.mean", what="X6 right view moved by 1–32 px: mean deviation", target="shift.mean"),
    Bar(
        name="x8.scale.rise", what="X8 half-size input: relative rise of EPE", target="scale.epe_rise", unit="relative"
    ),
)


def engine_pairs(family: str, count: int) -> list[StereoSample]:
    """``count`` pairs of one scene family with exact truth, camera effects off, always the same ones.

    Raises:
        InputError: the family is not part of this installation.
        MissingExtraError: it needs an extra that is not installed.
    """
    return plain_pairs(count, seed=PAIR_SEED, size=PAIR_SIZE, family=family, largest=LARGEST)


def repeat(matcher: StereoMatcher, pairs: Sequence[StereoSample]) -> float:
    """X1: largest difference (px) between two runs on the same pair, all pixels."""
    return max(float(np.abs(_disparity(matcher, pair) - _disparity(matcher, pair)).max()) for pair in pairs)


def threads(load: Callable[[int], StereoMatcher], pairs: Sequence[StereoSample]) -> float:
    """X1: largest difference (px) between one CPU thread and two, all pixels; ``load`` makes a matcher for a count."""
    # one after the other: torch has one thread count per process, set when a matcher is made
    one, two = ([_disparity(matcher, pair) for pair in pairs] for matcher in (load(1), load(2)))
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))


def batches(matcher: StereoModel, pairs: Sequence[StereoSample], sizes: Sequence[int] = BATCHES) -> float:
    """X2: largest difference (px) between a pair alone and the pair in a batch of each of ``sizes``, all pixels.

    The network itself is run, as ``predict_batch`` would split long batches; a batch repeats the pairs in turn.

    Raises:
        InputError: the pairs differ in size, or their sides are no multiples of 32.
    """
    left, right = (
        np.stack([getattr(pair, view) for pair in pairs]).transpose(0, 3, 1, 2).astype(np.float32)
        for view in ("left_HW3", "right_HW3")
    )
    if left.shape[2] % 32 or left.shape[3] % 32:
        raise InputError(f"pairs are {left.shape[2]}x{left.shape[3]}", expected="sides in multiples of 32")
    alone = np.concatenate([matcher.backend.run(left[[i]], right[[i]], matcher.max_disp)[0] for i in range(len(pairs))])
    largest = 0.0
    for size in sizes:
        chosen = np.arange(size) % len(pairs)
        together = matcher.backend.run(left[chosen], right[chosen], matcher.max_disp)[0]
        largest = max(largest, float(np.abs(together - alone[chosen]).max()))
    return largest


def padding(matcher: StereoMatcher, pairs: Sequence[StereoSample], margin: int = MARGIN) -> tuple[float, float]:
    """X3: mean and 99th percentile (px) of the change when both views get ``margin`` px on every side, edge replicated.

    Counted are the interior pixels: they and their matches are at least ``margin`` px from every border.
    """
    changes: list[Map] = []
    for pair in pairs:
        plain = _disparity(matcher, pair)
        grown = matcher.predict(_pad(pair.left_HW3, margin), _pad(pair.right_HW3, margin)).disparity
        inside = slice(margin, -margin)
        moved = np.abs(grown[inside, inside] - plain)[inside, inside]
        match = (np.arange(plain.shape[1]) - plain)[inside, inside]
        changes.append(moved[match >= margin])
    change_N = np.concatenate(changes)
    return float(change_N.mean()), float(np.percentile(change_N, 99))


def upside_down(matcher: StereoMatcher, pairs: Sequence[StereoSample]) -> float:
    """X5: 95th percentile (px) of the change when both views are turned upside down, all pixels."""
    changes = [
        np.abs(matcher.predict(pair.left_HW3[::-1], pair.right_HW3[::-1]).disparity[::-1] - _disparity(matcher, pair))
        for pair in pairs
    ]
    return float(np.percentile(np.concatenate(changes), 95))


def left_right(matcher: StereoModel, pairs: Sequence[StereoSample]) -> float:
    """X5: share (0–1) of truly non-occluded pixels where the right view's disparity agrees within 1 px.

    The right view's disparity is the network's on the mirrored pair with its views swapped.
    """
    agreed = counted = 0
    for pair in pairs:
        found = matcher.predict(pair.left_HW3, pair.right_HW3, left_right=True)
        if pair.visible_HW is None or found.disparity_right is None:
            raise InputError(f"{pair.name} does not say what both views see", expected="a pair of the engine")
        agree_HW = left_right_agree(found.disparity, found.disparity_right)
        agreed += int((agree_HW & pair.visible_HW).sum())
        counted += int(pair.visible_HW.sum())
    return agreed / counted


def shift(matcher: StereoMatcher, pairs: Sequence[StereoSample], shifts: Sequence[int] = SHIFTS) -> float:
    """X6: mean deviation (px) of the change in disparity from k when the right view moves by k px.

    The views are cut so that no pixel is invented: both lose a margin of the largest shift. Counted are the pixels
    whose disparity stays below the range limit and whose match stays inside the right view.
    """
    margin, total, counted = max(shifts), 0.0, 0
    for pair in pairs:
        width = pair.left_HW3.shape[1] - 2 * margin
        left_HW3 = pair.left_HW3[:, margin : margin + width]
        plain = matcher.predict(left_HW3, pair.right_HW3[:, margin : margin + width])
        for k in shifts:
            # the column that stood at x now stands at x - k, so every disparity grows by k
            moved = matcher.predict(left_HW3, pair.right_HW3[:, margin + k : margin + k + width])
            expected = plain.disparity + k
            fits_HW = (expected < plain.max_disp - LIMIT_MARGIN) & inside_right_view(expected)
            total += float(np.abs(moved.disparity - expected)[fits_HW].sum(dtype=np.float64))
            counted += int(fits_HW.sum())
    return total / counted


def half_size(matcher: StereoMatcher, pairs: Sequence[StereoSample]) -> float:
    """X8: relative rise of EPE when both views are halved (area averages) and the answer is doubled and enlarged.

    EPE is at full size, over every pixel with truth, for both; 0.05 means 5 % worse than at full size.
    """
    full = half = 0.0
    for pair in pairs:
        if pair.disparity_HW is None:
            raise InputError(f"{pair.name} has no ground truth", expected="a pair of the engine")
        height, width = pair.disparity_HW.shape
        size = (width // 2, height // 2)
        small = matcher.predict(*(cv2.resize(v, size, interpolation=cv2.INTER_AREA) for v in _views(pair))).disparity
        enlarged = 2 * cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        full += float(np.abs(_disparity(matcher, pair) - pair.disparity_HW).mean())
        half += float(np.abs(enlarged - pair.disparity_HW).mean())
    return half / full - 1


def measure(
    load: Callable[[int], StereoModel], pairs: Sequence[StereoSample], shifts: Sequence[int] = SHIFTS
) -> dict[str, float]:
    """Every quantity of :data:`BARS` by name; ``load`` gives the model for a number of CPU threads."""
    thread_change = threads(load, pairs)
    model = load(1)
    mean, p99 = padding(model, pairs)
    return {
        "x1.repeat.max": repeat(model, pairs),
        "x1.threads.max": thread_change,
        "x2.batch.max": batches(model, pairs),
        "x3.padding.mean": mean,
        "x3.padding.p99": p99,
        "x5.flip.p95": upside_down(model, pairs),
        "x5.lr.share": left_right(model, pairs),
        "x6.shift.mean": shift(model, pairs, shifts),
        "x8.scale.rise": half_size(model, pairs),
    }


def _views(pair: StereoSample) -> tuple[Image, Image]:
    return pair.left_HW3, pair.right_HW3


def _disparity(matcher: StereoMatcher, pair: StereoSample) -> Map:
    return matcher.predict(pair.left_HW3, pair.right_HW3).disparity


def _pad(image_HW3: Image, margin: int) -> Image:
    return np.pad(image_HW3, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
