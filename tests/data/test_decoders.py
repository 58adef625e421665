"""Decoders on fixed bytes: every file here was written out by hand from its documented layout, not by our writers."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from depthlight.core.errors import DepthlightError, FileFormatError, ImageError
from depthlight.data import decoders


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by its specification: ``rows`` are the raw samples, big-endian, without filter bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    step = len(rows) // height
    filtered = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(height))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")


GRAY, RGB, RGBA = 0, 2, 6
# 2x2, 16-bit gray: 0, 256, 3200, 65535
FIXED_PNG16 = png(2, 2, 16, GRAY, bytes.fromhex("0000 0100 0c80 ffff"))


def npy(shape: tuple[int, ...], kind: str, body: bytes) -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


@pytest.mark.parametrize(("scale", "expected"), [(256, [0, 1, 12.5, 255.99609]), (32, [0, 8, 100, 2047.96875])])
def test_png16(scale, expected):
    truth = decoders.decode_png16(FIXED_PNG16, scale)
    np.testing.assert_allclose(truth.disparity_HW.ravel(), expected, rtol=1e-6)
    assert truth.valid_HW.ravel().tolist() == [False, True, True, True]
    assert truth.disparity_HW.dtype == np.float32


def test_pfm_is_bottom_row_first_and_infinity_is_unknown():
    body = struct.pack("<4f", 3.0, 4.0, 1.5, float("inf"))
    truth = decoders.decode_pfm(b"Pf\n2 2\n-1.0\n" + body)
    np.testing.assert_array_equal(truth.disparity_HW, [[1.5, 0.0], [3.0, 4.0]])
    np.testing.assert_array_equal(truth.valid_HW, [[True, False], [True, True]])


def test_pfm_big_endian_and_sign():
    data = b"Pf\n2 1\n1.0\n" + struct.pack(">2f", -2.5, -7.0)
    np.testing.assert_array_equal(decoders.decode_pfm(data, signed=True).disparity_HW, [[2.5, 7.0]])
    with pytest.raises(FileFormatError, match="negative disparity at row 0, column 0"):
        decoders.decode_pfm(data)


def test_colour_pfm_is_refused():
    with pytest.raises(FileFormatError, match="three channels"):
        decoders.decode_pfm(b"PF\n1 1\n-1.0\n" + struct.pack("<3f", 1, 2, 3))


def test_npy_disparity():
    body = struct.pack("<4f", 0.0, 10.25, float("nan"), 99.0)
    truth = decoders.decode_npy(npy((2, 2), "<f4", body))
    np.testing.assert_array_equal(truth.disparity_HW, [[0, 10.25], [0, 99]])
    np.testing.assert_array_equal(truth.valid_HW, [[False, True], [False, True]])


def test_npy_with_objects_is_refused():
    stream = io.BytesIO()
    np.save(stream, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(FileFormatError):
        decoders.decode_npy(stream.getvalue())


def test_gray8():
    truth = decoders.decode_gray8(png(3, 1, 8, GRAY, bytes([0, 60, 255])), 3.0)
    np.testing.assert_allclose(truth.disparity_HW, [[0, 20, 85]])
    assert truth.valid_HW.tolist() == [[False, True, True]]
    assert decoders.decode_gray8(b"P5 2 1 255\n\x08\x10", 8.0).disparity_HW.tolist() == [[1.0, 2.0]]


def test_gray8_refuses_colour():
    with pytest.raises(FileFormatError, match="colour"):
        decoders.decode_gray8(png(1, 1, 8, RGB, bytes([1, 2, 3])), 1.0)


def test_rgb_packed_counts_in_255():
    truth = decoders.decode_rgb_packed(png(3, 1, 8, RGB, bytes([0, 0, 0, 0, 1, 0, 2, 3, 4])))
    np.testing.assert_allclose(truth.disparity_HW, [[0, 0.255, (2 * 65025 + 3 * 255 + 4) / 1000]], rtol=1e-6)
    assert truth.valid_HW.tolist() == [[False, True, True]]


def test_rgb_packed_refuses_alpha_and_16_bit():
    with pytest.raises(FileFormatError, match="8-bit RGB PNG"):
        decoders.decode_rgb_packed(png(1, 1, 8, RGBA, bytes(4)))
    with pytest.raises(FileFormatError, match="8-bit RGB PNG"):
        decoders.decode_rgb_packed(png(1, 1, 16, RGB, bytes(6)))


def test_depth_png16_unknown_and_clipped():
    truth = decoders.decode_depth_png16(FIXED_PNG16, 3200.0)
    np.testing.assert_allclose(truth.disparity_HW.ravel(), [0, 12.5, 1.0, 0])
    assert truth.valid_HW.ravel().tolist() == [False, True, True, False]


def test_depth_npy():
    body = struct.pack("<4f", 1.0, 10000.0, 0.0, float("inf"))
    truth = decoders.decode_depth_npy(npy((1, 4), "<f4", body), 80.0)
    np.testing.assert_allclose(truth.disparity_HW, [[80, 0.008, 0, 0]])
    assert truth.valid_HW.tolist() == [[True, True, False, False]]


def test_depth_rgba_is_bgra_little_endian():
    b, g, r, a = struct.pack("<f", 2.5)
    truth = decoders.decode_depth_rgba(png(1, 1, 8, RGBA, bytes([r, g, b, a])), 80.0)
    assert truth.disparity_HW.item() == 32.0 and truth.valid_HW.item()


def test_depth_half():
    rows = b"".join(struct.pack(">H", struct.unpack("<H", struct.pack("<e", d))[0]) for d in (0.0, 0.5, 4.0))
    truth = decoders.decode_depth_half(png(3, 1, 16, GRAY, rows), 100.0)
    np.testing.assert_allclose(truth.disparity_HW, [[0, 200, 25]])
    assert truth.valid_HW.tolist() == [[False, True, True]]


DECODERS = {
    "png16": lambda source: decoders.decode_png16(source, 256),
    "gray8": lambda source: decoders.decode_gray8(source, 4),
    "rgb": decoders.decode_rgb_packed,
    "pfm": decoders.decode_pfm,
    "npy": decoders.decode_npy,
    "depth16": lambda source: decoders.decode_depth_png16(source, 1.0),
    "depthnpy": lambda source: decoders.decode_depth_npy(source, 1.0),
    "rgba": lambda source: decoders.decode_depth_rgba(source, 1.0),
    "half": lambda source: decoders.decode_depth_half(source, 1.0),
}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("content", [b"", b"not an image", FIXED_PNG16[:-20], b"Pf\n2 2\n-1\nabc", b"\x93NUMPY\x01"])
def test_damaged_files_name_their_path(name, content, tmp_path):
    path = tmp_path / "broken.bin"
    path.write_bytes(content)
    with pytest.raises(DepthlightError, match=r"broken\.bin"):
        DECODERS[name](path)


@pytest.mark.parametrize("name", DECODERS)
def test_missing_files_name_their_path(name, tmp_path):
    with pytest.raises(ImageError, match=r"absent\.bin does not exist"):
        DECODERS[name](tmp_path / "absent.bin")


def test_flipped_bit_in_a_packed_png_is_noticed(tmp_path):
    data = bytearray(png(4, 4, 8, RGB, bytes(range(48))))
    data[-20] ^= 1
    path = tmp_path / "bit.png"
    path.write_bytes(data)
    with pytest.raises(DepthlightError, match=r"bit\.png"):
        decoders.decode_rgb_packed(path)
