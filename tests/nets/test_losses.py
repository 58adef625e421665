from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from depthlight.core.errors import ConfigError
from depthlight.nets.losses import (
    LossConfig,
    adaptive_target,
    bin_cross_entropy,
    disparity_terms,
    edge_mask,
    feature_cosine,
    laplace_target,
    left_right_mask,
    masked_mean,
    sequence_weights,
    smooth_l1,
    supervised_terms,
)
from depthlight.nets.stereo.base import StereoTrainOutput

CONFIG = LossConfig()


def maps(height: int = 8, width: int = 12, bins: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Truth (B, H, W) off the kinks of smooth-L1 and of the bins, a mask, and logits; float64."""
    generator = torch.Generator().manual_seed(0)
    truth = 1 + 15 * torch.rand((2, height, width), generator=generator, dtype=torch.float64)
    mask = torch.rand((2, height, width), generator=generator) > 0.3
    logits = torch.randn((2, bins, height // 4, width // 4), generator=generator, dtype=torch.float64)
    return truth, mask, logits


def test_gradients_of_the_disparity_terms() -> None:
    truth, mask, _ = maps()
    answer = (truth + 0.37)[:, None].requires_grad_()
    coarse = (truth - 2.6)[:, None].requires_grad_()

    def total(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack(list(disparity_terms([a, b], truth, mask, CONFIG).values())).sum(0)

    assert gradcheck(total, (answer, coarse))
    assert gradcheck(lambda a: smooth_l1(a[:, 0], truth, mask, clamp=5.0), (answer,))


@pytest.mark.parametrize("target", ["linear", "laplace", "adaptive"])
def test_gradients_of_the_cross_entropy(target: str) -> None:
    truth, mask, logits = maps()
    config = replace(CONFIG, target=target)
    assert gradcheck(lambda x: bin_cross_entropy(x, truth, mask, config), (logits.requires_grad_(),))


def test_gradients_of_the_feature_term() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn((2, 2, 5, 3, 4), generator=generator, dtype=torch.float64)
    assert gradcheck(lambda x: feature_cosine([x], [teacher]), (student.requires_grad_(),))


def test_masked_pixels_do_not_count() -> None:
    truth, mask, logits = maps()
    answer = (truth + 0.5)[:, None]
    output = StereoTrainOutput((answer, answer), logits)
    before = supervised_terms(output, truth, mask, CONFIG)
    changed = torch.where(mask, truth, truth + 3)
    after = supervised_terms(output, changed, mask, CONFIG)
    for name in before:
        torch.testing.assert_close(before[name], after[name])
    assert before["full"].shape == (2,)


def test_losses_are_per_sample() -> None:
    truth, mask, logits = maps()
    answer = (truth + 0.5)[:, None]
    both = supervised_terms(StereoTrainOutput((answer, answer), logits), truth, mask, CONFIG)
    for i in range(2):
        one = slice(i, i + 1)
        alone = supervised_terms(
            StereoTrainOutput((answer[one], answer[one]), logits[one]), truth[one], mask[one], CONFIG
        )
        for name in both:
            torch.testing.assert_close(both[name][one], alone[name])


def test_an_empty_mask_gives_zero_and_no_gradient() -> None:
    truth, _, logits = maps()
    answer = (truth + 3)[:, None].requires_grad_()
    logits.requires_grad_()
    output = StereoTrainOutput((answer, answer), logits)
    loss = torch.stack(
        list(supervised_terms(output, truth, torch.zeros_like(truth, dtype=torch.bool), CONFIG).values())
    ).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert answer.grad is not None and not answer.grad.any()
    assert logits.grad is not None and not logits.grad.any()


def test_cross_entropy_by_hand() -> None:
    # truth 6 px lies halfway between bins 1 and 2
    truth = torch.full((1, 4, 4), 6.0)
    mask = torch.ones((1, 4, 4), dtype=torch.bool)
    logits = torch.zeros((1, 4, 1, 1))
    logits[0, 1] = 1.0
    expected = -0.5 * (torch.log_softmax(logits, 1)[0, 1, 0, 0] + torch.log_softmax(logits, 1)[0, 2, 0, 0])
    torch.testing.assert_close(bin_cross_entropy(logits, truth, mask, CONFIG)[0], expected)


@pytest.mark.parametrize("pixels", [0.0, 4 * 5.0])
def test_cross_entropy_at_the_ends_of_the_range(pixels: float) -> None:
    truth = torch.full((1, 4, 4), pixels)
    mask = torch.ones((1, 4, 4), dtype=torch.bool)
    logits = torch.full((1, 6, 1, 1), -30.0)
    logits[0, int(pixels / 4)] = 30.0
    assert bin_cross_entropy(logits, truth, mask, CONFIG)[0] < 1e-6


def test_truth_beyond_the_bins_is_left_out() -> None:
    truth = torch.full((1, 4, 4), 23.0)
    mask = torch.ones((1, 4, 4), dtype=torch.bool)
    assert bin_cross_entropy(torch.randn(1, 6, 1, 1), truth, mask, CONFIG)[0] == 0


@pytest.mark.parametrize("centre", [0.0, 2.0, 2.5, 5.0])
def test_laplacian_is_a_distribution_with_its_mode_at_the_truth(centre: float) -> None:
    target = laplace_target(torch.tensor([[[centre]]], dtype=torch.float64), 6, 0.8)[0, :, 0, 0]
    assert target.sum() == pytest.approx(1)
    assert abs(int(target.argmax()) - centre) <= 0.5


def test_adaptive_target_has_a_mode_for_each_surface() -> None:
    truth = torch.full((1, 16, 32), 8.0)
    truth[..., 16:] = 40.0
    mask = torch.ones_like(truth, dtype=torch.bool)
    target = adaptive_target(truth, mask, 12, 0.8)
    torch.testing.assert_close(target.sum(1), torch.ones(1, 4, 8))
    edge, inside = target[0, :, 1, 4], target[0, :, 1, 0]  # pixel 17: the far surface fills 3 of 9 columns
    assert edge.argmax() == 10 and edge[2] > 4 * edge[6] > 0 and edge[2] > 0.03
    assert inside[10] < 0.001
    linear = laplace_target(torch.full((1, 1, 1), 2.0), 12, 0.8)[0, :, 0, 0]
    torch.testing.assert_close(inside, linear)


def test_clamp_bounds_each_pixel() -> None:
    truth = torch.zeros((1, 4, 4))
    mask = torch.ones_like(truth, dtype=torch.bool)
    assert smooth_l1(truth + 100, truth, mask, clamp=10.0)[0] == 10
    assert smooth_l1(truth + 100, truth, mask)[0] == 99.5
    assert smooth_l1(truth + 100, truth, mask, beta=0.25)[0] == 99.875
    assert smooth_l1(truth + 0.5, truth, mask)[0] == 0.125
    assert smooth_l1(truth + 0.5, truth, mask, beta=0.25)[0] == 0.375


def test_weights_of_an_iterating_network() -> None:
    assert sequence_weights(2, CONFIG) == (1.0, 0.3)
    assert sequence_weights(1, CONFIG) == (1.0,)
    assert sequence_weights(5, CONFIG) == pytest.approx((1, 0.9, 0.81, 0.729, 1))


def test_left_right_mask_finds_occlusion_and_border() -> None:
    # a near square of 8 px in front of a wall at 2 px; both views' truth is known
    left, right = torch.full((1, 6, 40), 2.0), torch.full((1, 6, 40), 2.0)
    left[..., 20:30] = 8.0
    right[..., 12:22] = 8.0
    seen = left_right_mask(left, right)[0, 0]
    expected = torch.ones(40, dtype=torch.bool)
    expected[:2] = False  # leaves the image
    expected[14:20] = False  # wall pixels hidden behind the square in the right view
    assert torch.equal(seen, expected)


def test_edge_mask_drops_jumps_that_the_picture_does_not_have() -> None:
    disp = torch.full((1, 40, 40), 4.0)
    disp[..., 10:] = 20.0
    image = torch.full((1, 3, 40, 40), 50.0)
    image[..., 30:] = 200.0
    keep = edge_mask(disp, image)[0, 20]
    assert not keep[8:12].any()
    assert keep[:6].all() and keep[14:].all()
    image[..., 10:] = 200.0
    assert edge_mask(disp, image).all()


def test_equal_features_cost_nothing() -> None:
    feature = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(
        feature_cosine([feature, feature], [feature, 2 * feature]), torch.zeros(2), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(feature_cosine([feature], [-feature]), torch.full((2,), 2.0), atol=1e-6, rtol=0)
    with pytest.raises(ConfigError):
        feature_cosine([feature], [])


def test_masked_mean_counts_pixels() -> None:
    values = torch.arange(8.0).reshape(1, 2, 4)
    mask = values > 4
    assert masked_mean(values, mask)[0] == 6


@pytest.mark.parametrize("wrong", [{"full": -1.0}, {"gamma": 0.0}, {"width": 0.0}])
def test_configuration_is_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LossConfig(**wrong)  # type: ignore[arg-type]
