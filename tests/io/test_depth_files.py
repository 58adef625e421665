"""Depth maps as files: exact or within the stated step, never clipped, always with their scale (X14)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from depthlight.core.errors import DepthlightError, FileFormatError, InputError, LimitError, NonFiniteError
from depthlight.core.tolerances import tolerance
from depthlight.io.depth_files import DEPTH_SUFFIXES, depth_scale, read_depth, write_depth
from depthlight.io.pfm import write_pfm

FLOAT_SUFFIXES = [suffix for suffix in DEPTH_SUFFIXES if suffix != ".png"]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def maps(largest: float) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, SHAPES, elements=st.floats(float(np.float32(1e-4)), largest, width=32))


@pytest.mark.parametrize("suffix", FLOAT_SUFFIXES)
@quick
@given(depth=maps(float(np.float32(1e30))), data=st.data())
def test_float_formats_are_exact(suffix, depth, data, tmp_path):
    valid = data.draw(hnp.arrays(np.bool_, depth.shape))
    write_depth(tmp_path / f"depth{suffix}", depth, valid_HW=valid)
    read = read_depth(tmp_path / f"depth{suffix}")
    assert read.depth_HW.dtype == np.float32
    assert np.array_equal(read.valid_HW, valid)
    assert np.array_equal(read.depth_HW, np.where(valid, depth, 0))


@quick
@given(depth=maps(65535), data=st.data())
def test_png_is_within_half_a_step_and_keeps_validity(depth, data, tmp_path):
    valid = data.draw(hnp.arrays(np.bool_, depth.shape))
    path = tmp_path / "depth.png"
    write_depth(path, depth, valid_HW=valid)
    read = read_depth(path)
    scale = read.meta["encodings"]["png"]["scale"]
    assert np.array_equal(read.valid_HW, valid)
    error = np.abs(read.depth_HW.astype(np.float64) - depth)[valid]
    below = depth[valid] * scale < 0.5  # stored as one step: a valid pixel cannot be 0
    float32 = depth[valid] * 1e-7
    assert (error[~below] <= tolerance("depth.png.steps") / scale + float32[~below]).all()
    assert (error[below] <= 1 / scale).all()


def test_the_default_is_millimetres(tmp_path):
    write_depth(tmp_path / "d.png", np.array([[1.0, 0.0, 65.535, 2.0004]]))
    assert np.asarray(Image.open(tmp_path / "d.png")).tolist() == [[1000, 0, 65535, 2000]]
    sidecar = json.loads((tmp_path / "d.json").read_text())
    assert (sidecar["space"], sidecar["unit"], sidecar["encodings"]["png"]["scale"]) == ("depth", "m", 1000)


@pytest.mark.parametrize(
    ("largest", "scale"), [(65.535, 1000), (65.54, 500), (131.1, 200), (655.36, 50), (65535, 1), (65536, None)]
)
def test_the_scale_widens_only_as_far_as_needed(largest, scale, tmp_path):
    assert depth_scale(largest) == scale
    if scale is None:
        return
    path = tmp_path / "d.png"
    write_depth(path, np.array([[largest, 1.0]]))
    assert abs(read_depth(path).depth_HW[0, 0] - largest) <= 0.51 / scale
    path.with_suffix(".json").unlink()  # the PNG says it too: a lost sidecar must not scale the map
    assert abs(read_depth(path).depth_HW[0, 0] - largest) <= 0.51 / scale


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path):
    deep = np.array([[13.2, 1.0]])
    with pytest.raises(LimitError, match=r"50 % of the pixels .*up to 13\.2 m.*at most 13\.107 m"):
        write_depth(tmp_path / "d.png", deep, png_scale=5000)
    with pytest.raises(LimitError, match="at most 65535 m"):
        write_depth(tmp_path / "d.png", np.array([[65536.0]]))
    with pytest.raises(LimitError, match=r"at most 65\.535 m"):
        write_depth(tmp_path / "d.png", np.array([[66.0]]), sidecar=False)
    assert not list(tmp_path.iterdir())
    write_depth(tmp_path / "d.npy", np.array([[1e6]]))
    assert read_depth(tmp_path / "d.npy").depth_HW[0, 0] == 1e6


@pytest.mark.parametrize("suffix", DEPTH_SUFFIXES)
def test_bad_maps_are_refused_with_their_position(suffix, tmp_path):
    valid = np.ones((2, 3), bool)
    for value, error, words in (
        (np.nan, NonFiniteError, "non-finite depth"),
        (np.inf, NonFiniteError, "non-finite depth"),
        (-1.0, InputError, "negative depth"),
    ):
        depth = np.ones((2, 3))
        depth[1, 2] = value
        with pytest.raises(error, match=f"{words} .* at row 1, column 2"):
            write_depth(tmp_path / f"d{suffix}", depth, valid_HW=valid)
    with pytest.raises(InputError, match="0 m is marked valid"):
        write_depth(tmp_path / f"d{suffix}", np.zeros((2, 3)), valid_HW=valid)
    assert not list(tmp_path.iterdir())


def test_unknown_is_0_whatever_marked_it(tmp_path):
    for suffix in DEPTH_SUFFIXES:
        write_depth(tmp_path / f"d{suffix}", np.array([[2.0, np.nan, -np.inf, 0.0, -3.0]]))
        read = read_depth(tmp_path / f"d{suffix}")
        assert read.depth_HW.tolist() == [[2, 0, 0, 0, 0]]
        assert read.valid_HW.tolist() == [[True, False, False, False, False]]
    write_pfm(tmp_path / "other.pfm", np.array([[1.0, np.inf, np.nan]], np.float32))  # as others mark it
    assert read_depth(tmp_path / "other.pfm").valid_HW.tolist() == [[True, False, False]]


def test_a_16_bit_png_of_another_camera_is_millimetres(tmp_path):
    Image.fromarray(np.array([[1500, 0]], np.uint16)).save(tmp_path / "d.png")
    read = read_depth(tmp_path / "d.png")
    assert read.depth_HW.tolist() == [[1.5, 0.0]]


def test_what_is_not_depth_is_refused(tmp_path):
    Image.new("L", (3, 3)).save(tmp_path / "gray.png")
    write_pfm(tmp_path / "negative.pfm", np.array([[1.0, -2.0]], np.float32))
    write_depth(tmp_path / "other.npy", np.ones((2, 2)))
    sidecar = json.loads((tmp_path / "other.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**sidecar, "space": "disparity", "unit": "px"}))
    write_depth(tmp_path / "size.npy", np.ones((2, 2)))
    (tmp_path / "size.json").write_text(json.dumps({**sidecar, "width": 9}))
    write_depth(tmp_path / "scale.png", np.ones((2, 2)))
    word = PngInfo()
    word.add_text("depthlight:depth_scale", "abc")
    Image.fromarray(np.ones((2, 2), np.uint16)).save(tmp_path / "word.png", pnginfo=word)
    (tmp_path / "scale.json").write_text(json.dumps({**sidecar, "encodings": {"png": {"scale": 100}}}))
    for name, words in (
        ("gray.png", "mode L"),
        ("negative.pfm", "negative depth at row 0, column 1"),
        ("other.npy", "describes 'disparity' in 'px'; expected depth in m"),
        ("size.npy", "its sidecar says 9×2"),
        ("scale.png", "was written with scale 1000; expected 100"),
        ("word.png", "states a scale of 'abc'; expected a number"),
        ("none.exr", "is not a depth file"),
        ("none.npy", "does not exist"),
    ):
        with pytest.raises(DepthlightError, match=words):
            read_depth(tmp_path / name)
    with pytest.raises(InputError, match="unknown depth format"):
        write_depth(tmp_path / "d.exr", np.ones((2, 2)))
    for scale in (0, -5):
        with pytest.raises(InputError, match="steps per metre; expected 1 or more"):
            write_depth(tmp_path / "d.png", np.ones((2, 2)), png_scale=scale)
    with pytest.raises(FileFormatError, match="not a depth file"):
        read_depth(tmp_path / "d.txt")
