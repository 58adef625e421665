"""Texture sources: every kind yields what it should, photographs are preferred, the motorcycle is never used."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from depthlight.data.synth import layers, shapes
from depthlight.data.synth.patterns import PATTERNS, bare, plaster
from depthlight.data.synth.textures import MIXTURE, Textures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("wall.png", (0, 0, 200)), ("photo.png", (200, 0, 0)), ("motorcycle_left.png", (0, 200, 0))):
        cv2.imwrite(str(tmp_path / name), np.full((120, 160, 3), colour, np.uint8))
    (tmp_path / "texture.csv").write_text("file,package\nwall.png,ufoai-textures\nphoto.png,mate-backgrounds\n")
    return tmp_path


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_patterns_are_finite_repeatable_images(name: str) -> None:
    for height, width in ((4, 4), (37, 90), (200, 64)):
        image = PATTERNS[name](np.random.default_rng(1), height, width)
        assert image.shape == (height, width, 3) and image.dtype == np.float32
        assert np.isfinite(image).all() and image.min() > -200 and image.max() < 500
        assert np.array_equal(image, PATTERNS[name](np.random.default_rng(1), height, width))


def test_plaster_is_hardly_a_texture() -> None:
    contrasts = [np.ptp(plaster(np.random.default_rng(seed), 128, 128)) for seed in range(40)]
    assert 0.5 < min(contrasts) < 3, "walls without anything to match"
    assert 10 < max(contrasts) < 45, "and walls with a little"


def test_bare_surfaces_have_a_colour_and_little_else() -> None:
    for seed in range(10):
        image = bare(np.random.default_rng(seed), 96, 128)
        assert np.isfinite(image).all()
        fine = image - cv2.GaussianBlur(image, (0, 0), 12, borderType=cv2.BORDER_REFLECT)
        assert np.abs(fine).mean() < 6


def test_mixture_is_a_distribution() -> None:
    assert sum(MIXTURE.values()) == pytest.approx(1)


def test_photo_prefers_photographs_and_never_the_motorcycle(folder: Path) -> None:
    textures = Textures(folder)
    assert {file.name for file in textures.files} == {"wall.png", "photo.png"}
    rng = np.random.default_rng(0)
    for _ in range(10):
        photo = textures.photo(rng)
        assert photo.shape == (120, 160, 3)
        assert (photo == [0, 0, 200]).all()  # RGB of photo.png


def test_samples_have_the_asked_size_and_range(folder: Path) -> None:
    palette = Textures(folder).palette(np.random.default_rng(0), 1, 1)
    rng = np.random.default_rng(3)
    for _ in range(40):
        height, width = (int(side) for side in rng.integers(4, 200, 2))
        image = palette.sample(rng, height, width)
        assert image.shape == (height, width, 3) and image.min() >= 0 and image.max() <= 255


def test_without_photographs_patterns_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depthlight.data.synth.textures._bundled", list)
    textures = Textures()
    rng = np.random.default_rng(0)
    assert textures.photo(rng).shape == (480, 640, 3)
    assert textures.palette(rng, 3, 3).sample(rng, 20, 30).shape == (20, 30, 3)


@pytest.mark.parametrize("shape", sorted({*shapes.SOLID, *shapes.THIN}, key=lambda item: item.__name__))
def test_shapes_cover_something_and_leave_a_border(shape: shapes.Shape) -> None:
    covered = []
    for seed in range(8):
        mask = shape(np.random.default_rng(seed), 60, 90)
        assert mask.shape == (60, 90) and mask.dtype == np.uint8
        assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0
        covered.append((mask > 127).mean())
        shape(np.random.default_rng(seed), 4, 5)  # no smaller piece is ever asked for
    assert np.median(covered) > 0.005


def test_a_curved_layer_lands_where_its_truth_says() -> None:
    """x_left = x_right + d, with d read from the left view's own truth: the fixed point is solved."""
    y, x = np.mgrid[:40, :160].astype(np.float32)
    relief = layers.limit_slope((6 * np.sin(x / 9) + y / 20).astype(np.float32), 0.1)
    patch = np.full((40, 160, 4), 255, np.uint8)
    layer = layers.Layer(patch, -3.4, 0, (0.1, 0.05, 12.0), relief)
    pair = layers.render([layer], 40, 120)
    right = pair.right_disparity_HW[:, 20:90]
    landing = (x[:, 20:90] + right).astype(np.float32)
    there = cv2.remap(pair.disparity_HW, landing, y[:, 20:90], cv2.INTER_LINEAR)
    inside = landing < 118
    assert inside.any()
    assert np.abs(there - right)[inside].max() < 0.05
