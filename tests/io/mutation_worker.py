"""Reads mutated files and reports; run by test_images_hostile.py in its own process.

Exits with a traceback on the first exception that is not a DepthlightError; a read of more than 60 s ends the process.
"""

from __future__ import annotations

import faulthandler
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from depthlight.core.errors import DepthlightError
from depthlight.io.disparity_files import read_disparity, write_disparity
from depthlight.io.images import image_size, read_image

GUARD_SECONDS = 60


def seeds(rng: np.random.Generator, folder: Path) -> list[tuple[str, bytes]]:
    """(suffix, bytes) of good files of every kind."""
    rgb = rng.integers(0, 256, (24, 30, 3), np.uint8)
    smooth = np.add.outer(np.arange(24), np.arange(30)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        (".png", rgb, {"exif": exif}),
        (".png", smooth, {}),
        (".png", smooth.astype(np.uint16) * 300, {}),
        (".png", np.dstack([rgb, smooth]), {}),
        (".jpg", rgb, {"exif": exif}),
        (".jpg", smooth, {"progressive": True}),
        (".tif", rgb, {}),
        (".tif", rgb, {"compression": "tiff_lzw"}),
        (".tif", rgb, {"compression": "tiff_adobe_deflate"}),
        (".tif", rgb, {"compression": "jpeg"}),
        (".tif", smooth.astype(np.float32), {}),
        (".webp", rgb, {"exif": exif}),
        (".webp", rgb, {"lossless": True}),
        (".bmp", rgb, {}),
        (".bmp", smooth, {}),
        (".ppm", rgb, {}),
    ]
    found = []
    for suffix, pixels, options in kinds:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format=Image.registered_extensions()[suffix], **options)
        found.append((suffix, stream.getvalue()))
    for suffix in (".pfm", ".npy", ".tiff", ".png"):
        path = folder / f"seed{suffix}"
        write_disparity(path, smooth.astype(np.float32), sidecar=False)
        found.append((suffix, path.read_bytes()))
    return found


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One of: flipped bits anywhere or in the header, cut, zeroed, random stretch, lying number, glued, doubled."""
    changed = bytearray(data)
    kind = rng.integers(0, 8)
    if kind in (0, 1):
        limit = len(changed) if kind == 0 else min(64, len(changed))
        for position in rng.integers(0, limit, rng.integers(1, 12)):
            changed[position] ^= 1 << int(rng.integers(0, 8))
    elif kind == 2:
        changed = changed[: rng.integers(0, len(changed))]
    elif kind in (3, 4):
        start = int(rng.integers(0, len(changed)))
        stop = min(len(changed), start + int(rng.integers(1, 200)))
        changed[start:stop] = bytes(stop - start) if kind == 3 else rng.bytes(stop - start)
    elif kind == 5:
        start = int(rng.integers(0, min(len(changed), 400)))
        changed[start : start + 4] = [b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"9999"][
            rng.integers(0, 4)
        ]
    elif kind == 6:
        start = int(rng.integers(0, len(changed)))
        del changed[start : start + int(rng.integers(1, 60))]
    else:
        start = int(rng.integers(0, len(changed)))
        changed[start:start] = changed[: rng.integers(1, 300)]
    return bytes(changed)


def main(count: int, seed: int, folder: Path) -> None:
    rng = np.random.default_rng(seed)
    good = seeds(rng, folder)
    refused = 0
    for index in range(count):
        suffix, data = good[index % len(good)]
        if rng.random() < 0.05:
            suffix = good[rng.integers(0, len(good))][0]  # a wrong extension
        path = folder / f"mutant{suffix}"
        path.write_bytes(mutate(data, rng))
        faulthandler.dump_traceback_later(GUARD_SECONDS, exit=True)
        readers = [read_image, image_size]
        if suffix in (".pfm", ".npy", ".tiff", ".png"):
            readers.append(read_disparity)
        failures = 0
        for reader in readers:
            try:
                reader(path)
            except DepthlightError as error:
                if "\n" in str(error) or len(str(error)) > 1000:
                    raise AssertionError(f"not one line: {error}") from error
                failures += 1
        refused += failures > 0
        faulthandler.cancel_dump_traceback_later()
    # not ru_maxrss, which a child takes over from the process it was forked from
    status = Path("/proc/self/status").read_text()
    peak_mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"files": count, "refused": refused, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
