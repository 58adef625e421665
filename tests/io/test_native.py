"""Images in their own depth and channels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from depthlight.core.errors import ImageError, InputError
from depthlight.io.images import read_image
from depthlight.io.native import read_native, write_native


@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.uint8, (6, 8)), (np.uint8, (6, 8, 3)), (np.uint16, (6, 8)), (np.uint16, (6, 8, 3))]
)
def test_png_comes_back_as_it_was(tmp_path, dtype, shape):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    write_native(tmp_path / "a.png", image)
    back = read_native(tmp_path / "a.png")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, image)


def test_what_the_plain_decoder_sees_otherwise_comes_from_the_guarded_one(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_native(tmp_path / "turned.png"), read_image(tmp_path / "turned.png"))
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_native(tmp_path / "alpha.png"), pixels)


def test_bad_files_and_arrays_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError):
        read_native(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"\.png"):
        write_native(tmp_path / "a.jpg", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="8 or 16 bits"):
        write_native(tmp_path / "a.png", np.zeros((2, 2), np.float32))
