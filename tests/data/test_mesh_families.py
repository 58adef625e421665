"""The rendered families: truth that explains the pictures, in both directions, the same every time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("numba")
from depthlight.data.synth import things
from depthlight.data.synth.library import MeshLibrary
from depthlight.data.synth.meshes import meshes
from depthlight.data.synth.outdoors import street, terrain
from depthlight.data.synth.rooms import indoor, rooms, tabletop
from depthlight.data.synth.scene import FloatImage, RenderedPair

HEIGHT, WIDTH = 96, 192


class Noise:
    """Textures without any file: coloured noise of middle contrast."""

    def sample(self, rng: np.random.Generator, height: int, width: int) -> FloatImage:
        coarse = rng.uniform(40, 220, (height // 8 + 1, width // 8 + 1, 3)).astype(np.float32)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)

    def photo(self, rng: np.random.Generator) -> FloatImage:
        return self.sample(rng, 120, 160)


Maker = Callable[[np.random.Generator, int, int, float, Noise], RenderedPair]
FAMILIES: dict[str, Maker] = {
    "meshes": meshes,
    "indoor": partial(indoor, library=None),
    "tabletop": partial(tabletop, library=None),
    "street": partial(street, library=None),
    "terrain": partial(terrain, library=None),
}


def scene(name: str, seed: int, max_disp: float = 24.0) -> RenderedPair:
    return FAMILIES[name](np.random.default_rng(seed), HEIGHT, WIDTH, max_disp, Noise())


def looked_up(image: np.ndarray, x_HW: np.ndarray) -> np.ndarray:
    rows = np.broadcast_to(np.arange(HEIGHT, dtype=np.float32)[:, None], x_HW.shape)
    return cv2.remap(image, x_HW.astype(np.float32), np.ascontiguousarray(rows), cv2.INTER_LINEAR)


def inside_and_seen(pair: RenderedPair) -> tuple[np.ndarray, np.ndarray]:
    """Where a left pixel's partner lies, and whether the right view sees the same surface there."""
    x_HW = np.arange(WIDTH)[None, :] - pair.disparity_HW
    other_HW = looked_up(pair.right_disparity_HW, x_HW)
    return x_HW, (x_HW >= 0) & (np.abs(other_HW - pair.disparity_HW) < 0.3)


@pytest.mark.parametrize("name", FAMILIES)
def test_warping_right_by_the_truth_gives_left(name: str) -> None:
    for seed in range(3):
        pair = scene(name, seed)
        x_HW, seen_HW = inside_and_seen(pair)
        assert seen_HW.mean() > 0.3
        error_HW = np.abs(looked_up(pair.right_HW3, x_HW) - pair.left_HW3).mean(axis=-1)
        assert np.median(error_HW[seen_HW]) < 4.0
        wrong_HW = np.abs(looked_up(pair.right_HW3, x_HW + 3.0) - pair.left_HW3).mean(axis=-1)
        assert np.mean(wrong_HW[seen_HW]) > 1.5 * np.mean(error_HW[seen_HW])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_right_view_sees_the_same_surface_or_a_nearer_one(name: str) -> None:
    for seed in range(3):
        pair = scene(name, seed)
        nearest_x = np.rint(np.arange(WIDTH)[None, :] - pair.disparity_HW).astype(int)
        inside_HW = (nearest_x >= 1) & (nearest_x < WIDTH - 1)
        rows = np.broadcast_to(np.arange(HEIGHT)[:, None], nearest_x.shape)
        around = [pair.right_disparity_HW[rows, (nearest_x + k).clip(0, WIDTH - 1)] for k in (-1, 0, 1)]
        assert (np.max(around, axis=0) > pair.disparity_HW - 0.5)[inside_HW].mean() > 0.99
        mirrored_x = np.rint(np.arange(WIDTH)[None, :] + pair.right_disparity_HW).astype(int)
        inside_HW = (mirrored_x >= 1) & (mirrored_x < WIDTH - 1)
        around = [pair.disparity_HW[rows, (mirrored_x + k).clip(0, WIDTH - 1)] for k in (-1, 0, 1)]
        assert (np.max(around, axis=0) > pair.right_disparity_HW - 0.5)[inside_HW].mean() > 0.99


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("max_disp", [8.0, 60.0])
def test_ranges_and_types(name: str, max_disp: float) -> None:
    pair = scene(name, 5, max_disp)
    for image in (pair.left_HW3, pair.right_HW3):
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert image.dtype == np.float32
        assert image.flags.c_contiguous
        assert 0 <= image.min() <= image.max() <= 255
        assert image.std() > 8
    for disparity in (pair.disparity_HW, pair.right_disparity_HW):
        assert disparity.dtype == np.float32
        assert disparity.min() >= 1 / 256
    assert max_disp / 1.61 <= pair.disparity_HW.max() <= max_disp * 1.0001
    assert pair.right_disparity_HW.max() <= max_disp * 1.051


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    first, second, other = scene(name, 1), scene(name, 1), scene(name, 2)
    for field in ("left_HW3", "right_HW3", "disparity_HW", "right_disparity_HW"):
        assert getattr(first, field).tobytes() == getattr(second, field).tobytes()
    assert first.left_HW3.tobytes() != other.left_HW3.tobytes()


def test_outdoors_has_a_sky_at_the_smallest_disparity() -> None:
    for name in ("street", "terrain"):
        assert any(scene(name, seed).disparity_HW.min() == 1 / 256 for seed in range(4))


def test_rooms_draws_more_than_one_kind() -> None:
    kinds = [rooms(np.random.default_rng(s), 24, 48, 8.0, Noise()).disparity_HW.min() == 1 / 256 for s in range(8)]
    assert any(kinds)
    assert not all(kinds)


@pytest.mark.parametrize("seed", range(6))
def test_a_hedge_stands_on_the_ground_as_long_as_asked(seed: int) -> None:
    mesh = things.hedge(np.random.default_rng(seed), 8.0)
    skin_F33 = mesh.positions_F33[mesh.slot_F == 0]
    lengths_F = np.linalg.norm(mesh.normals_F33, axis=-1)
    assert np.allclose(lengths_F, 1, atol=1e-3)
    assert skin_F33[..., 1].min() == 0
    assert 0.4 < skin_F33[..., 1].max() < 4.5
    assert 7.5 < np.ptp(skin_F33[..., 2]) <= 8.0
    assert set(mesh.slot_F.tolist()) <= {0, 1}


@pytest.mark.parametrize("family", [meshes, rooms])
def test_a_library_of_models_is_used(family: Callable[..., RenderedPair], tmp_path: Path) -> None:
    points = "".join(f"v {x} {y} {z}\n" for x in (0, 70) for y in (0, 90) for z in (0, 50))
    (tmp_path / "block.obj").write_text(points + "f 1 2 4 3\nf 5 6 8 7\nf 1 2 6 5\nf 3 4 8 7\nf 1 3 7 5\nf 2 4 8 6\n")
    library = MeshLibrary(tmp_path)
    bare = family(np.random.default_rng(3), 48, 96, 16.0, Noise())
    full = family(np.random.default_rng(3), 48, 96, 16.0, Noise(), library)
    assert np.isfinite(full.left_HW3).all()
    assert bare.left_HW3.tobytes() != full.left_HW3.tobytes()
