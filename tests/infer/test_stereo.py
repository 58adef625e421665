"""The matcher round the network: sizes, kinds of input, batches, confidence, checks. Uses the bundled default."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import depthlight as dl
from depthlight.core.errors import ImageError, InputError, NonFiniteError
from depthlight.core.tolerances import tolerance
from depthlight.infer.checks import at_range_limit, inside_right_view, left_right_agree
from depthlight.infer.padding import crop, pad_to_multiple


@pytest.fixture(scope="module")
def model():
    return dl.load(threads=1)


def test_a_known_shift_is_found(model, make_pair):
    left, right = make_pair(12)
    found = model.predict(left, right)
    assert np.abs(found.disparity[:, 24:] - 12).mean() < 0.5
    assert found.disparity.dtype == np.float32
    assert found.model.name == dl.load().name
    assert len(found.model.weights_sha256) == 64


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (31, 33), (32, 32), (97, 65)])
def test_any_size_comes_back_at_its_size(model, size):
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    found = model.predict(left, right, left_right=True)
    for name in ("disparity", "confidence", "valid", "disparity_right"):
        assert getattr(found, name).shape == size
    assert np.isfinite(found.disparity).all()
    assert 0 <= found.confidence.min() <= found.confidence.max() <= 1


@pytest.mark.parametrize("value", [0, 127, 255])
def test_constant_images_have_no_confidence(model, value):  # I5
    flat = np.full((40, 50, 3), value, np.uint8)
    found = model.predict(flat, flat)
    assert np.isfinite(found.disparity).all()
    assert (found.confidence == 0).all()


def test_kinds_of_input_agree(model, make_pair, tmp_path):
    left, right = make_pair(7)
    wanted = model.predict(left, right).disparity
    Image.fromarray(left).save(tmp_path / "l.png")
    Image.fromarray(right).save(tmp_path / "r.png")
    opaque = np.dstack([right, np.full(right.shape[:2], 255, np.uint8)])
    for pair in [
        (tmp_path / "l.png", str(tmp_path / "r.png")),
        (Image.fromarray(left), Image.fromarray(right)),
        (left.astype(np.uint16) * 257, right.astype(np.float32)),
        (np.asfortranarray(left), opaque),
    ]:
        np.testing.assert_array_equal(model.predict(*pair).disparity, wanted)


def test_gray_is_three_equal_channels(model, make_pair):
    left, right = (image[..., 0] for image in make_pair(5))
    tripled = (np.repeat(image[..., None], 3, 2) for image in (left, right))
    np.testing.assert_array_equal(model.predict(left, right).disparity, model.predict(*tripled).disparity)


@pytest.mark.parametrize("count", [2, 5])
def test_batches_equal_single_pairs(model, make_pair, count):  # X2
    pairs = [make_pair(3 + i, seed=i) for i in range(count)]
    together = model.predict_batch(pairs)
    for pair, found in zip(pairs, together, strict=True):
        alone = model.predict(*pair).disparity
        assert np.abs(found.disparity - alone).max() <= tolerance("batch.max")


def test_batches_may_mix_sizes(model, make_pair):
    pairs = [make_pair(4), make_pair(4, 64, 96), make_pair(4)]
    assert [found.disparity.shape for found in model.predict_batch(pairs)] == [(96, 160), (64, 96), (96, 160)]
    assert model.predict_batch([]) == []


def test_left_right_check_marks_what_the_views_disagree_on(model, make_pair):
    left, right = make_pair(10)
    right[30:60, 60:100] = left[30:60, 95:135]  # what the left shows 35 px farther, not 10
    found = model.predict(left, right, left_right=True)
    assert found.valid[70:, 40:].mean() > 0.9
    assert found.valid[35:55, 75:105].mean() < found.valid[70:, 40:].mean()
    assert model.predict(left, right).disparity_right is None


@pytest.mark.parametrize(
    ("left", "right", "error", "says"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8), InputError, "left is 4×4 and right is 5×4"),
        (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 2), np.uint8), InputError, "left"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), InputError, "left"),
        (np.zeros((4, 4, 3), complex), np.zeros((4, 4, 3)), InputError, "left"),
        ("no/such/file.png", "no/such/file.png", ImageError, "file.png"),
    ],
)
def test_bad_pairs_are_refused(model, left, right, error, says):
    with pytest.raises(error, match=says):
        model.predict(left, right)


def test_nan_is_refused_with_its_position(model):  # I5
    right = np.zeros((6, 8, 3), np.float32)
    right[3, 5, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"right.*3.*5"):
        model.predict(np.zeros((6, 8, 3), np.float32), right)


def test_a_graph_of_one_range_searches_others_in_windows(model):
    image = np.zeros((8, 8, 3), np.uint8)
    assert model.predict(image, image, max_disp=64).max_disp == 192  # rounded outwards, and said
    assert model.predict(image, image, max_disp=256).max_disp == 320


def test_what_is_too_near_for_the_range_is_said(make_pair):
    pytest.importorskip("torch")
    model = dl.load(backend="torch", threads=1)
    left, right = make_pair(28)
    cut = model.predict(left, right, max_disp=32)
    assert cut.saturated > 0.3
    assert cut.saturated == pytest.approx(at_range_limit(cut.disparity, 32).mean())
    assert not (cut.valid & at_range_limit(cut.disparity, 32)).any()
    assert model.predict(left, right, max_disp=64).saturated < 0.05


@given(st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_padding_is_undone_exactly(height, width):
    image = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    padded = pad_to_multiple(image)
    assert padded.shape[0] % 32 == padded.shape[1] % 32 == 0
    np.testing.assert_array_equal(crop(padded[..., 0].astype(np.float32), height, width), image[..., 0])
    assert (padded[height:, :width] == image[-1]).all()


def test_checks_on_hand_made_maps():
    disparity = np.array([[0, 1, 2, 5, 190]], np.float32)
    assert inside_right_view(disparity).tolist() == [[True, True, True, False, False]]
    assert at_range_limit(disparity, 192).tolist() == [[False, False, False, False, True]]
    # columns 0..2 match right columns 0, 0, 0, whose disparity is 1: differences 1, 0, 1
    right = np.array([[1, 2, 2, 2, 2]], np.float32)
    assert left_right_agree(disparity, right, 1.0).tolist() == [[True, True, True, False, False]]
    assert left_right_agree(disparity, right, 0.5).tolist() == [[False, True, False, False, False]]
