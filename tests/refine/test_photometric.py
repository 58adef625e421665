"""Warping, dissimilarity and smoothness of disparity maps: right on pairs whose disparity is known."""

import numpy as np
import pytest
import torch

from depthlight.refine.photometric import EdgeAwareSmoothness, dissimilarity, matched_colours, photometric, warped_right


def as_tensor(image):
    return torch.from_numpy(np.float64(image) / 255).permute(2, 0, 1)[None]


@pytest.fixture
def shifted(make_pair):
    return tuple(as_tensor(image) for image in make_pair(6, 24, 40))


def constant(value, like):
    return torch.full_like(like[:, :1], value)


def test_the_true_disparity_rebuilds_the_left_view(shifted):
    left, right = shifted
    warped = warped_right(right, constant(6.0, left))
    assert torch.equal(warped[..., 6:], left[..., 6:])
    assert torch.equal(warped[..., :6], right[..., :1].expand(-1, -1, -1, 6)), "outside, the first column is repeated"


def test_half_a_pixel_is_the_mean_of_two(shifted):
    _, right = shifted
    warped = warped_right(right, constant(0.5, right))
    assert torch.allclose(warped[..., 1:], (right[..., 1:] + right[..., :-1]) / 2)


def test_the_loss_is_least_at_the_truth(shifted):
    left, right = shifted
    visible = torch.ones_like(left[:, :1])
    visible[..., :7] = 0
    losses = [float(photometric(left, right, constant(float(d), left), visible)) for d in range(3, 10)]
    assert int(np.argmin(losses)) == 3 and losses[3] < 0.02 < min(losses[2], losses[4])


def test_what_is_hidden_does_not_count(shifted):
    left, right = shifted
    nothing = torch.zeros_like(left[:, :1])
    assert float(photometric(left, right, constant(1.0, left), nothing)) == 0


def test_equal_images_are_alike_and_brightness_is_not(shifted):
    left, _ = shifted
    assert float(dissimilarity(left, left).abs().max()) < 1e-12
    assert float(dissimilarity(left, (left + 0.3).clamp(0, 1)).mean()) > 0.03


def test_gradients(shifted):
    left, right = (view[..., :8, :12] for view in shifted)
    visible = torch.ones_like(left[:, :1])
    generator = torch.Generator().manual_seed(0)
    # away from whole px, where linear interpolation has a kink
    disparity = 2.5 + 0.3 * torch.rand(visible.shape, generator=generator, dtype=torch.float64)
    disparity.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda d: photometric(left, right, d, visible), (disparity,), eps=1e-6, atol=1e-5)
    smooth = EdgeAwareSmoothness(left)
    bent = (disparity.detach() ** 3).requires_grad_(True)
    assert torch.autograd.gradcheck(smooth, (bent,), eps=1e-7, atol=1e-5)


def test_slanted_surfaces_cost_nothing_and_jumps_have_a_limit():
    gray = torch.full((1, 3, 12, 16), 0.5, dtype=torch.float64)
    smooth = EdgeAwareSmoothness(gray)
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    plane = (0.3 * x.double() + 0.2 * y.double())[None, None]
    assert float(smooth(plane)) < 1e-12
    step = (x >= 8).double()[None, None]
    small, large = (float(smooth(height * step)) for height in (10, 1000))
    assert 0 < small < large < 1.2 * small


def test_edges_of_the_photo_allow_bends():
    flat = torch.full((1, 3, 12, 16), 0.5, dtype=torch.float64)
    edged = flat.clone()
    edged[..., 8:] = 1.0
    step = torch.zeros(1, 1, 12, 16, dtype=torch.float64)
    step[..., 8:] = 3.0
    assert float(EdgeAwareSmoothness(edged)(step)) < 0.02 * float(EdgeAwareSmoothness(flat)(step))


def test_another_exposure_is_undone(shifted):
    left, right = shifted
    gain, offset = (
        torch.tensor(values, dtype=torch.float64)[:, None, None] for values in ([0.7, 0.8, 1.2], [0.1, 0, 0])
    )
    visible = torch.ones_like(left[:, :1])
    visible[..., :6] = 0
    matched = matched_colours(right * gain + offset, left, constant(6.0, left), visible)
    assert torch.allclose(matched, right, atol=1e-12)
    unseen = matched_colours(right * gain, left, constant(6.0, left), torch.zeros_like(visible))
    assert torch.equal(unseen, right * gain), "nothing to tell the gain by"
