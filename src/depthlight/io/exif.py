"""The focal length a camera wrote into its file."""

from __future__ import annotations

import math
import os

from PIL import Image

from ..core.errors import DepthlightError
from .guard import DEFAULT_LIMITS, guarded, open_plugin, opened, sniff

_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405
_DIAGONAL_35MM = math.hypot(36, 24)  # mm


def focal_px(path: str | os.PathLike[str], height: int, width: int) -> float | None:
    """Focal length in px of the whole image at ``height`` x ``width``, or None where the file states none.

    From EXIF's FocalLengthIn35mmFilm f: f · diagonal_px / 43.27 mm (CIPA DCG-001 compares diagonals). Of a cropped
    picture it is wrong; EXIF does not tell.
    """
    try:
        with opened(path, DEFAULT_LIMITS, "") as (stream, label), guarded(label):
            kind = sniff(stream, label, DEFAULT_LIMITS)
            if kind == "PPM":
                return None
            image = open_plugin(stream, kind, label, DEFAULT_LIMITS)
            stated = Image.Image.getexif(image).get_ifd(_EXIF_IFD).get(_FOCAL_35MM)
    except DepthlightError:
        return None  # reading the picture itself will say what is wrong
    except Exception:  # a damaged tag block must not hide a good picture
        return None
    if not isinstance(stated, int) or not 1 <= stated <= 2000:  # 0 means unknown
        return None
    return stated * math.hypot(height, width) / _DIAGONAL_35MM
