"""HEIC through the optional plugin, under the same guard as every other format."""

from __future__ import annotations

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from depthlight.core.errors import DepthlightError, ImageError, LimitError, MissingExtraError
from depthlight.io.guard import ImageLimits
from depthlight.io.images import image_size, read_image

pillow_heif = pytest.importorskip("pillow_heif")


def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)


def heic(image: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(image)).save(stream, quality=95, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def data() -> bytes:
    return heic(picture())


def test_colours_and_size(data, tmp_path):
    path = tmp_path / "photo.HEIC"
    path.write_bytes(data)
    image = read_image(path)
    assert image.shape == (120, 160, 3)
    assert np.abs(image.astype(int) - picture()).mean() < 4
    assert image_size(path) == (120, 160)


def test_gray_has_three_equal_channels():
    image = read_image(heic(picture()[..., 0]))
    assert image.shape == (120, 160, 3)
    assert (image == image[..., :1]).all()


def test_orientation_is_applied_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = heic(picture(), exif=exif.tobytes())
    assert read_image(turned).shape[:2] == image_size(turned) == (160, 120)


def test_size_is_checked_before_decoding(data):
    lying = bytearray(data)
    at = lying.find(b"ispe") + 8
    lying[at : at + 8] = (100_000).to_bytes(4, "big") * 2
    with pytest.raises(LimitError, match="100000×100000"):
        read_image(bytes(lying))


def test_truncated_and_mutated_files_end_in_our_errors(data):
    rng = np.random.default_rng(0)
    with pytest.raises(ImageError):
        read_image(data[: len(data) // 2])
    refused = 0
    for _ in range(100):
        mutant = bytearray(data)
        for _ in range(6):
            mutant[rng.integers(12, 400)] ^= 1 << rng.integers(8)
        try:
            assert read_image(bytes(mutant)).dtype == np.uint8
        except DepthlightError:
            refused += 1
    assert refused > 10


def test_without_the_plugin_the_extra_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'depthlight\[heic\]'"):
        read_image(data, name="photo.heic")


def test_a_list_of_formats_without_it_refuses_it(data):
    with pytest.raises(ImageError, match="HEIC"):
        read_image(data, limits=ImageLimits(formats=("PNG",)))
