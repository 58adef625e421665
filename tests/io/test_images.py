"""I3 and I5: every kind of image comes in as documented, or is refused in one line."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from depthlight.core.errors import ConfigError, ImageError, InputError, LimitError, NonFiniteError
from depthlight.io.images import ImageLimits, as_image, as_mask, image_size, read_image

SIZES = [(1, 1), (1, 31), (31, 1), (1, 2), (2, 1), (3, 5), (31, 33)]  # height, width


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_lossless_formats_give_the_same_pixels_at_every_size(kind: str, size: tuple[int, int], tmp_path) -> None:
    rgb = pixels(*size)
    path = tmp_path / "image.dat"  # the suffix does not matter
    path.write_bytes(encoded(Image.fromarray(rgb), kind, **({"lossless": True} if kind == "WEBP" else {})))
    read = read_image(path)
    assert read.dtype == np.uint8 and read.flags.c_contiguous
    assert np.array_equal(read, rgb)
    assert image_size(path) == size


def test_jpeg_is_close() -> None:
    rgb = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    assert np.abs(read_image(encoded(Image.fromarray(rgb), "JPEG", quality=95)).astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_gray_has_three_equal_channels(kind: str) -> None:
    gray = pixels(5, 7, 1)[:, :, 0]
    assert np.array_equal(read_image(encoded(Image.fromarray(gray), kind)), np.stack([gray] * 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_dropped_not_composited(kind: str) -> None:
    rgba = pixels(5, 7, 4)
    rgba[0, 0] = (10, 20, 30, 0)
    assert np.array_equal(read_image(encoded(Image.fromarray(rgba), kind)), rgba[:, :, :3])
    gray_alpha = pixels(5, 7, 2)
    assert np.array_equal(read_image(encoded(Image.fromarray(gray_alpha), kind))[:, :, 1], gray_alpha[:, :, 0])


def test_palette_gives_its_colours_also_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    expected = [[[255, 0, 0], [0, 0, 255]]]
    assert read_image(encoded(image)).tolist() == expected
    assert read_image(encoded(image, transparency=bytes([0, 128]))).tolist() == expected


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    for kind in ("PNG", "TIFF", "BMP"):
        assert read_image(encoded(image, kind))[0, :, 0].tolist() == [255, 0]


DEEP = np.array([[0, 128, 129, 257, 65535, 32896]], np.uint16)
DEEP_AS_8_BIT = [0, 0, 1, 1, 255, 128]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_divided_by_257_and_rounded(kind: str) -> None:
    assert read_image(encoded(Image.fromarray(DEEP), kind))[0, :, 2].tolist() == DEEP_AS_8_BIT


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_is_divided_by_257_and_rounded(suffix: str, channels: int) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (4, 6, channels), np.uint16)
    deep[0, :, 0] = DEEP[0]
    bgr = deep[:, :, [2, 1, 0, 3][:channels]] if channels == 4 else deep[:, :, ::-1]
    data = cv2.imencode(suffix, np.ascontiguousarray(bgr))[1].tobytes()
    assert np.array_equal(read_image(data), np.rint(deep[:, :, :3] / 257).astype(np.uint8))


@pytest.mark.parametrize("maximum", [1, 100, 255, 1023, 65535])
def test_netpbm_is_scaled_by_its_maximum(maximum: int) -> None:
    values = np.linspace(0, maximum, 6).round().astype(">u2" if maximum > 255 else np.uint8)
    data = b"P6 # a comment\n2 1\n%d\n" % maximum + values.tobytes()
    assert read_image(data).ravel().tolist() == [int(v * 255 / maximum + 0.5) for v in values.tolist()]
    assert image_size(data) == (1, 2)


@pytest.mark.parametrize("maximum", [256, 510, 1023, 4095, 40000])
def test_deep_netpbm_is_rounded_once(maximum: int) -> None:
    values = np.arange(maximum + 1)
    data = b"P5\n%d 1\n%d\n" % (maximum + 1, maximum) + values.astype(">u2").tobytes()
    assert np.array_equal(read_image(data)[0, :, 0], (values * 510 + maximum) // (2 * maximum))


def test_netpbm_samples_above_the_maximum_are_refused() -> None:
    with pytest.raises(ImageError, match="a sample is 200"):
        read_image(b"P5\n1 1\n100\n" + bytes([200]))


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        red = read_image(encoded(image, kind))[4, 4]
        assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_float_tiff_holds_0_to_255_or_is_refused() -> None:
    def tiff(*values: float) -> bytes:
        return encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")

    assert read_image(tiff(0.0, 12.4, 254.6))[0, :, 0].tolist() == [0, 12, 255]
    with pytest.raises(InputError, match="0–1"):
        read_image(tiff(0.0, 0.5, 1.0))
    with pytest.raises(InputError, match="outside 0–255 at row 0, column 2"):
        read_image(tiff(0.0, 3.0, 256.0))
    with pytest.raises(NonFiniteError, match="NaN at row 0, column 1"):
        read_image(tiff(0.0, float("nan")))


@pytest.mark.parametrize("mode", ["I", "LAB"])
def test_other_pixel_kinds_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=r"32-bit integer|LAB"):
        read_image(encoded(Image.new(mode, (3, 3)), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """The stored picture is turned so that the upright one has red at the top left and blue at the top right."""
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32], upright[:16, 32:] = (255, 0, 0), (0, 0, 255)
    # how the camera stored it: the inverse of what the reader must do (EXIF 2.3, table of orientations)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    read = read_image(data)
    assert read.shape == upright.shape
    assert np.abs(read[8::16, 16::32].astype(int) - upright[8::16, 16::32]).max() < 40
    assert image_size(data) == (32, 64)
    assert np.array_equal(as_image(Image.open(io.BytesIO(data))), read)


def tiff_16_bit(rgb: np.ndarray, orientation: int) -> bytes:
    """A little-endian TIFF of one strip; no encoder at hand writes 16-bit colour with an orientation."""
    height, width, _ = rgb.shape
    data, count = rgb.astype("<u2").tobytes(), 10
    depths = 8 + 2 + 12 * count + 4
    pixels = depths + 6
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, depths), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, pixels), (274, 3, 1, orientation), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    header = struct.pack("<2sHIH", b"II", 42, 8, count) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return header + struct.pack("<I3H", 0, 16, 16, 16) + data


def png_16_bit(rgb: np.ndarray, orientation: int) -> bytes:
    plain = cv2.imencode(".png", np.ascontiguousarray(rgb[:, :, ::-1]))[1].tobytes()
    exif = b"eXIf" + struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 3, 1, orientation) + bytes(4)
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    return plain[:33] + chunk + plain[33:]  # behind the header


@pytest.mark.parametrize("make", [tiff_16_bit, png_16_bit])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once_to_16_bit_colour(make, orientation: int) -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (3, 5, 3), np.uint16)
    expected = {
        1: deep,
        2: deep[:, ::-1],
        3: deep[::-1, ::-1],
        4: deep[::-1],
        5: deep.transpose(1, 0, 2),
        6: np.rot90(deep, -1),
        7: np.rot90(deep, 2).transpose(1, 0, 2),
        8: np.rot90(deep, 1),
    }[orientation]
    data = make(deep, orientation)
    assert np.array_equal(read_image(data), np.rint(expected / 257).astype(np.uint8))
    assert image_size(data) == expected.shape[:2]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb = pixels(4, 6)
    assert np.array_equal(read_image(encoded(Image.fromarray(rgb), exif=exif)), rgb)


def test_the_first_of_several_frames() -> None:
    first, second = Image.fromarray(pixels(4, 4, seed=1)), Image.fromarray(pixels(4, 4, seed=2))
    for kind, options in (("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(first, kind, save_all=True, append_images=[second], **options)
        assert np.array_equal(read_image(data), np.asarray(first))


# Masks


def test_a_mask_is_tested_at_the_images_own_depth(tmp_path) -> None:
    deep = np.zeros((2, 4), np.uint16)
    deep[0] = 0, 1, 128, 65535
    expected = [[False, True, True, True], [False] * 4]
    colour = np.dstack([deep, np.zeros_like(deep), np.zeros_like(deep)])
    alpha = np.dstack([colour, np.full_like(deep, 65535)])
    path = tmp_path / "mask.png"
    path.write_bytes(encoded(Image.fromarray(deep)))
    files = [cv2.imencode(suffix, image)[1].tobytes() for suffix in (".png", ".tiff") for image in (colour, alpha)]
    netpbm = b"P5\n4 2\n1000\n" + np.minimum(deep, 1000).astype(">u2").tobytes()
    arrays = [deep, deep[:, :, None], colour, alpha, np.minimum(deep, 255) * 0.9, deep > 0]
    for source in (path, str(path), Image.open(path), *files, tiff_16_bit(colour, 1), netpbm, *arrays):
        assert as_mask(source).tolist() == expected
    assert as_mask(encoded(Image.fromarray(deep > 0))).tolist() == expected
    with pytest.raises(InputError, match="mask has type int64"):
        as_mask(np.zeros((2, 2), np.int64))


# Files that are not what they should be


def test_missing_folder_empty_and_foreign_files(tmp_path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    for name, message in (
        ("absent.png", "does not exist"),
        (".", "is a folder"),
        ("empty.png", "0 bytes"),
        ("text.png", "not an image we read; expected one of PNG"),
        ("nul\0.png", "cannot open"),
        ("text.png/deeper.png", "cannot open"),
    ):
        with pytest.raises(ImageError, match=message) as caught:
            read_image(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_without_waiting(tmp_path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_other_formats_are_refused_by_what_they_are() -> None:
    gif = encoded(Image.fromarray(pixels(4, 4)).convert("P"), "GIF")
    with pytest.raises(ImageError, match="not an image we read"):
        read_image(gif)
    with pytest.raises(ImageError, match="is a BMP file; expected one of PNG, JPEG"):
        read_image(encoded(Image.fromarray(pixels(4, 4)), "BMP"), limits=ImageLimits(formats=("PNG", "JPEG")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(pixels(64, 64)), kind)
    with pytest.raises(ImageError):
        read_image(data[: int(len(data) * share)])


def test_every_flipped_byte_of_a_png_is_noticed_or_harmless() -> None:
    """PNG has checksums; a flipped bit in a chunk must never give other pixels silently."""
    rgb = pixels(6, 6)
    data = encoded(Image.fromarray(rgb))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        try:
            read = read_image(bytes(damaged))
        except (ImageError, LimitError):
            continue
        assert np.array_equal(read, rgb), position


def test_limits() -> None:
    data = encoded(Image.fromarray(pixels(10, 12)))
    assert read_image(data, limits=ImageLimits(max_pixels=120, max_bytes=len(data))).shape == (10, 12, 3)
    with pytest.raises(LimitError, match=r"12×10 \(120 pixels\); expected at most 119"):
        read_image(data, limits=ImageLimits(max_pixels=119))
    with pytest.raises(LimitError, match="bytes"):
        read_image(data, limits=ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(LimitError):
        as_image(Image.fromarray(pixels(10, 12)), limits=ImageLimits(max_pixels=119))
    with pytest.raises(ConfigError):
        ImageLimits(max_pixels=0)
    with pytest.raises(ConfigError, match="GIF"):
        ImageLimits(formats=("PNG", "GIF"))


def test_a_limit_of_pillow_does_not_leak_in_nor_ours_out(monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(encoded(Image.fromarray(pixels(10, 12)))).shape == (10, 12, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_the_header_is_enough_for_the_size(monkeypatch) -> None:
    data = encoded(Image.fromarray(pixels(9, 7)), exif=Image.Exif())
    calls: list[object] = []
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: calls.append(self))
    assert image_size(data) == (9, 7)
    assert image_size(data[:100]) == (9, 7)
    assert not calls


# Arrays


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_arrays_of_every_layout(size: tuple[int, int]) -> None:
    rgb = pixels(*size)
    rgba = np.dstack([rgb, np.zeros(size, np.uint8)])
    assert np.array_equal(as_image(rgb), rgb)
    assert np.array_equal(as_image(rgba), rgb)
    for gray in (rgb[:, :, 0], rgb[:, :, :1]):
        assert np.array_equal(as_image(gray), np.stack([rgb[:, :, 0]] * 3, axis=2))


def test_arrays_of_every_type() -> None:
    rgb = pixels(4, 5)
    for other in (rgb.astype(np.float16), rgb.astype(np.float32), rgb.astype(np.float64), rgb.astype(np.uint16) * 257):
        assert np.array_equal(as_image(other), rgb)
    assert as_image(np.array([[True, False]]))[0, :, 1].tolist() == [255, 0]
    assert not as_image(np.zeros((2, 2))).any()


def test_non_contiguous_arrays() -> None:
    rgb = pixels(8, 10)
    for view in (rgb[::2, ::-1], rgb[:, :, ::-1], np.asfortranarray(rgb), rgb.transpose(1, 0, 2), rgb[:, 3:4]):
        read = as_image(view)
        assert read.flags.c_contiguous and np.array_equal(read, view)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 4, 3), np.uint8), "is empty"),
        (np.zeros((4, 0), np.uint8), "is empty"),
        (np.zeros((3, 8, 9), np.uint8), "channel-first"),
        (np.zeros((8, 9, 2), np.uint8), "expected H×W"),
        (np.zeros((8, 9, 5), np.uint8), "expected H×W"),
        (np.zeros(9, np.uint8), "expected H×W"),
        (np.zeros((), np.uint8), "expected H×W"),
        (np.zeros((1, 8, 9, 3), np.uint8), "expected H×W"),
        (np.zeros((8, 9), np.int64), "type int64"),
        (np.zeros((8, 9), np.complex64), "type complex64"),
        (np.full((8, 9), None), "type object"),
        (np.full((8, 9), -1.0), "outside 0–255"),
        (np.full((8, 9), 0.7), "Multiply it by 255"),
        (["a", "b"], "is a list"),
        (None, "is a NoneType"),
    ],
)
def test_wrong_arrays_are_refused_by_name(array: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        as_image(array, name="right")  # type: ignore[arg-type]
    assert str(caught.value).startswith("right ")


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_non_finite_values_are_refused_with_their_position(value: float, word: str) -> None:
    for shape in ((10, 12), (10, 12, 1), (10, 12, 3)):
        array = np.full(shape, 9.0, np.float32)
        array[3, 7] = array[8, 1] = value
        with pytest.raises(NonFiniteError, match=f"left has {word} at row 3, column 7") as caught:
            as_image(array, name="left")
        assert caught.value.details == {"row": 3, "column": 7}


def test_paths_bytes_and_pillow_images_agree(tmp_path) -> None:
    rgb = pixels(5, 6)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(rgb)))
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), Image.open(path), rgb):
        assert np.array_equal(as_image(source), rgb)
