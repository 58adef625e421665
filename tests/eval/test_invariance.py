"""X1, X2, X3, X5, X6, X8 of the bundled default against its stored values, and of matchers whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import depthlight
from depthlight.core.errors import InputError
from depthlight.core.tolerances import tolerance
from depthlight.data.samples import StereoSample, iterate
from depthlight.data.scenes import SceneFolder
from depthlight.eval import invariance
from depthlight.infer.prediction import ModelIdentity, StereoPrediction
from depthlight.infer.stereo import StereoModel


def bundled(threads: int = 1) -> StereoModel:
    model = depthlight.load(backend="onnxruntime", threads=threads)
    assert isinstance(model, StereoModel)
    return model


@pytest.fixture(scope="module")
def model() -> StereoModel:
    return bundled()


@pytest.fixture(scope="module")
def pairs() -> list[StereoSample]:
    return list(iterate(SceneFolder(Path(__file__).with_name("frozen_pairs"), ["layered", "meshes"])))


@pytest.fixture(scope="module")
def details(pairs) -> list[StereoSample]:
    """A quarter of each pair, for what is the same at any size."""
    return [StereoSample(pair.left_HW3[:128, :256], pair.right_HW3[:128, :256], pair.name) for pair in pairs]


def test_x1_a_run_repeats_to_the_bit(model, details):
    assert invariance.repeat(model, details) <= tolerance("repeat.max")


def test_x1_threads_change_nothing_that_matters(details):
    assert invariance.threads(bundled, details) <= tolerance("threads.max")


def test_x2_a_batch_is_its_pairs(model, details):
    assert invariance.batches(model, details) <= tolerance("batch.max")


def test_x3_padding_stays_near_the_border(model, pairs):
    mean, p99 = invariance.padding(model, pairs)
    assert mean <= tolerance("x3.padding.mean")
    assert p99 <= tolerance("x3.padding.p99")


def test_x5_upside_down(model, pairs):
    assert invariance.upside_down(model, pairs) <= tolerance("x5.flip.p95")


def test_x5_both_views_agree(model, pairs):
    assert invariance.left_right(model, pairs) >= tolerance("x5.lr.share")


def test_x6_a_shift_adds_its_pixels(model, pairs):
    assert invariance.shift(model, pairs, shifts=(6, 25)) <= tolerance("x6.shift.mean")


def test_x8_half_the_size_half_the_disparity(model, pairs):
    assert invariance.half_size(model, pairs) <= tolerance("x8.scale.rise")


class Known:
    """A matcher whose disparity is a function of the left image's size alone."""

    name = "known"

    def __init__(self, answer):
        self.answer = answer

    def predict(self, left, right, *, max_disp=None):
        assert left.shape == right.shape
        disparity = self.answer(*left.shape[:2]).astype(np.float32)
        known = np.ones(disparity.shape, bool)
        identity = ModelIdentity(self.name, None, "", "", "")
        return StereoPrediction(disparity, known.astype(np.float32), known, 0.0, identity, max_disp or 192, 0.0)


def constant(value):
    return Known(lambda height, width: np.full((height, width), value))


@pytest.fixture
def plain_pair():
    """100×200, 10 px everywhere."""
    image, truth = np.zeros((100, 200, 3), np.uint8), np.full((100, 200), 10, np.float32)
    return StereoSample(image, image, "plain", disparity_HW=truth, valid_HW=truth > 0)


def test_a_matcher_that_ignores_its_input_misses_every_shift(plain_pair):
    assert invariance.shift(constant(8.0), [plain_pair], shifts=(3, 3)) == pytest.approx(3.0)
    assert 2.9 < invariance.shift(constant(8.0), [plain_pair], shifts=(2, 4)) < 3.0  # fewer pixels fit at 4


def test_shifts_beyond_the_range_or_the_frame_do_not_count(plain_pair):
    widths = Known(lambda height, width: np.broadcast_to(np.where(np.arange(width) < 100, 8.0, 300.0), (height, width)))
    assert invariance.shift(widths, [plain_pair], shifts=(4,)) == pytest.approx(4.0)


def test_upside_down_sees_what_depends_on_the_row(plain_pair):
    rows = Known(lambda height, width: np.broadcast_to(np.arange(height)[:, None] / 10, (height, width)))
    assert invariance.upside_down(rows, [plain_pair]) == pytest.approx(9.4, abs=0.2)
    assert invariance.upside_down(constant(7.0), [plain_pair]) == 0


def test_padding_sees_a_global_effect_and_only_the_interior(plain_pair):
    by_size = Known(lambda height, width: np.full((height, width), height / 100))
    assert invariance.padding(by_size, [plain_pair], margin=20) == pytest.approx((0.4, 0.4))

    def rim(height, width):
        answer = np.full((height, width), 2.0)
        answer[:10] = answer[-10:] = 5.0  # differs within 20 px of a border only
        return answer

    assert invariance.padding(Known(rim), [plain_pair], margin=20) == (0, 0)


def test_half_size_is_measured_at_full_size(plain_pair):
    right_at_full = Known(lambda height, width: np.full((height, width), 11.0 if width == 200 else 6.0))
    assert invariance.half_size(right_at_full, [plain_pair]) == pytest.approx(1.0)  # 1 px off against 2
    scales = Known(lambda height, width: np.full((height, width), 0.045 * width))
    assert invariance.half_size(scales, [plain_pair]) == pytest.approx(0.0, abs=1e-5)


def test_batches_refuse_sizes_the_network_would_pad(model, plain_pair):
    with pytest.raises(InputError, match="multiples of 32"):
        invariance.batches(model, [plain_pair])


def test_every_bar_has_a_target_and_its_direction():
    for bar in invariance.BARS:
        bound = tolerance(bar.target)
        assert bar.holds(bound)
        assert not bar.holds(bound - 1e-9 if bar.larger_is_better else bound + 1e-9)
