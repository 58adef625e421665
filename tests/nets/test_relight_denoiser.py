"""The small prior's network, its diffusion, and its files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthlight.core.config import to_dict
from depthlight.core.errors import CheckpointError, ConfigError, InputError, UnknownNameError
from depthlight.nets.checkpoints import save_safetensors
from depthlight.nets.lighting import Lighting, relight
from depthlight.nets.prior.denoiser import Conditions, Denoiser, DenoiserConfig
from depthlight.nets.prior.diffusion import add_noise, alpha_sigma, image_of, noise_of, sample, velocity
from depthlight.nets.prior.load import load_prior


def some(count: int = 3, side: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Conditions]:
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn((count, 3, side, side), generator=generator)
    photo = torch.rand((count, 3, side, side), generator=generator)
    ones = torch.ones(count)
    told = Conditions(photo, torch.rand((count, 6), generator=generator), torch.zeros(count), ones, ones)
    return noisy, torch.rand(count, generator=generator), told


def awake(*, conditional: bool = True, seed: int = 0) -> Denoiser:
    """A tiny network none of whose layers is zero, as after training."""
    torch.manual_seed(seed)
    net = Denoiser(DenoiserConfig.tiny(conditional=conditional))
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net.eval()


# ------------------------------------------------------------------------------------------------------- diffusion


@settings(deadline=None, max_examples=25)
@given(st.floats(0.01, 0.99), st.integers(0, 100))
def test_image_and_noise_come_back_from_v(t: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn((2, 1, 3, 4, 4), generator=generator, dtype=torch.float64)
    t_N = torch.tensor([t], dtype=torch.float64)
    noisy, v = add_noise(x, noise, t_N), velocity(x, noise, t_N)
    torch.testing.assert_close(image_of(noisy, v, t_N), x)
    torch.testing.assert_close(noise_of(noisy, v, t_N), noise)


def test_times_run_from_the_image_to_noise_and_keep_the_variance() -> None:
    alpha, sigma = alpha_sigma(torch.tensor([0.0, 0.37, 1.0], dtype=torch.float64))
    torch.testing.assert_close((alpha**2 + sigma**2).flatten(), torch.ones(3, dtype=torch.float64))
    assert alpha[0] == 1 and sigma[0] == 0 and alpha[2] < 1e-12


def test_sampling_draws_from_a_gaussian_whose_denoiser_is_known() -> None:
    mean, spread = 0.2, 0.15

    def predict(noisy: Tensor, t_N: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(t_N)
        variance = alpha**2 * spread**2 + sigma**2
        image = mean + alpha * spread**2 / variance * (noisy - alpha * mean)
        return velocity(image, sigma / variance * (noisy - alpha * mean), t_N)

    noise = torch.randn((64, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    drawn = sample(predict, noise, steps=100)
    assert abs(float(drawn.mean()) - mean) < 0.01
    assert abs(float(drawn.std()) - spread) < 0.01


# --------------------------------------------------------------------------------------------------------- network


def lit(told: Conditions, slopes: tuple[float, float]) -> Tensor:
    """The photos in their lights if all of them were one plane with these slopes; [-1, 1]."""
    normal = torch.nn.functional.normalize(torch.tensor([*slopes, 1.0]), dim=0).view(3, 1, 1)
    light = told.light_N6[:, None]
    lighting = Lighting(
        direction_L3=light[..., :3], diffuse_L=light[..., 3], specular_L=light[..., 4], shininess_L=2 ** light[..., 5]
    )
    return 2 * relight(told.photo_N3PP, normal.expand_as(told.photo_N3PP), lighting)[:, 0] - 1


def test_a_fresh_network_takes_everything_for_flat_and_relights_it() -> None:
    noisy, t, told = some()
    alpha, sigma = alpha_sigma(t)
    net = Denoiser(DenoiserConfig.tiny())
    torch.testing.assert_close(net(noisy, t, told), sigma * (alpha * noisy - lit(told, (0, 0))))
    assert net(noisy, t, told.without(photo=False, light=True)).abs().max() == 0, "in the dark nothing is rendered"


def test_the_slopes_it_finds_are_the_renderers() -> None:
    noisy, _, told = some()
    net = Denoiser(DenoiserConfig.tiny())
    net.out.bias.data[4:6] = torch.tensor([0.7, -0.4]).asinh()
    pure_noise = torch.ones(3)
    found = image_of(noisy, net(noisy, pure_noise, told), pure_noise)
    torch.testing.assert_close(found, lit(told, (0.7, -0.4)), atol=1e-5, rtol=1e-5)


def test_highlights_keep_float32_under_autocast() -> None:
    net = Denoiser(DenoiserConfig.tiny())
    assert net.out.bias is not None
    net.out.bias.data[4:6] = torch.tensor([0.25, -0.5])  # exact in 16 bits
    noisy, _, told = some()
    told = replace(told, light_N6=torch.tensor([[0.5, -0.3, 0.8, 1.0, 1.0, 7.0]]).expand(3, 6))  # shininess 128
    t_N = torch.full((3,), 0.5)
    with torch.no_grad():
        whole = net(noisy, t_N, told)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(net(noisy, t_N, told), whole, atol=1e-5, rtol=0)


def test_the_default_is_as_large_as_it_is_said_to_be() -> None:
    for conditional in (True, False):
        count = sum(p.numel() for p in Denoiser(DenoiserConfig(conditional=conditional)).parameters())
        assert 4.2e6 < count < 4.6e6


def test_a_fresh_network_that_is_told_nothing_predicts_nothing() -> None:
    noisy, t, told = some()
    assert not Denoiser(DenoiserConfig.tiny(conditional=False))(noisy, t, told).any()


def test_what_is_withheld_has_no_influence() -> None:
    net = awake()
    noisy, t, told = some()
    other = replace(told, photo_N3PP=1 - told.photo_N3PP)
    relit = replace(told, light_N6=told.light_N6.flip(0))
    for withheld, change in (
        (told.without(photo=True, light=False), other),
        (told.without(photo=False, light=True), relit),
    ):
        photo, light = not withheld.photo_on_N.any(), not withheld.light_on_N.any()
        assert not torch.allclose(net(noisy, t, told), net(noisy, t, change), atol=1e-4)
        torch.testing.assert_close(net(noisy, t, withheld), net(noisy, t, change.without(photo=photo, light=light)))


def test_an_unconditional_network_sees_only_the_scale() -> None:
    net = awake(conditional=False)
    noisy, t, told = some()
    blind = replace(told, photo_N3PP=1 - told.photo_N3PP, light_N6=-told.light_N6)
    torch.testing.assert_close(net(noisy, t, told), net(noisy, t, blind))
    assert not torch.allclose(net(noisy, t, told), net(noisy, t, replace(told, native_N=1 - told.native_N)), atol=1e-4)


def test_patches_of_a_batch_do_not_see_each_other() -> None:
    net = awake()
    noisy, t, told = some(4)
    together = net(noisy, t, told)
    for row in (0, 3):
        rows = torch.tensor([row])
        torch.testing.assert_close(together[rows], net(noisy[rows], t[rows], told.take(rows)), atol=1e-5, rtol=1e-4)


def test_every_parameter_learns() -> None:
    net = awake()
    net(*some()).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_sizes_that_cannot_be_are_refused() -> None:
    noisy, t, told = some(side=15)
    with pytest.raises(InputError, match="multiples of 8"):
        awake()(noisy, t, told)
    with pytest.raises(ConfigError):
        DenoiserConfig(channels=(8, 16), blocks=(1,))


# ----------------------------------------------------------------------------------------------------------- files


def write(path: Path, net: Denoiser, **changes: str) -> Path:
    metadata = {
        "name": "relight.test",
        "family": "relight",
        "network": json.dumps(to_dict(net.config)),
        "lineage": "[]",
    }
    save_safetensors(path, net, metadata | changes)
    return path


@pytest.mark.parametrize("conditional", [True, False])
def test_a_prior_comes_back_from_its_file(tmp_path: Path, conditional: bool) -> None:
    net = awake(conditional=conditional)
    prior = load_prior(write(tmp_path / "model.safetensors", net))
    assert prior.name == "relight.test" and len(prior.sha256) == 64
    assert prior.net.conditional == conditional and not prior.net.training
    torch.testing.assert_close(prior.net(*some()), net(*some()), atol=0, rtol=0)


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a re-lighting prior"):
        load_prior(write(tmp_path / "light.safetensors", awake(), family="light"))
    with pytest.raises(CheckpointError, match="metadata"):
        load_prior(write(tmp_path / "broken.safetensors", awake(), network="{"))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_prior(write(tmp_path / "other.safetensors", awake(), network=json.dumps({"conditional": False})))
    with pytest.raises(UnknownNameError):
        load_prior("relight.nonsense")
