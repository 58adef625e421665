"""Ground truth as the public data sets store it, decoded to disparity.

Every function takes a path or the bytes of a file and returns :class:`Truth`; nothing here knows folders. All raise
``ImageError``, ``LimitError`` or ``FileFormatError`` naming the path when the file is missing, too large, damaged or of
another kind. A pixel is invalid where the file says "unknown"; its disparity is then 0.

Shape legend: H, W image size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import FileFormatError
from ..io.disparity_files import decode_kitti_png
from ..io.float_maps import read_npy
from ..io.guard import DEFAULT_LIMITS, FileSource, guarded, open_plugin, opened, sniff
from ..io.images import read_image
from ..io.pfm import read_pfm

KITTI = 256.0
CRESTEREO = 32.0
INSTEREO2K = 100.0
DRIVINGSTEREO_FULL = 128.0
FSD = 1000.0


class Truth(NamedTuple):
    """``disparity_HW`` float32 px, finite and >= 0; ``valid_HW`` bool."""

    disparity_HW: NDArray[np.float32]
    valid_HW: NDArray[np.bool_]


def decode_pfm(source: FileSource, *, signed: bool = False) -> Truth:
    """Disparity in a PFM; infinity and NaN are unknown (Middlebury "submit3/upload-format.html", ETH3D).

    Args:
        source: path or bytes.
        signed: take the absolute value (SceneFlow, as torchvision's reader does).
    """
    values = read_pfm(source)
    if values.ndim != 2:
        raise FileFormatError(f"{_label(source)} has three channels", expected="one: a disparity map")
    return _from_values(np.abs(values) if signed else values, source)


def decode_npy(source: FileSource) -> Truth:
    """Disparity in a .npy of floats, 0 or non-finite where unknown (Booster's ``disp_00.npy``)."""
    values = read_npy(source)
    return _from_values(np.where(values == 0, np.float32(np.nan), values), source)


def decode_png16(source: FileSource, scale: float) -> Truth:
    """Disparity·scale in a 16-bit gray PNG, 0 where unknown.

    The scale is 256 for KITTI (readme of its development kits) and DrivingStereo's half size, 128 for DrivingStereo's
    full size, 32 for CREStereo (its README, "Disparity Format"), 100 for InStereo2K (its Readme, "Data format").
    """
    return Truth(*decode_kitti_png(source, scale=scale))


def decode_gray8(source: FileSource, scale: float) -> Truth:
    """Disparity·scale in an 8-bit gray PNG or PGM, 0 where unknown (Middlebury 2001 to 2006)."""
    values_HW3 = read_image(source)
    if (values_HW3 != values_HW3[..., :1]).any():
        raise FileFormatError(f"{_label(source)} is a colour image", expected="an 8-bit gray disparity map")
    stored_HW = values_HW3[..., 0]
    return Truth((stored_HW / np.float32(scale)).astype(np.float32), stored_HW > 0)


def decode_rgb_packed(source: FileSource) -> Truth:
    """FSD: disparity = (R·255·255 + G·255 + B) / 1000 in an 8-bit RGB PNG, 0 where unknown.

    The factor is 255, not 256: FoundationStereo, ``depth_uint8_decoding`` in its data set viewer.
    """
    red_HW, green_HW, blue_HW = np.moveaxis(_colour_png(source, "RGB").astype(np.float64), 2, 0)
    steps_HW = red_HW * 255 * 255 + green_HW * 255 + blue_HW
    return Truth((steps_HW / FSD).astype(np.float32), steps_HW > 0)


def decode_depth_png16(source: FileSource, focal_baseline: float) -> Truth:
    """Disparity from integer depth in a 16-bit gray PNG: ``focal_baseline`` / value.

    0 is unknown, and so is 65535: a clipped depth is a bound, not a measurement.

    Args:
        source: path or bytes.
        focal_baseline: focal length in px times baseline in the file's unit of depth. Virtual KITTI 2 stores cm;
            Falling Things stores 0.1 mm (its ``readme_0.txt``).
    """
    stored_HW, _ = decode_kitti_png(source, scale=1.0)
    known_HW = (stored_HW > 0) & (stored_HW < 65535)
    return _from_depth(stored_HW, known_HW, focal_baseline)


def decode_depth_npy(source: FileSource, focal_baseline: float) -> Truth:
    """Disparity from depth in a .npy of floats (TartanAir V1, its ``data_type.md``: 80 / depth)."""
    depth_HW = read_npy(source)
    return _from_depth(depth_HW, np.isfinite(depth_HW) & (depth_HW > 0), focal_baseline)


def decode_depth_rgba(source: FileSource, focal_baseline: float) -> Truth:
    """Disparity from float32 depth whose four little-endian bytes are the B, G, R, A of an 8-bit PNG (TartanAir V2)."""
    bytes_HW4 = np.ascontiguousarray(_colour_png(source, "RGBA")[..., [2, 1, 0, 3]])
    depth_HW = bytes_HW4.view("<f4")[..., 0].astype(np.float32)
    return _from_depth(depth_HW, np.isfinite(depth_HW) & (depth_HW > 0), focal_baseline)


def decode_depth_half(source: FileSource, focal_baseline: float) -> Truth:
    """Disparity from depth stored as the bits of a float16 in a 16-bit gray PNG (Dynamic Replica).

    Layout: ``_load_16big_png_depth`` in facebookresearch/dynamic_stereo.
    """
    bits_HW, _ = decode_kitti_png(source, scale=1.0)
    depth_HW = bits_HW.astype("<u2").view("<f2").astype(np.float32)
    return _from_depth(depth_HW, np.isfinite(depth_HW) & (depth_HW > 0), focal_baseline)


def _from_values(values_HW: NDArray[np.float32], source: FileSource) -> Truth:
    valid_HW = np.isfinite(values_HW)
    disparity_HW = np.where(valid_HW, values_HW, np.float32(0))
    if (disparity_HW < 0).any():
        row, column = np.unravel_index(int(np.argmax(disparity_HW < 0)), disparity_HW.shape)
        raise FileFormatError(
            f"{_label(source)} has a negative disparity at row {row}, column {column}", expected="x_left - x_right >= 0"
        )
    return Truth(disparity_HW, valid_HW)


def _from_depth(depth_HW: NDArray[np.float32], known_HW: NDArray[np.bool_], focal_baseline: float) -> Truth:
    safe_HW = np.where(known_HW, depth_HW, 1).astype(np.float64)
    disparity_HW = np.where(known_HW, focal_baseline / safe_HW, 0)
    return Truth(disparity_HW.astype(np.float32), known_HW)


def _colour_png(source: FileSource, mode: str) -> NDArray[np.uint8]:
    """(H, W, 3 or 4) of an 8-bit PNG of exactly this mode: packed numbers survive no conversion."""
    limits = DEFAULT_LIMITS
    with opened(source, limits, "") as (stream, label), guarded(label):
        if sniff(stream, label, limits) != "PNG":
            raise FileFormatError(f"{label} is not a PNG", expected=f"an 8-bit {mode} PNG")
        open_plugin(stream, "PNG", label, limits).verify()  # checksums; Pillow skips them otherwise
        image = open_plugin(stream, "PNG", label, limits)
        if image.mode != mode or ";16" in str(image.tile):
            raise FileFormatError(f"{label} is a PNG of mode {image.mode}", expected=f"an 8-bit {mode} PNG")
        image.load()
        return np.asarray(image)


def _label(source: FileSource) -> str:
    return "the file" if isinstance(source, bytes) else str(source)
