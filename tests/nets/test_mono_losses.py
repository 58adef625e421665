"""The scale-and-shift-invariant loss: what it does not see, what it does, and what it leaves out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from depthlight.core.errors import ConfigError
from depthlight.core.tolerances import tolerance
from depthlight.nets.mono.losses import MonoLossConfig, gradient_matching, mono_terms, normalised

ALL = torch.ones(1, 16, 24, dtype=torch.bool)


def maps(seed: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 16, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 9 + 1


def total(raw: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor = ALL, **changes: float) -> torch.Tensor:
    terms, _ = mono_terms(raw, truth, mask, MonoLossConfig(**changes))
    return torch.stack(list(terms.values())).sum(0)


def test_gradcheck() -> None:  # X12
    raw, truth = (maps(seed, 2)[:, :5, :6] for seed in (3, 4))
    mask = ALL[:, :5, :6].repeat(2, 1, 1)
    mask[:, 0, :2] = False
    assert gradcheck(lambda raw: total(raw, truth, mask), (raw.clone().requires_grad_(),))


def test_normalised_is_median_0_and_deviation_1() -> None:
    values = torch.tensor([[[1.0, 2.0, 3.0, 10.0, 99.0]]])
    mask = torch.tensor([[[True, True, True, True, False]]])
    found, spread = normalised(values, mask)
    assert spread.tolist() == [2.5]  # around the lower median, 2
    assert found[0, 0, :4].tolist() == pytest.approx([-0.4, 0, 0.4, 3.2])


@given(scale=st.floats(0.1, 50), shift=st.floats(-100, 100))
@settings(max_examples=25, deadline=None)
def test_scale_and_shift_of_the_answer_do_not_matter(scale: float, shift: float) -> None:
    raw, truth = maps(1), maps(2)
    torch.testing.assert_close(
        total(raw * scale + shift, truth), total(raw, truth), atol=tolerance("mono.loss"), rtol=0
    )
    assert float(total(truth * scale + shift, truth)) < tolerance("mono.loss")


def test_near_and_far_swapped_is_worse_than_chance() -> None:
    truth = maps(2)
    assert float(total(-truth, truth)) > float(total(maps(3), truth)) > 0.1


def test_pixels_without_truth_do_not_count() -> None:
    raw, truth = maps(1), maps(2)
    mask = torch.rand(1, 16, 24, generator=torch.Generator().manual_seed(0)) > 0.4
    spoiled = [torch.where(mask, values, 1e4 * maps(7)) for values in (raw, truth)]
    assert torch.equal(total(*spoiled, mask), total(raw, truth, mask))
    raw = spoiled[0].requires_grad_()
    total(raw, truth, mask).backward()
    assert float(raw.grad[~mask].abs().max()) == 0 and float(raw.grad[mask].abs().max()) > 0


def test_a_small_near_thing_is_not_cut() -> None:
    truth = torch.linspace(1, 2, 24, dtype=torch.float64).expand(1, 16, 24).clone()
    ball = truth.clone()
    ball[0, 4:8, 4:8] = 30  # a twenty-fourth of the pixels
    assert float(total(truth, ball)) > 0.5


@pytest.mark.parametrize("case", ["flat", "hardly any", "none"])
def test_samples_that_teach_nothing_weigh_nothing(case: str) -> None:
    truth, mask = torch.cat([maps(2), maps(4)]), ALL.repeat(2, 1, 1).clone()
    if case == "flat":
        truth[0] = 5
    else:
        mask[0] = False
        mask[0, 0, :5] = case == "hardly any"
    raw = maps(1, 2).requires_grad_()
    loss = total(raw, truth, mask)
    assert loss.tolist()[0] == 0 and loss.tolist()[1] > 0
    loss.sum().backward()
    assert float(raw.grad[0].abs().max()) == 0 and bool(torch.isfinite(raw.grad).all())


def test_an_answer_without_contrast_has_a_finite_gradient() -> None:
    raw = torch.full((1, 16, 24), 0.7, dtype=torch.float64, requires_grad=True)
    total(raw, maps(2)).sum().backward()
    assert bool(torch.isfinite(raw.grad).all())


def test_gradient_matching_sees_steps_and_not_offsets() -> None:
    step = torch.zeros(1, 16, 24)
    step[..., 12:] = 1
    assert float(gradient_matching(torch.full((1, 16, 24), 3.0), ALL, 4)) == 0
    # one column of 16 rows steps by 1 at every scale: 16/384 of the pixels, 8/96, 4/24, 2/6
    assert float(gradient_matching(step, ALL, 4)) == pytest.approx(1 / 24 + 1 / 12 + 1 / 6 + 1 / 3)


def test_the_loss_has_the_gradient_it_says() -> None:
    raw, truth = maps(1).requires_grad_(), maps(2)
    direction = maps(5) - 5
    found = torch.autograd.grad(total(raw, truth).sum(), raw)[0]
    h = 1e-6
    with torch.no_grad():
        numeric = (total(raw + h * direction, truth) - total(raw - h * direction, truth)) / (2 * h)
    assert float((found * direction).sum()) == pytest.approx(float(numeric), rel=1e-5)


def test_other_settings_are_refused() -> None:
    for changes in ({"gradient": -1.0}, {"scales": 0}):
        with pytest.raises(ConfigError):
            MonoLossConfig(**changes)
