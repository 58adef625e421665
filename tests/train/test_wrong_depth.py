"""Wrong maps: they are wrong, they follow from the generator alone, and the denoiser is asked for the true picture."""

from typing import Any

import pytest
import torch
from torch import Tensor

from depthlight.core.errors import ConfigError, InputError
from depthlight.nets.mono.small import MonoSmall
from depthlight.nets.prior.denoiser import Conditions
from depthlight.nets.prior.diffusion import alpha_sigma
from depthlight.refine.patches import prior_normals
from depthlight.train.prior_config import PriorConfig
from depthlight.train.relighting import denoising_errors
from depthlight.train.wrong_depth import WrongDepth

SIZE = (64, 80)


def maps(count: int = 12) -> Tensor:
    """Wavy maps at the standard scale."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1.25, 1.25, SIZE[1]), indexing="ij")
    return torch.stack([3 + 0.4 * torch.sin(4 * x + i) + 0.3 * torch.cos(3 * y - i) for i in range(count)])[:, None]


def normals(wrong: WrongDepth, raw_B1HW: Tensor, seed: int = 0) -> Tensor:
    photo = torch.full((len(raw_B1HW), 3, *SIZE), 0.5)
    return wrong.normals(photo, raw_B1HW, torch.Generator().manual_seed(seed))


def test_every_map_is_wrong_and_follows_from_the_generator() -> None:
    raw = maps()
    found = normals(WrongDepth(), raw)
    assert torch.equal(found, normals(WrongDepth(), raw)) and not torch.equal(found, normals(WrongDepth(), raw, seed=1))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(raw), *SIZE))
    apart = (found - prior_normals(raw)).abs().mean((1, 2, 3))
    assert (apart > 1e-4).all()


def test_what_is_not_known_stays_out_of_what_is_blurred() -> None:
    raw = maps()
    raw[..., 20:40, 30:50] = torch.nan
    assert normals(WrongDepth(), raw).isfinite().all()


def test_gradcheck() -> None:  # X12
    generator = torch.Generator().manual_seed(1)
    true, shown, noise, v = (torch.rand((2, 3, 4, 4), generator=generator, dtype=torch.float64) for _ in range(4))
    true[1, :, 0] = torch.nan
    told = Conditions(true, torch.zeros(2, 6), *torch.ones(3, 2))

    def error(v: Tensor) -> Tensor:
        return denoising_errors(
            lambda noisy, t, told: v, true, torch.tensor([0.3, 0.6]), noise, told, shown, torch.tensor([True, False])
        )[0]

    assert torch.autograd.gradcheck(error, (v.requires_grad_(),))


class Wall(torch.nn.Module):
    def forward(self, photo: Tensor) -> Tensor:
        return torch.ones_like(photo[:, :1])


def test_every_other_map_begins_with_what_the_estimator_answers() -> None:
    def facing(wrong: WrongDepth) -> int:
        found = [normals(wrong, maps(), seed)[:, 2].mean((1, 2)) for seed in range(8)]
        return int((torch.cat(found) > 0.99999).sum())  # flat and untouched

    wrong: Any = WrongDepth()
    assert facing(wrong) == 0
    wrong.net = Wall()
    # half of the 96, less those with somebody else's scene or relief on top
    assert 10 <= facing(wrong) <= 48


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_the_true_picture_is_wanted_of_a_wrong_one(t: float) -> None:
    generator = torch.Generator().manual_seed(0)
    true, shown, noise = (torch.rand((4, 3, 8, 8), generator=generator) for _ in range(3))
    t_N, wrong = torch.full((4,), t), torch.tensor([True, False, True, False])
    told = Conditions(true, torch.zeros(4, 6), *torch.ones(3, 4))
    alpha, sigma = alpha_sigma(t_N)

    def finds(picture: Tensor) -> Any:
        return lambda noisy, t, told: (alpha * noisy - (2 * picture - 1)) / sigma

    asked = (true, t_N, noise, told, shown, wrong)
    assert denoising_errors(finds(true), *asked).max() < 1e-8
    error, image_error = denoising_errors(finds(shown), *asked)
    apart = (2 * (shown - true)).square().mean((1, 2, 3))
    torch.testing.assert_close(image_error, apart)
    expected = apart / sigma.flatten().square()
    expected[wrong] = apart[wrong] / max(float(sigma[0]) ** 2, 0.2)
    torch.testing.assert_close(error, expected)


def test_an_estimator_of_metres_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MonoSmall, "quantity", "depth")
    with pytest.raises(InputError, match="mono answers depth; expected relative inverse depth"):
        WrongDepth("mono")


def test_settings() -> None:
    with pytest.raises(ConfigError, match=r"prior.wrong is 1.5"):
        PriorConfig(wrong=1.5)
    with pytest.raises(ConfigError, match=r"expected prior.wrong above 0"):
        PriorConfig(estimator="mono")
