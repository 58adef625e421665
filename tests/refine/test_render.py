"""The renderer: golden parity with the official code, gradients, and what must hold for any surface and light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from depthlight.core.errors import InputError, UnknownNameError
from depthlight.core.tolerances import tolerance
from depthlight.geometry import normals as twin
from depthlight.nets.lighting import DARKEST, GAMMA, Lighting, relight, shading
from depthlight.refine.render import normals_orthographic, normals_pinhole, pseudo_depth, smoothness

GOLDEN = np.load(Path(__file__).parent / "golden" / "relight.golden.npz", allow_pickle=False)
CAMERA = (30.0, 28.0, 9.5, 6.0)


def golden(name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name]).to(dtype)


def golden_lights(dtype: torch.dtype = torch.float32) -> Lighting:
    return Lighting.of(golden("light_xy", dtype), golden("diffuse_specular", dtype), golden("shininess"))


def bumps(seed: int = 0, *, height: int = 12, width: int = 17, batch: int = 1) -> torch.Tensor:
    """A smooth positive map (batch, 1, height, width), float64."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 1, 4, 5, generator=generator, dtype=torch.float64)
    return 2 + torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


def photo(seed: int = 1, *, height: int = 12, width: int = 17, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lights(count: int = 3, seed: int = 2, batch: int | None = None) -> Lighting:
    drawn = Lighting.sample(count, torch.Generator().manual_seed(seed), batch=batch)
    return drawn.to(torch.zeros(1, dtype=torch.float64))


# golden parity


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pseudo_depth_and_smoothness_equal_the_official_code(dtype):
    raw = golden("raw_disparity", dtype)[None, None]
    assert (pseudo_depth(raw)[0, 0] - golden("pseudo_depth", dtype)).abs().max() <= tolerance("relight.depth")
    assert abs(smoothness(raw) - golden("smoothness", dtype)) <= tolerance("relight.depth")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_equal_the_official_code(dtype):
    normal = normals_orthographic(golden("pseudo_depth", dtype)[None, None], convention="paper")
    assert (normal[0] - golden("normals", dtype)).abs().max() <= tolerance("relight.golden")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relit_pictures_equal_the_official_code(dtype):
    relit = relight(golden("image", dtype)[None], golden("normals", dtype)[None], golden_lights(dtype))
    assert relit.shape == (1, 4, 3, 70, 98)
    assert (relit[0] - golden("relit_srgb", dtype)).abs().max() <= tolerance("relight.golden")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_whole_way_equals_the_official_code(dtype):
    normal = normals_orthographic(pseudo_depth(golden("raw_disparity", dtype)[None, None]), convention="paper")
    relit = relight(golden("image", dtype)[None], normal, golden_lights(dtype))
    assert (relit[0] - golden("relit_srgb", dtype)).abs().max() <= tolerance("relight.golden")


# gradients (X12)


def test_gradcheck_pseudo_depth():
    raw, offset = bumps().requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(pseudo_depth, (raw, offset))


@pytest.mark.parametrize("convention", ["surface", "paper"])
def test_gradcheck_normals(convention):
    depth = bumps(batch=2, height=6, width=7).requires_grad_()
    assert gradcheck(lambda z: normals_orthographic(z, convention=convention), (depth,))
    assert gradcheck(lambda z: normals_pinhole(z, 8.0, 7.0, 3.0, 2.5, convention=convention), (depth,))


def test_gradcheck_relight():
    depth, image = bumps(height=5, width=6), (0.2 + 0.6 * photo(height=5, width=6)).requires_grad_()
    normal = normals_orthographic(depth).requires_grad_()
    assert gradcheck(lambda i, n: relight(i, n, lights()), (image, normal))
    whole = lambda z: relight(image.detach(), normals_orthographic(z), lights(2))  # noqa: E731
    assert gradcheck(whole, (depth.requires_grad_(),))


def test_gradcheck_smoothness():
    frame = bumps(batch=2, height=8, width=9)
    frame[:, :, 0, 0], frame[:, :, -1, -1] = 0, 10  # the range is a constant for the gradient: kept out of what moves

    def framed(inner):
        middle = torch.cat([frame[:, :, 1:-1, :1], inner, frame[:, :, 1:-1, -1:]], 3)
        return smoothness(torch.cat([frame[:, :, :1], middle, frame[:, :, -1:]], 2))

    assert gradcheck(framed, (frame[:, :, 1:-1, 1:-1].clone().requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["flat", "zero", "steps", "spikes"])
def test_gradients_are_finite_everywhere(case, dtype):
    raw = {
        "flat": torch.full((1, 1, 8, 9), 1.5, dtype=dtype),
        "zero": torch.zeros(1, 1, 8, 9, dtype=dtype),
        "steps": torch.zeros(1, 1, 8, 9, dtype=dtype).index_fill(3, torch.arange(4), 1e6),
        "spikes": torch.zeros(1, 1, 8, 9, dtype=dtype).index_fill(2, torch.tensor([3]), 1e-12),
    }[case].requires_grad_()
    offset = torch.zeros((), dtype=dtype, requires_grad=True)
    image = torch.zeros(1, 3, 8, 9, dtype=dtype, requires_grad=True)  # black: the gamma is steepest there
    z = pseudo_depth(raw, offset)
    loss = smoothness(raw)
    for normal in (normals_orthographic(z), normals_pinhole(z, 9.0, 9.0, 4.0, 3.5)):
        loss = loss + relight(image, normal, lights().to(z)).sum() + normal.sum()
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in (raw, offset, image):
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_a_hole_takes_no_gradient_and_gives_none_away():
    depth = bumps()
    depth[0, 0, 5, 8] = torch.nan
    depth[0, 0, 2, 2] = -1
    depth.requires_grad_()
    for normal in (normals_orthographic(depth), normals_pinhole(depth, *CAMERA)):
        (gradient,) = torch.autograd.grad(normal.square().sum() + normal.sum(), depth)
        assert torch.isfinite(gradient).all()
        away = (normal == torch.tensor([0.0, 0, -1], dtype=torch.float64).view(3, 1, 1)).all(1)[0]
        expected = torch.zeros(12, 17, dtype=torch.bool)
        for row, column in ((5, 8), (2, 2)):
            for down, right in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
                expected[row + down, column + right] = True
        assert torch.equal(away, expected)


# what must hold


def test_a_bump_for_a_dent_gives_the_same_picture_under_mirrored_lights():
    depth, image, lighting = bumps(3), photo(), lights()
    mirrored = Lighting(
        direction_L3=lighting.direction_L3 * torch.tensor([-1, -1, 1], dtype=torch.float64),
        diffuse_L=lighting.diffuse_L,
        specular_L=lighting.specular_L,
        shininess_L=lighting.shininess_L,
    )
    bump = normals_orthographic(depth)
    dent = normals_orthographic(2 * depth.amax() - depth)
    assert torch.allclose(dent[:, :2], -bump[:, :2], atol=1e-12)
    assert (bump[:, :2].abs().amax() > 0.3).item()
    assert torch.allclose(relight(image, dent, mirrored), relight(image, bump, lighting), atol=1e-12)
    paper = normals_orthographic(depth, convention="paper")
    assert torch.allclose(relight(image, paper, mirrored), relight(image, bump, lighting), atol=1e-5)


def test_the_distribution_of_lights_is_symmetric():
    drawn = Lighting.sample(40_000, torch.Generator().manual_seed(0))
    across = drawn.direction_L3[:, :2] / drawn.direction_L3[:, 2:]
    for axis in (0, 1):
        above, below = across[:, axis].clamp(min=0).sort().values, (-across[:, axis]).clamp(min=0).sort().values
        assert (above - below).abs().max() < 0.02  # the same quantiles on both sides
    assert across.abs().max() <= 1 + 1e-6
    assert abs(across.var() - 1 / 3) < 0.01


def test_sampled_lights_follow_the_paper():
    drawn = Lighting.sample(20_000, torch.Generator().manual_seed(1))
    assert torch.allclose(drawn.direction_L3.norm(dim=-1), torch.ones(20_000))
    assert torch.allclose(drawn.diffuse_L + drawn.specular_L, torch.ones(20_000))
    assert (drawn.diffuse_L >= 0).all() and (drawn.specular_L >= 0).all()
    powers, counts = drawn.shininess_L.log2().round().unique(return_counts=True)
    assert powers.tolist() == [2, 3, 4, 5, 6, 7]
    assert ((counts / 20_000 - 1 / 6).abs() < 0.02).all()
    tilt = torch.rad2deg(drawn.direction_L3[:, 2].acos())
    assert 50 < tilt.max() <= 54.74


def test_lights_repeat_with_their_generator():
    first, again, other = (Lighting.sample(5, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first.direction_L3, again.direction_L3)
    assert torch.equal(first.shininess_L, again.shininess_L)
    assert not torch.equal(first.direction_L3, other.direction_L3)


def test_a_plane_is_shaded_evenly():
    rows, columns = torch.meshgrid(torch.arange(12).double(), torch.arange(17).double(), indexing="ij")
    tilted = (3 + 0.05 * columns - 0.03 * rows)[None, None]
    normal = normals_orthographic(tilted)
    assert (normal - normal[..., :1, :1]).abs().max() < 1e-12
    fx, fy, cx, cy = CAMERA
    # n·P = c for a point P = z·ray, so depth is c / (n·ray)
    plane = 1 / (0.3 + 0.2 * (columns - cx) / fx - 0.1 * (rows - cy) / fy)[None, None]
    normal = normals_pinhole(plane, *CAMERA)
    truth = torch.tensor([-0.2, -0.1, 0.3]).double()  # y and z turned round: up, and towards the viewer
    assert torch.allclose(normal[0], (truth / truth.norm()).view(3, 1, 1).expand_as(normal[0]), atol=1e-7)
    for lobe in shading(normal, lights()):
        assert (lobe - lobe[..., :1, :1]).abs().max() < 1e-12


def test_depth_scale_counts_under_orthographic_and_not_under_pinhole():
    depth, image, lighting = bumps(4), photo(), lights()
    near, far = (
        relight(image, normals_orthographic(depth), lighting),
        relight(image, normals_orthographic(3 * depth), lighting),
    )
    assert (near - far).abs().max() > 0.01
    near, far = (relight(image, normals_pinhole(scale * depth, *CAMERA), lighting) for scale in (1, 1000))
    assert torch.allclose(near, far, atol=1e-12)


def test_a_surface_that_recedes_to_the_right_faces_right_and_down_faces_down():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    for normals in (normals_orthographic, lambda z: normals_pinhole(z, 20.0, 20.0, 3.5, 3.5)):
        assert normals((5 + columns)[None, None])[0, 0].min() > 0.1
        assert normals((5 + rows)[None, None])[0, 1].max() < -0.1
    assert normals_orthographic((5 + columns)[None, None], convention="paper")[0, 0].max() < -0.1


def test_facing_light_and_viewer_gives_the_photo_back():
    image = 0.1 + 0.8 * photo()
    frontal = Lighting.of(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([8.0]))
    flat = normals_orthographic(torch.ones(1, 1, 12, 17, dtype=torch.float64))
    assert torch.allclose(relight(image, flat, frontal)[:, 0], image, atol=1e-12)
    away = torch.zeros_like(image) - torch.tensor([0.0, 0, 1]).view(3, 1, 1)
    assert torch.allclose(relight(image, away, frontal), torch.tensor(DARKEST, dtype=torch.float64) ** (1 / GAMMA))


def test_batches_and_lights_do_not_mix():
    depth, image, lighting = bumps(batch=3), photo(batch=3), lights(4, batch=3)
    together = relight(image, normals_pinhole(depth, torch.tensor([30.0, 40, 50]), 28.0, 9.0, 6.0), lighting)
    assert together.shape == (3, 4, 3, 12, 17)
    for b in range(3):
        own = Lighting(
            direction_L3=lighting.direction_L3[b],
            diffuse_L=lighting.diffuse_L[b],
            specular_L=lighting.specular_L[b],
            shininess_L=lighting.shininess_L[b],
        )
        alone = relight(image[b : b + 1], normals_pinhole(depth[b : b + 1], 30.0 + 10 * b, 28.0, 9.0, 6.0), own)
        assert torch.allclose(together[b], alone[0], atol=1e-14)
    assert torch.allclose(smoothness(depth), torch.stack([smoothness(d[None]) for d in depth]).mean())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), fx=st.floats(2, 2000), height=st.integers(2, 9), width=st.integers(2, 9))
def test_pinhole_normals_are_unit_and_face_the_camera(seed, fx, height, width):
    generator = torch.Generator().manual_seed(seed)
    depth = 10.0 ** (2 * torch.rand(1, 1, height, width, generator=generator, dtype=torch.float64) - 1)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    normal = normals_pinhole(depth, fx, fx, cx, cy)[0]
    assert torch.allclose(normal.norm(dim=0), torch.ones(height, width, dtype=torch.float64))
    x = (torch.arange(width) - cx) / fx
    y = (cy - torch.arange(height)) / fx
    towards = -normal[0] * x - normal[1] * y[:, None] + normal[2]  # the ray is (x, y, −1)
    assert (towards > 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), gain=st.floats(0.01, 100), shift=st.floats(0, 50))
def test_smoothness_ignores_scale_and_shift(seed, gain, shift):
    raw = bumps(seed)
    assert smoothness(gain * raw + shift) == pytest.approx(smoothness(raw).item(), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), relief=st.floats(0.01, 100))
def test_relit_pictures_stay_in_range(seed, relief):
    relit = relight(photo(seed), normals_orthographic(1 + relief * bumps(seed)), lights(4, seed))
    assert relit.min() >= DARKEST ** (1 / GAMMA) - 1e-12
    assert relit.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("convention", ["surface", "paper"])
def test_numpy_twin_gives_the_same_normals(dtype, convention):
    depth = bumps(5).to(dtype)
    depth[0, 0, 3, 4] = torch.inf
    depth[0, 0, 9, 0] = 0
    bound = 1e-12 if dtype == torch.float64 else 2e-6
    flat = depth[0, 0].numpy()
    for ours, theirs in (
        (normals_orthographic(depth, convention=convention), twin.normals_orthographic(flat, convention=convention)),
        (
            normals_pinhole(depth, *CAMERA, convention=convention),
            twin.normals_pinhole(flat, *CAMERA, convention=convention),
        ),
    ):
        assert theirs.dtype == flat.dtype
        assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() <= bound
    raw = bumps(6).to(dtype)
    assert np.allclose(pseudo_depth(raw)[0, 0].numpy(), twin.pseudo_depth(raw[0, 0].numpy()), rtol=1e-6)


def test_wrong_input_is_told():
    depth = bumps()
    with pytest.raises(InputError, match="shape"):
        normals_orthographic(depth[0])
    with pytest.raises(InputError, match="2x2"):
        normals_pinhole(depth[..., :1], *CAMERA)
    with pytest.raises(InputError, match="floats"):
        smoothness(depth.long())
    with pytest.raises(UnknownNameError, match="convention"):
        normals_orthographic(depth, convention="true")
    with pytest.raises(InputError, match="shift"):
        pseudo_depth(depth, shift=0)
    with pytest.raises(InputError, match="floats 0"):
        relight((255 * photo()).to(torch.uint8), normals_orthographic(depth), lights())
    with pytest.raises(InputError, match="shininess_L"):
        Lighting(
            direction_L3=torch.zeros(2, 3), diffuse_L=torch.ones(2), specular_L=torch.ones(2), shininess_L=torch.ones(3)
        )
