"""X14: each format round-trips within its quantum; what does not fit is an error or a declared wider scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from depthlight.core.errors import (
    FileFormatError,
    ImageError,
    InputError,
    LimitError,
    NonFiniteError,
    OutputError,
)
from depthlight.io.disparity_files import (
    DISPARITY_SUFFIXES,
    decode_kitti_png,
    png_scale,
    read_disparity,
    rounded_to_png,
    write_disparity,
)
from depthlight.io.float_maps import read_npy
from depthlight.io.images import ImageLimits
from depthlight.io.pfm import read_pfm, write_pfm

FLOAT_SUFFIXES = [suffix for suffix in DISPARITY_SUFFIXES if suffix != ".png"]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def a_map(largest: float = 200.0) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, largest, (5, 7)).astype(np.float32)


def maps(largest: float) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, SHAPES, elements=st.floats(0, largest, width=32))


quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(disparity=maps(60_000.0), below=st.sampled_from([None, 0.0, 7.3, 300.0]))
def test_what_a_png_reads_back_as_is_known_beforehand(disparity: np.ndarray, below: float | None, tmp_path) -> None:
    signed = below is not None
    if below is not None:
        disparity = disparity - np.float32(below)
    rounded = rounded_to_png(disparity, signed=signed)
    path = tmp_path / "d.png"
    for given_map in (disparity, rounded):  # and that stays what it is
        write_disparity(path, given_map, signed=signed)
        assert np.array_equal(read_disparity(path).disparity_HW, rounded)


@pytest.mark.parametrize("suffix", FLOAT_SUFFIXES)
@quick
@given(disparity=maps(float(np.float32(1e30))), data=st.data())
def test_float_formats_are_exact(suffix: str, disparity: np.ndarray, data: st.DataObject, tmp_path) -> None:
    valid = data.draw(hnp.arrays(np.bool_, disparity.shape))
    path = tmp_path / f"disparity{suffix}"
    write_disparity(path, disparity, valid_HW=valid)
    read = read_disparity(path)
    assert read.disparity_HW.dtype == np.float32
    assert np.array_equal(read.valid_HW, valid)
    assert np.array_equal(read.disparity_HW, np.where(valid, disparity, 0))


@quick
@given(disparity=maps(65535), data=st.data())
def test_png_is_within_half_a_step_and_keeps_validity(disparity: np.ndarray, data: st.DataObject, tmp_path) -> None:
    valid = data.draw(hnp.arrays(np.bool_, disparity.shape))
    path = tmp_path / "disparity.png"
    write_disparity(path, disparity, valid_HW=valid)
    read = read_disparity(path)
    scale = read.meta["encodings"]["png"]["scale"]
    assert np.array_equal(read.valid_HW, valid)
    assert (read.disparity_HW[~valid] == 0).all()
    error = np.abs(read.disparity_HW - disparity)[valid]
    below = disparity[valid] * scale < 0.5  # stored as one step: a valid pixel cannot be 0
    assert (error[~below] <= 0.5 / scale).all() and (error[below] <= 1 / scale).all()
    largest = disparity[valid].max(initial=0)
    assert scale == 256 or round(float(largest) * scale * 2) > 65535, "a finer scale would have fitted"


@quick
@given(stored=hnp.arrays(np.uint16, SHAPES))
def test_kitti_png_round_trips_bit_for_bit(stored: np.ndarray, tmp_path) -> None:
    Image.fromarray(stored).save(tmp_path / "kitti.png")
    read = read_disparity(tmp_path / "kitti.png")
    assert np.array_equal(read.disparity_HW, stored / np.float32(256))
    assert np.array_equal(read.valid_HW, stored > 0)
    write_disparity(tmp_path / "again.png", read.disparity_HW, valid_HW=read.valid_HW)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again.png")), stored)


def test_the_stored_values_are_kittis(tmp_path) -> None:
    path = tmp_path / "d.png"
    write_disparity(
        path, np.array([[1.0, 100.5, 255.99, 0.0]], np.float64), valid_HW=np.array([[True, True, True, False]])
    )
    assert np.asarray(Image.open(path)).tolist() == [[256, 25728, 65533, 0]]


@pytest.mark.parametrize(("largest", "scale"), [(255.99, 256), (255.999, 128), (511.9, 128), (512.1, 64), (65535.0, 1)])
def test_the_scale_widens_only_as_far_as_needed(largest: float, scale: int, tmp_path) -> None:
    path = tmp_path / "d.png"
    assert png_scale(largest) == scale
    write_disparity(path, np.array([[largest, 1.0]]))
    assert json.loads(path.with_suffix(".json").read_text())["encodings"]["png"]["scale"] == scale
    assert abs(read_disparity(path).disparity_HW[0, 0] - largest) <= 0.51 / scale
    path.with_suffix(".json").unlink()  # the PNG says it too: a lost sidecar must not scale the map
    assert abs(read_disparity(path).disparity_HW[0, 0] - largest) <= 0.51 / scale


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path) -> None:
    with pytest.raises(LimitError, match=r"255\.99 px without a sidecar"):
        write_disparity(tmp_path / "d.png", np.array([[256.0]]), sidecar=False)
    with pytest.raises(LimitError, match="at most 65535 px"):
        write_disparity(tmp_path / "d.png", np.array([[65536.0]]))
    assert not list(tmp_path.iterdir())
    write_disparity(tmp_path / "d.png", np.array([[255.0]]), sidecar=False)
    write_disparity(tmp_path / "d.npy", np.array([[65536.0]]), sidecar=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npy", "d.png"]


def test_a_large_value_at_an_invalid_pixel_does_not_matter(tmp_path) -> None:
    disparity = np.array([[3.0, np.inf, np.nan, -5.0, 1e9]])
    valid = np.array([[True, False, False, False, False]])
    for suffix in DISPARITY_SUFFIXES:
        write_disparity(tmp_path / f"d{suffix}", disparity, valid_HW=valid, sidecar=False)
        read = read_disparity(tmp_path / f"d{suffix}")
        assert read.disparity_HW.tolist() == [[3.0, 0, 0, 0, 0]] and np.array_equal(read.valid_HW, valid)


@pytest.mark.parametrize("suffix", DISPARITY_SUFFIXES)
def test_bad_maps_are_refused_with_their_position(suffix: str, tmp_path) -> None:
    for value, error, words in (
        (np.nan, NonFiniteError, "non-finite disparity"),
        (np.inf, NonFiniteError, "non-finite disparity"),
        (1e39, NonFiniteError, "non-finite disparity"),  # beyond float32
        (-0.5, InputError, "negative disparity"),
    ):
        disparity = a_map().astype(np.float64)
        disparity[3, 2] = value
        with pytest.raises(error, match=f"{words} .* at row 3, column 2"):
            write_disparity(tmp_path / f"d{suffix}", disparity)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "disparity",
    [np.zeros((2, 2, 1), np.float32), np.zeros((0, 2), np.float32), np.zeros(4, np.float32), np.zeros((2, 2), int)],
)
def test_wrong_arrays_are_refused(disparity: np.ndarray, tmp_path) -> None:
    with pytest.raises(InputError, match=r"expected float of shape \(H, W\)"):
        write_disparity(tmp_path / "d.npy", disparity)


def test_wrong_arguments_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="valid is"):
        write_disparity(tmp_path / "d.npy", a_map(), valid_HW=np.ones((5, 6), bool))
    with pytest.raises(InputError, match="unknown disparity format"):
        write_disparity(tmp_path / "d.exr", a_map())
    with pytest.raises(InputError, match="'width'"):
        write_disparity(tmp_path / "d.npy", a_map(), meta={"width": 3})
    for value in (object(), float("nan")):
        with pytest.raises(InputError, match="JSON"):
            write_disparity(tmp_path / "d.npy", a_map(), meta={"x": value})
    with pytest.raises(OutputError):
        write_disparity("/proc/none/d.npy", a_map())
    assert not list(tmp_path.iterdir())


# The sidecar


def test_all_formats_of_one_map_share_one_sidecar(tmp_path) -> None:
    texts = set()
    for suffix in DISPARITY_SUFFIXES:
        write_disparity(tmp_path / f"d{suffix}", a_map(300), meta={"model": "light.synth-v1", "n": [1, 2]})
        texts.add((tmp_path / "d.json").read_text())
    assert len(texts) == 1
    meta = json.loads(texts.pop())
    assert (meta["space"], meta["unit"], meta["width"], meta["height"]) == ("disparity", "px", 7, 5)
    assert (meta["model"], meta["n"]) == ("light.synth-v1", [1, 2])
    for suffix in DISPARITY_SUFFIXES:
        read = read_disparity(tmp_path / f"d{suffix}")
        assert read.meta == meta
        assert np.abs(read.disparity_HW - a_map(300)).max() <= 1 / 256


def test_a_sidecar_of_another_map_is_noticed(tmp_path) -> None:
    write_disparity(tmp_path / "d.png", a_map(300))
    sidecar = json.loads((tmp_path / "d.json").read_text())
    for change, message in (
        ({"width": 8}, "its sidecar says 8×5"),
        ({"encodings": {"png": {"scale": 256}}}, "was written with scale 128; expected 256"),
        ({"encodings": {"png": {"scale": 0}}}, "scale of 0"),
        ({"encodings": {"png": {"scale": "256"}}}, "scale of '256'"),
        ({"space": "depth", "unit": "m"}, "describes 'depth' in 'm'"),
    ):
        (tmp_path / "d.json").write_text(json.dumps({**sidecar, **change}))
        with pytest.raises(FileFormatError, match=message):
            read_disparity(tmp_path / "d.png")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff\xfe", '{"a": '])
def test_damaged_sidecars_are_refused(text: str, tmp_path) -> None:
    write_disparity(tmp_path / "d.npy", a_map())
    (tmp_path / "d.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileFormatError, match="not valid JSON"):
        read_disparity(tmp_path / "d.npy")
    (tmp_path / "d.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(FileFormatError, match="too large"):
        read_disparity(tmp_path / "d.npy")


def test_someone_elses_json_is_left_alone(tmp_path) -> None:
    write_disparity(tmp_path / "d.npy", a_map(), sidecar=False)
    (tmp_path / "d.json").write_text('{"camera": "left", "width": 99}')
    assert read_disparity(tmp_path / "d.npy").meta == {}


# Files by others


def test_pngs_that_are_not_16_bit_gray_are_refused(tmp_path) -> None:
    path = tmp_path / "d.png"
    for image, message in (
        (Image.new("L", (3, 3)), "mode L; expected a 16-bit gray PNG"),
        (Image.new("RGB", (3, 3)), "mode RGB"),
    ):
        image.save(path)
        with pytest.raises(FileFormatError, match=message):
            read_disparity(path)
    Image.new("L", (3, 3)).save(path, format="BMP")
    with pytest.raises(FileFormatError, match="not a PNG"):
        read_disparity(path)
    with pytest.raises(ImageError, match="does not exist"):
        read_disparity(tmp_path / "none.png")
    with pytest.raises(FileFormatError, match="not a disparity file"):
        read_disparity(tmp_path / "d.txt")


def test_decode_kitti_png_from_bytes_and_with_another_scale(tmp_path) -> None:
    Image.fromarray(np.array([[0, 512]], np.uint16)).save(tmp_path / "d.png")
    for source in (tmp_path / "d.png", (tmp_path / "d.png").read_bytes()):
        disparity, valid = decode_kitti_png(source)
        assert (disparity.tolist(), valid.tolist()) == ([[0.0, 2.0]], [[False, True]])
        assert decode_kitti_png(source, scale=64)[0].tolist() == [[0.0, 8.0]]


def test_negative_disparities_and_colour_are_not_maps(tmp_path) -> None:
    values = a_map()
    values[1, 4] = -2
    write_pfm(tmp_path / "d.pfm", values)
    with pytest.raises(FileFormatError, match="negative disparity at row 1, column 4"):
        read_disparity(tmp_path / "d.pfm")
    write_pfm(tmp_path / "c.pfm", np.zeros((2, 2, 3), np.float32))
    with pytest.raises(FileFormatError, match="3 channels"):
        read_disparity(tmp_path / "c.pfm")


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 5), (3, 4), (3, 4, 3)])
def test_pfm_agrees_with_opencv(shape: tuple[int, ...], tmp_path) -> None:
    """An independent implementation, both ways; OpenCV keeps colour as BGR."""
    import cv2

    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    bgr = values[:, :, ::-1] if values.ndim == 3 else values
    write_pfm(tmp_path / "ours.pfm", values)
    assert np.array_equal(cv2.imread(str(tmp_path / "ours.pfm"), cv2.IMREAD_UNCHANGED), bgr)
    cv2.imwrite(str(tmp_path / "theirs.pfm"), np.ascontiguousarray(bgr))
    assert np.array_equal(read_pfm(tmp_path / "theirs.pfm"), values)


def test_pfm_keeps_infinity_and_reads_big_endian_and_ignores_the_size_of_the_scale() -> None:
    rows = np.array([[1.0, np.inf], [3.0, 4.0]], np.float32)
    for header, kind in ((b"Pf\n2 2\n-0.0039\n", "<f4"), (b"Pf 2 2 1.0\n", ">f4"), (b"Pf\r\n2 2\r\n1e0\r\n", ">f4")):
        assert np.array_equal(read_pfm(header + rows[::-1].astype(kind).tobytes()), rows)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Pf\n2 1\n-1.0\n" + bytes(7), "7 bytes of values; expected 8"),
        (b"Pf\n2 1\n-1.0\n" + bytes(9), "9 bytes of values"),
        (b"Pf\n2 1\n0\n" + bytes(8), "scale of '0'"),
        (b"Pf\n2 1\n1e999\n" + bytes(8), "scale of '1e999'"),
        (b"Pf\n2 1\n--\n" + bytes(8), "scale of '--'"),
        (b"P7\n2 1\n-1.0\n" + bytes(8), "not a valid PFM"),
        (b"Pf\n-2 1\n-1.0\n" + bytes(8), "not a valid PFM"),
    ],
)
def test_bad_pfms_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_pfm(data)


def test_pfm_writer_takes_float32_only(tmp_path) -> None:
    for values in (np.zeros((2, 2)), np.zeros((2, 2, 2), np.float32), np.zeros((0, 2), np.float32)):
        with pytest.raises(InputError, match="PFM"):
            write_pfm(tmp_path / "d.pfm", values)


def npy_bytes(array: np.ndarray, tmp_path: Path) -> bytes:
    np.save(tmp_path / "x.npy", array)
    return (tmp_path / "x.npy").read_bytes()


def test_npy_of_every_float_kind_and_order(tmp_path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for kind in ("<f2", "<f4", ">f4", "<f8", ">f8"):
        for order in ("C", "F"):
            read = read_npy(npy_bytes(np.array(values, kind, order=order), tmp_path))
            assert read.dtype == np.float32 and np.array_equal(read, values)


def test_npy_of_another_kind_or_length_is_refused(tmp_path) -> None:
    good = npy_bytes(np.zeros((2, 3), np.float32), tmp_path)
    for data, message in (
        (npy_bytes(np.zeros((2, 3), int), tmp_path), "holds int64"),
        (npy_bytes(np.zeros(3, np.float32), tmp_path), "of shape"),
        (npy_bytes(np.full((1, 1), 1e300), tmp_path), "beyond float32"),
        (good[:-1], "23 bytes of values; expected 24"),
        (good + b"x", "25 bytes"),
        (good[:20], "not a valid .npy"),
        (b"nonsense", "not a valid .npy"),
    ):
        with pytest.raises(FileFormatError, match=message):
            read_npy(data)


def test_tiff_of_another_kind_is_refused(tmp_path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "d.tiff")
    with pytest.raises(FileFormatError, match="not a float TIFF"):
        read_disparity(tmp_path / "d.tiff")


@pytest.mark.parametrize("suffix", DISPARITY_SUFFIXES)
def test_limits_hold_for_maps(suffix: str, tmp_path) -> None:
    path = tmp_path / f"d{suffix}"
    write_disparity(path, a_map())
    with pytest.raises(LimitError, match="7×5"):
        read_disparity(path, limits=ImageLimits(max_pixels=34))
    with pytest.raises(LimitError, match="bytes"):
        read_disparity(path, limits=ImageLimits(max_bytes=50))


def test_a_failed_write_leaves_the_old_map_alone(tmp_path, monkeypatch) -> None:
    path = tmp_path / "d.npy"
    write_disparity(path, a_map())
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_disparity(path, a_map() + 1)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.json", "d.npy"]


@pytest.mark.parametrize("suffix", [".png", ".pfm", ".tiff", ".npy"])
def test_signed_disparities_come_back(tmp_path, suffix) -> None:
    disparity = np.random.default_rng(0).uniform(-31.9, 150, (7, 9)).astype(np.float32)
    valid = np.ones((7, 9), bool)
    valid[2, 3] = False
    disparity[2, 3] = np.nan
    path = tmp_path / f"disparity{suffix}"
    write_disparity(path, disparity, valid_HW=valid, signed=True)
    found = read_disparity(path)
    np.testing.assert_array_equal(found.valid_HW, valid)
    assert found.meta["signed"] is True
    quantum = 0.5 / 256 if suffix == ".png" else 0.0
    assert np.abs(found.disparity_HW - disparity)[valid].max() <= quantum + 1e-5 * (suffix == ".png")
    assert found.disparity_HW[2, 3] == 0
    if suffix == ".png":
        assert found.meta["encodings"]["png"]["offset"] == -33
        path.with_suffix(".json").unlink()  # the PNG says it by itself
        assert np.abs(read_disparity(path).disparity_HW - disparity)[valid].max() <= quantum + 1e-5


def test_signed_disparities_are_never_taken_for_granted(tmp_path) -> None:
    disparity = np.array([[-3.0, 4.0]], np.float32)
    with pytest.raises(InputError, match="need a sidecar"):
        write_disparity(tmp_path / "d.png", disparity, signed=True, sidecar=False)
    with pytest.raises(InputError, match="negative disparity"):
        write_disparity(tmp_path / "d.png", disparity)
    write_disparity(tmp_path / "d.npy", disparity, signed=True)
    (tmp_path / "d.json").unlink()
    with pytest.raises(FileFormatError, match="negative disparity at row 0, column 0"):
        read_disparity(tmp_path / "d.npy")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"offset": -99}, "offset"),
        ({"offset": "x"}, "offset of 'x'"),
        ({"signed": False}, "in a signed map"),
    ],
)
def test_an_offset_that_contradicts_is_refused(tmp_path, change, says) -> None:
    write_disparity(tmp_path / "d.png", np.array([[-3.0, 4.0]], np.float32), signed=True)
    text = json.loads((tmp_path / "d.json").read_text())
    if "signed" in change:
        text |= change
    else:
        text["encodings"]["png"] |= change
    (tmp_path / "d.json").write_text(json.dumps(text))
    with pytest.raises(FileFormatError, match=says):
        read_disparity(tmp_path / "d.png")
