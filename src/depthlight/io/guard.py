"""The guard before every decoder: what a file is, by its own bytes, and how large, before a pixel is decoded.

Used for images and for maps stored in image formats. Limits are per call; nothing global to the process is changed.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from ..core.errors import ConfigError, DepthlightError, ImageError, LimitError
from ..core.extras import require

FileSource: TypeAlias = "str | os.PathLike[str] | bytes"

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "HEIC")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # ISO/IEC 23008-12
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What the decoder accepts: bytes of the file, pixels stated in its header, and formats (from :data:`FORMATS`)."""

    max_bytes: int = 256 * 2**20
    max_pixels: int = 100_000_000
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_pixels < 1:
            raise ConfigError("an image limit is not positive", expected="max_bytes >= 1 and max_pixels >= 1")
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown or not self.formats:
            raise ConfigError(f"image formats {unknown or 'are empty'}", expected="some of " + ", ".join(FORMATS))


DEFAULT_LIMITS = ImageLimits()


@contextmanager
def opened(source: FileSource, limits: ImageLimits, name: str) -> Iterator[tuple[BinaryIO, str]]:
    """The source as a seekable stream, with its name, after checking its size in bytes."""
    if isinstance(source, bytes):
        label = name or "image"
        _check_bytes(len(source), label, limits)
        yield io.BytesIO(source), label
        return
    label = name or os.fspath(source)
    try:
        status = Path(source).stat()  # before opening: opening a pipe would wait for its writer
        if not stat.S_ISREG(status.st_mode):
            what = "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
            raise ImageError(f"{label} {what}", expected="an image file")
        _check_bytes(status.st_size, label, limits)
        stream = Path(source).open("rb")  # noqa: SIM115 closed below; what a decoder raises is not ours to translate here
    except FileNotFoundError:
        raise ImageError(f"{label} does not exist", expected="an image file", hint="Check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"cannot open {label!r}: {getattr(error, 'strerror', None) or error}") from error
    with stream:
        yield stream, label


def _check_bytes(count: int, label: str, limits: ImageLimits) -> None:
    if count == 0:
        raise ImageError(f"{label} is empty (0 bytes)", expected="an image file")
    if count > limits.max_bytes:
        raise LimitError(f"{label} has {count:,} bytes", expected=f"at most {limits.max_bytes:,}")


@contextmanager
def guarded(label: str) -> Iterator[None]:
    """Turn whatever a decoder raises on hostile bytes into one line: no list of exception types is complete there."""
    try:
        yield
    except DepthlightError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LimitError(f"{label} is too large to decode ({str(error) or 'out of memory'})") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{label} is damaged or truncated ({reason[:120]})", hint="Export it again as PNG") from error


def sniff(stream: BinaryIO, label: str, limits: ImageLimits) -> str:
    """The format by its first bytes; the file's suffix is not trusted."""
    stream.seek(0)
    head = stream.read(16)
    kind = None
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "PNG"
    elif head.startswith(b"\xff\xd8\xff"):
        kind = "JPEG"
    elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        kind = "TIFF"
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "WEBP"
    elif head.startswith(b"BM"):
        kind = "BMP"
    elif head[:2] in (b"P5", b"P6"):
        kind = "PPM"
    elif head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        kind = "HEIC"
    if kind is None or kind not in limits.formats:
        what = f"{label} is not an image we read" if kind is None else f"{label} is a {kind} file"
        raise ImageError(what, expected="one of " + ", ".join(limits.formats), hint="Convert it to PNG")
    return kind


def open_plugin(stream: BinaryIO, kind: str, label: str, limits: ImageLimits) -> ImageFile.ImageFile:
    """Pillow's reader for ``kind``, header read, nothing decoded, size checked.

    The class is called directly: ``Image.open`` compares with a limit global to the process and warns.
    """
    if kind == "WEBP":
        check_size(*_webp_size(stream, label), label, limits)  # its reader allocates the canvas when opened
    stream.seek(0)
    image = _heic_plugin(label)(stream) if kind == "HEIC" else _PLUGINS[kind](stream)
    check_size(image.width, image.height, label, limits)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = [int(image.tag_v2.get(tag, 1)) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
        check_size(tile[0], tile[1], f"a tile of {label}", limits)
    return image


def _heic_plugin(label: str) -> type[ImageFile.ImageFile]:
    """pillow-heif's reader: it states the size without decoding, and turns pixels upright while it decodes them."""
    module = require("pillow_heif", extra="heic", purpose=f"{label} is a HEIC file")
    plugin: type[ImageFile.ImageFile] = module.HeifImageFile
    return plugin


def _webp_size(stream: BinaryIO, label: str) -> tuple[int, int]:
    """(width, height) from the first chunk of a WebP file (RFC 9649)."""
    stream.seek(12)
    head = stream.read(18)
    chunk, body = head[:4], head[8:]
    if len(head) == 18:
        if chunk == b"VP8X":
            return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        if chunk == b"VP8L" and body[0] == 0x2F:
            bits = int.from_bytes(body[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
            width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
            return width, height
    raise ImageError(f"{label} is damaged: not a valid WebP header")


def check_size(width: int, height: int, label: str, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{label} states a size of {width}×{height}", expected="at least one pixel")
    if width * height > limits.max_pixels:
        raise LimitError(
            f"{label} is {width}×{height} ({width * height:,} pixels)", expected=f"at most {limits.max_pixels:,} pixels"
        )
