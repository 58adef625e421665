"""Relative inverse depth as files: nothing clipped, scale and offset stated, damage told."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from depthlight.core.errors import FileFormatError, ImageError, InputError, NonFiniteError
from depthlight.io.inverse_depth import read_inverse_depth, write_inverse_depth


@settings(max_examples=20)
@given(st.floats(0, 1e3), st.floats(1e-3, 1e4))
def test_a_png_is_right_to_half_a_step(tmp_path_factory, low, span):
    path = tmp_path_factory.mktemp("map") / "inverse_depth.png"
    values = (low + span * np.random.default_rng(0).random((7, 9))).astype(np.float32)
    write_inverse_depth(path, values, meta={"model": "tiny"})
    found, meta = read_inverse_depth(path)
    scale = meta["encodings"]["png"]["scale"]
    assert np.abs(found - values).max() <= scale / 2 + 1e-6 * (low + span)
    assert meta["model"] == "tiny" and meta["space"] == "relative inverse depth" and meta["width"] == 9
    stored = np.asarray(Image.open(path))
    assert stored.min() == 0 and stored.max() == 65535, "the whole range of the file is used"


def test_the_png_alone_is_enough_and_npy_is_exact(tmp_path):
    values = np.random.default_rng(1).random((5, 6), np.float32)
    for suffix in ("png", "npy"):
        path = tmp_path / f"map.{suffix}"
        write_inverse_depth(path, values)
        path.with_suffix(".json").unlink()
        found, meta = read_inverse_depth(path)
        assert meta == {} and np.allclose(found, values, atol=1e-5 if suffix == "png" else 0)


def test_a_constant_map(tmp_path):
    write_inverse_depth(tmp_path / "map.png", np.full((4, 4), 3.5, np.float32))
    assert (read_inverse_depth(tmp_path / "map.png")[0] == 3.5).all()


def test_what_is_refused(tmp_path):
    good = np.ones((4, 4), np.float32)
    with pytest.raises(NonFiniteError):
        write_inverse_depth(tmp_path / "a.png", np.full((4, 4), np.nan, np.float32))
    with pytest.raises(InputError):
        write_inverse_depth(tmp_path / "a.png", -good)
    for function in (write_inverse_depth, lambda path, _: read_inverse_depth(path)):
        with pytest.raises(InputError, match="unknown format"):
            function(tmp_path / "a.jpg", good)
    assert not list(tmp_path.iterdir())
    Image.fromarray(np.ones((4, 4), np.uint16)).save(tmp_path / "foreign.png")
    with pytest.raises(FileFormatError, match="no scale"):
        read_inverse_depth(tmp_path / "foreign.png")
    Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "wrong.jpg")
    (tmp_path / "wrong.jpg").rename(tmp_path / "wrong.png")
    with pytest.raises(FileFormatError, match="not a PNG"):
        read_inverse_depth(tmp_path / "wrong.png")
    with pytest.raises(ImageError):
        read_inverse_depth(tmp_path / "gone.png")
    write_inverse_depth(tmp_path / "other.png", good)
    sidecar = json.loads((tmp_path / "other.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(sidecar | {"space": "disparity", "unit": "px"}))
    with pytest.raises(FileFormatError):
        read_inverse_depth(tmp_path / "other.png")
