"""What the small prior sees."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from depthlight.core.errors import InputError
from depthlight.refine.guidance import Scene
from depthlight.refine.patches import (
    NEAR,
    PATCH,
    cut_patches,
    light_numbers,
    prior_normals,
    shrunk_size,
    smooth_steps,
    standard_raw,
)
from depthlight.refine.render import Lighting, relight


def scene(batch: int = 2, lights: int = 4, size: tuple[int, int] = (96, 160), seed: int = 0) -> Scene:
    """Every pixel of the photo is another colour, and the re-lit pictures are the photo times a number per light."""
    generator = torch.Generator().manual_seed(seed)
    photo = torch.rand((batch, 3, *size), generator=generator)
    gain = torch.linspace(0.2, 1, lights)[None, :, None, None, None]
    return Scene(photo, photo[:, None] * gain, Lighting.sample(lights, generator))


@settings(deadline=None, max_examples=25)
@given(st.floats(0.01, 100), st.integers(0, 50))
def test_the_standard_scale_does_not_depend_on_the_networks(unit: float, seed: int) -> None:
    raw = torch.rand((2, 1, 20, 30), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    standard = standard_raw(raw)
    torch.testing.assert_close(standard_raw(unit * raw), standard)
    assert ((standard <= NEAR).double().mean((1, 2, 3)) >= 0.98).all()
    torch.testing.assert_close(standard / raw, (standard / raw)[:, :, :1, :1].expand_as(raw))


def test_a_map_without_relief_is_refused() -> None:
    with pytest.raises(InputError, match="0 nearly everywhere"):
        standard_raw(torch.zeros(1, 1, 8, 8))


def test_the_scale_is_that_of_the_known_pixels() -> None:
    raw = torch.linspace(1, 3, 1200).view(1, 1, 30, 40)
    known = torch.zeros(1, 1, 30, 40, dtype=torch.bool)
    known[..., :20, :] = True
    holes = torch.where(known, raw, 0)
    torch.testing.assert_close(standard_raw(holes, known)[known], standard_raw(raw[:, :, :20]).flatten())
    torch.testing.assert_close(standard_raw(raw, torch.ones_like(known)), standard_raw(raw), rtol=0, atol=0)
    with pytest.raises(InputError, match="0 nearly everywhere"):
        standard_raw(raw, torch.zeros_like(known))


def test_rounding_is_smoothed_and_edges_are_kept() -> None:
    x = torch.linspace(0, 1, 96)
    true = (2 + 0.11 * x).expand(1, 1, 64, 96).clone()
    true[..., 40:, :] += 5
    stored = (true * 256).round() / 256
    smooth = smooth_steps(stored, 1 / 256)
    assert float((smooth - true).abs().max()) <= 0.6 / 256
    inside = (slice(None), slice(None), slice(10, 30), slice(10, 86))
    slope = torch.diff(smooth[inside], dim=-1) - torch.diff(true[inside], dim=-1)
    rough = torch.diff(stored[inside], dim=-1) - torch.diff(true[inside], dim=-1)
    assert slope.abs().mean() < 0.5 * rough.abs().mean()
    assert float((smooth[..., 40, :] - smooth[..., 39, :]).min()) > 4.99


def test_photo_and_relit_patches_are_of_one_place() -> None:
    given_scene = scene()
    patches = cut_patches(given_scene, (False, True, False, True), torch.Generator().manual_seed(1))
    gain = torch.linspace(0.2, 1, 4).repeat(2)[:, None, None, None]
    torch.testing.assert_close(patches.relit_N3PP, patches.photo_N3PP * gain)
    assert patches.native_N.tolist() == [0, 1] * 4
    assert patches.relit_N3PP.shape == (8, 3, PATCH, PATCH)


def test_native_patches_are_cut_and_coarse_ones_shrunk() -> None:
    given_scene = scene(batch=1, lights=2)
    patches = cut_patches(given_scene, (False, True), torch.Generator().manual_seed(2))
    native_windows = given_scene.photo_B3HW.unfold(2, PATCH, 1).unfold(3, PATCH, 1)[0].permute(1, 2, 0, 3, 4)
    assert (native_windows == patches.photo_N3PP[1]).flatten(2).all(-1).sum() == 1
    small = F.interpolate(given_scene.photo_B3HW, shrunk_size(96, 160), mode="area")
    assert small.shape[-2:] == (64, 107)
    coarse_windows = small.unfold(3, PATCH, 1)[0].permute(2, 0, 1, 3)
    assert (coarse_windows == patches.photo_N3PP[0]).flatten(1).all(-1).sum() == 1


def test_places_follow_from_the_generator_alone() -> None:
    def cut(seed: int) -> Tensor:
        return cut_patches(scene(), (True,) * 4, torch.Generator().manual_seed(seed)).photo_N3PP

    assert torch.equal(cut(3), cut(3)) and not torch.equal(cut(3), cut(4))


def test_gradients_reach_the_pixels_of_the_patch_only() -> None:
    given_scene = scene(batch=1, lights=1)
    relit = given_scene.relit_BL3HW.requires_grad_()
    patches = cut_patches(given_scene, (True,), torch.Generator().manual_seed(5))
    patches.relit_N3PP.sum().backward()
    assert relit.grad is not None and relit.grad.sum() == 3 * PATCH * PATCH
    assert not patches.conditions().photo_N3PP.requires_grad


def test_light_numbers_are_those_of_the_light() -> None:
    lighting = Lighting.of(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]]), torch.tensor([32]))
    half = 0.5**0.5
    torch.testing.assert_close(light_numbers(lighting, 2), torch.tensor([[0, half, half, 0.25, 0.75, 5.0]] * 2))


def test_small_renderings_are_refused() -> None:
    with pytest.raises(InputError, match="at least 64 px"):
        cut_patches(scene(size=(60, 160)), (True,) * 4, torch.Generator())


def test_a_bump_is_bright_on_the_side_of_the_light() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 65), torch.linspace(-1, 1, 65), indexing="ij")
    raw = standard_raw((2 + torch.exp(-4 * (x**2 + y**2)))[None, None])
    above = Lighting.of(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([4]))
    relit = relight(torch.full((1, 3, 65, 65), 0.5), prior_normals(raw), above)[0, 0, 0]
    assert relit[22, 32] > relit[42, 32] + 0.1


@settings(deadline=None, max_examples=25)
@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0, 3))
def test_a_plane_has_one_normal_whatever_the_offset(right: float, down: float, offset: float) -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 60).double(), torch.linspace(-1, 1, 80).double(), indexing="ij")
    normal = prior_normals((2 + right * x + down * y + offset)[None, None])[..., 1:-1, 1:-1]
    torch.testing.assert_close(normal, normal[..., :1, :1].expand_as(normal), rtol=0, atol=1e-6)
    assert bool((normal[0, 0].mean() * right <= 0) and (normal[0, 1].mean() * down >= 0))


def test_what_is_not_known_faces_away() -> None:
    raw = torch.full((1, 1, 20, 20), 3.0)
    raw[..., 5, 5] = torch.nan
    normal = prior_normals(raw)
    assert (normal[0, :, 5, 5] == torch.tensor([0.0, 0.0, -1.0])).all() and normal.isfinite().all()
    assert int((normal[:, 2] == -1).sum()) == 5  # it and its four neighbours


def test_depth_that_is_nearly_infinite_stays_finite() -> None:
    raw = torch.linspace(0, 1e-9, 400).view(1, 1, 20, 20).requires_grad_()
    normal = prior_normals(raw)
    normal.sum().backward()  # type: ignore[no-untyped-call]
    assert normal.isfinite().all() and raw.grad is not None and raw.grad.isfinite().all()
