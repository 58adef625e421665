"""I1 and I2: mutated files and bombs. Each ends in an image or in one of our errors, early and without much memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from depthlight.core.errors import DepthlightError, LimitError
from depthlight.io.disparity_files import read_disparity
from depthlight.io.images import image_size, read_image

WORKER = Path(__file__).with_name("mutation_worker.py")


def run_mutations(count: int, seed: int, tmp_path: Path, timeout: float) -> dict[str, float]:
    """In a process of its own: a crash is seen, memory is its own, and a hang ends at the timeout."""
    done = subprocess.run(
        [sys.executable, str(WORKER), str(count), str(seed), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_mutated_files_never_crash_hang_or_raise_anything_else(tmp_path, record_property) -> None:
    report = run_mutations(1000, 1, tmp_path, timeout=300)
    assert report["files"] == 1000
    assert report["refused"] > 400, "the mutations do not bite"
    assert report["peak_mib"] < 1536
    record_property("i1_refused", report["refused"])
    record_property("i1_peak_mib", report["peak_mib"])


@pytest.mark.slow
def test_mutated_files_many(tmp_path) -> None:
    report = run_mutations(20_000, 2, tmp_path, timeout=1800)
    assert report["files"] == 20_000
    assert report["peak_mib"] < 1536


# Bombs


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff(width: int, height: int, tile: tuple[int, int] | None = None) -> bytes:
    where = (324, 325) if tile else (273, 279)
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (277, 1), (where[0], 8), (where[1], 100)]
    if tile:
        tags += [(322, tile[0]), (323, tile[1])]
    else:
        tags += [(278, height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(104)


def webp(chunk: bytes, body: bytes) -> bytes:
    payload = b"WEBP" + chunk + struct.pack("<I", len(body) + 64) + body + bytes(64)
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(64)


def npy(shape: str, kind: str = "<f4") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


VP8X = struct.pack("<I", 0) + (16383).to_bytes(3, "little") * 2
VP8L = b"\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
VP8 = bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383)

IMAGE_BOMBS: dict[str, bytes] = {
    "png just above": png(10_001, 10_000),
    "png square": png(50_000, 50_000),
    "png wide": png(2**31 - 1, 1),
    "png high": png(1, 2**31 - 1),
    "png absurd": png(2**31 - 1, 2**31 - 1),
    "png 1-bit": png(100_000, 100_000, 1, 0),
    "png palette": png(60_000, 60_000, 8, 3),
    "png 16-bit": png(40_000, 40_000, 16, 6),
    "jpeg largest": jpeg(65_535, 65_535),
    "jpeg wide": jpeg(65_500, 1_600),
    "jpeg just above": jpeg(10_001, 10_000),
    "tiff square": tiff(100_000, 100_000),
    "tiff wide": tiff(2**31 - 1, 2),
    "tiff absurd": tiff(2**32 - 1, 2**32 - 1),
    "tiff tile": tiff(10, 10, tile=(2**20, 2**20)),
    "tiff tile wide": tiff(64, 64, tile=(2**31 - 16, 16)),
    "webp extended": webp(b"VP8X", VP8X),
    "webp lossless": webp(b"VP8L", VP8L),
    "webp lossy": webp(b"VP8 ", VP8),
    "bmp square": bmp(60_000, 60_000),
    "bmp upside down": bmp(60_000, -60_000),
    "bmp wide": bmp(2**31 - 1, 1),
    "ppm": b"P6\n100000 100000\n255\n" + bytes(100),
    "pgm 16-bit": b"P5\n999999999 999999999\n65535\n" + bytes(100),
}
MAP_BOMBS: dict[str, tuple[str, bytes]] = {
    "pfm": (".pfm", b"Pf\n100000 100000\n-1.0\n" + bytes(100)),
    "pfm colour": (".pfm", b"PF\n999999999 999999999\n-1.0\n" + bytes(100)),
    "npy": (".npy", npy("(100000, 100000)")),
    "npy absurd": (".npy", npy("(9223372036854775807, 9223372036854775807)")),
    "npy f8": (".npy", npy("(1, 4611686018427387904)", "<f8")),
    "png": (".png", png(30_000, 30_000, 16, 0)),
    "tiff": (".tiff", tiff(90_000, 90_000)),
}


def refused_before_decoding(read: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> DepthlightError:
    """Call ``read``; it must raise, allocate next to nothing, and never let Pillow or OpenCV near the pixels."""
    decoded: list[str] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append("load"))
    monkeypatch.setattr(Image.core, "new", lambda *args: decoded.append("new"))
    monkeypatch.setattr("cv2.imdecode", lambda *args: decoded.append("imdecode"))
    tracemalloc.start()
    try:
        with pytest.raises(DepthlightError) as caught:
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not decoded
    assert peak < 2**20
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", IMAGE_BOMBS)
@pytest.mark.parametrize("reader", [read_image, image_size])
def test_image_bombs_are_refused_on_the_header(name: str, reader: Callable[[bytes], object], monkeypatch) -> None:
    error = refused_before_decoding(lambda: reader(IMAGE_BOMBS[name]), monkeypatch)
    assert isinstance(error, LimitError), error


@pytest.mark.parametrize("name", MAP_BOMBS)
def test_map_bombs_are_refused_on_the_header(name: str, tmp_path, monkeypatch) -> None:
    suffix, data = MAP_BOMBS[name]
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(data)
    error = refused_before_decoding(lambda: read_disparity(path), monkeypatch)
    assert isinstance(error, LimitError), error


def test_the_bombs_are_images_but_for_their_size() -> None:
    """The makers above state sizes that are read; a small one of each passes the header."""
    small = [png(9, 7), jpeg(9, 7), tiff(9, 7), tiff(9, 7, tile=(16, 16)), bmp(9, 7), bmp(9, -7)]
    for data in small:
        assert image_size(data) == (7, 9)


def test_a_sparse_giant_file_is_refused_by_its_length(tmp_path) -> None:
    path = tmp_path / "giant.png"
    with path.open("wb") as stream:
        stream.write(png(4, 4))
        stream.truncate(300 * 2**20)
    with pytest.raises(LimitError, match="314,572,800 bytes"):
        read_image(path)


def test_arrays_with_python_objects_are_refused_and_not_unpickled(tmp_path) -> None:
    path = tmp_path / "evil.npy"
    np.save(path, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(DepthlightError, match="holds object"):
        read_disparity(path)
