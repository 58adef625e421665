"""Names of files: hostile ones made harmless, and the left and right files of two folders paired."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, OutputError
from .images import IMAGE_SUFFIXES

_MAX_BYTES = 120  # leaves room for suffixes and temporary names under the usual limit of 255
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_FORBIDDEN = set('<>:"/\\|?*%')
_SIDES: Mapping[str, Sequence[str]] = {"left": ("left", "l", "im0"), "right": ("right", "r", "im1")}


def safe_name(stem: str) -> str:
    """One path component that every file system takes, at most 120 bytes of UTF-8, never ``.`` or ``..``.

    A harmless stem comes back as it is. Any other is cleaned and gets a hash of what it was, so that two different
    stems never meet. (Two that differ in case alone can: see :func:`safe_names`.)
    """
    text = unicodedata.normalize("NFC", stem)
    text = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in text)
    text = text.strip(" .")
    if _DEVICES.fullmatch(text):
        text = f"_{text}"
    if text == stem and text and len(text.encode("utf-8")) <= _MAX_BYTES:
        return text
    short = text.encode("utf-8")[: _MAX_BYTES - 9].decode("utf-8", errors="ignore").strip(" .") or "_"
    return f"{short}-{_digest(stem)}"


def safe_names(stems: Iterable[str]) -> list[str]:
    """:func:`safe_name` of each, in order, different from each other also where case is ignored.

    Raises:
        InputError: a stem is there twice.
    """
    stems = list(stems)
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise InputError(f"the name {twice[0]!r} is there twice", expected="different names")
    names = [safe_name(stem) for stem in stems]
    meetings = Counter(name.casefold() for name in names)
    return [
        name if meetings[name.casefold()] == 1 else f"{name}-{_digest(stem)}"
        for stem, name in zip(stems, names, strict=True)
    ]


def _digest(stem: str) -> str:
    return hashlib.sha256(stem.encode("utf-8", errors="surrogatepass")).hexdigest()[:8]


def inside(root: str | os.PathLike[str], name: str) -> Path:
    """``root / name``, after making sure that it lies below ``root``, symbolic links followed.

    Raises:
        OutputError: ``name`` is empty, absolute, has ``..`` or NUL, or leads out through a link.
    """
    root = Path(root)
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    rooted = name.startswith(("/", "\\")) or bool(PureWindowsPath(name).drive)
    if rooted or not parts or ".." in parts or "\0" in name:
        raise OutputError(f"the output name {name!r} is not allowed", expected=f"a relative name below {root}")
    path = root / name
    try:
        resolved, base = path.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a character the system cannot spell
        raise OutputError(f"the output name {name!r} cannot be resolved below {root} ({error})") from error
    if resolved == base or not resolved.is_relative_to(base):
        raise OutputError(
            f"the output name {name!r} leads out of {root}", expected="a place below it", hint="Remove the link"
        )
    return path


def pair_folders(
    left_folder: str | os.PathLike[str], right_folder: str | os.PathLike[str]
) -> list[tuple[str, Path, Path]]:
    """(stem, left file, right file) of the images in two folders, or in one, sorted by stem; other files are left out.

    Files match by equal stems, or by stems that are equal once their side is taken off: ``a_left``/``a_right``,
    ``left_a``/``right_a``, ``a_L``/``a_R``, ``a-im0``/``a-im1``, ``left``/``right``. The stem returned has no side
    (``"pair"`` where nothing is left); two folders with equal stems keep them whole.

    Raises:
        InputError: a folder is missing or has no image, an image has no partner, or two want the same one.
    """
    left_folder, right_folder = Path(left_folder), Path(right_folder)
    lefts, rights = image_files(left_folder), image_files(right_folder)
    if left_folder.resolve() == right_folder.resolve():
        lefts = [path for path in lefts if _without_side(path.stem, "right") is None]
        rights = [path for path in rights if _without_side(path.stem, "right") is not None]
    shared = {path.stem for path in lefts} & {path.stem for path in rights}
    left_by_stem, right_by_stem = _by_stem(lefts, "left", shared), _by_stem(rights, "right", shared)
    for side, own, other in (("left", left_by_stem, right_by_stem), ("right", right_by_stem, left_by_stem)):
        alone = sorted(own[stem].name for stem in own.keys() - other.keys())
        if alone:
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            raise InputError(
                f"{len(alone)} of {len(own)} {side} images have no partner: {', '.join(alone[:3])}{more}",
                expected="the same names in both folders (or ending in _left/_right, _L/_R, im0/im1)",
            )
    return [(stem, left_by_stem[stem], right_by_stem[stem]) for stem in sorted(left_by_stem)]


def image_files(folder: Path) -> list[Path]:
    """The images directly in ``folder``, sorted by name; hidden and other files are left out.

    Raises:
        InputError: not a folder, or without an image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", expected="a folder of images")
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    found = sorted(path for path in found if not path.name.startswith("."))
    if not found:
        raise InputError(f"{folder} has no images", expected="files ending in " + ", ".join(IMAGE_SUFFIXES))
    return found


def visible_folders(folder: Path) -> list[Path]:
    """The folders directly in ``folder``, sorted by name; hidden ones (scenes still being written) left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _by_stem(files: Iterable[Path], side: str, shared: set[str]) -> dict[str, Path]:
    """Files by the stem they are paired under; ``shared`` are stems found on both sides, which stay whole."""
    by_stem: dict[str, Path] = {}
    for path in files:
        bare = None if path.stem in shared else _without_side(path.stem, side)
        stem = path.stem if bare is None else bare
        if stem in by_stem:
            raise InputError(
                f"two {side} images are called {stem!r}: {by_stem[stem].name} and {path.name} in {path.parent}",
                expected="one image for each name",
            )
        by_stem[stem] = path
    return by_stem


def _without_side(stem: str, side: str) -> str | None:
    """``stem`` without its mark of a side, ``"pair"`` if that was all of it; None if it has no such mark."""
    marks = "|".join(_SIDES[side])
    match = re.fullmatch(rf"(?P<a>.*[_\-. ])?(?:{marks})|(?:{marks})(?P<b>[_\-. ].*)", stem, re.IGNORECASE)
    if match is None:
        return None
    return (match["a"] or match["b"] or "").strip("_-. ") or "pair"


def split_side_by_side(image_HW3: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The left and right half of a side-by-side stereo image, each (H, W/2, 3).

    Raises:
        InputError: the width is odd.
    """
    height, width = image_HW3.shape[:2]
    if width % 2:
        raise InputError(
            f"a side-by-side image of {width}×{height} cannot be split",
            expected="an even width",
            hint="Crop it by hand",
        )
    half = width // 2
    return np.ascontiguousarray(image_HW3[:, :half]), np.ascontiguousarray(image_HW3[:, half:])


def split_top_bottom(image_HW3: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The left view (top) and the right view (bottom) of an image that has one above the other, each (H/2, W, 3).

    Raises:
        InputError: the height is odd.
    """
    if image_HW3.shape[0] % 2:
        raise InputError(
            f"a top-bottom image of {image_HW3.shape[1]}×{image_HW3.shape[0]} cannot be split",
            expected="an even height",
            hint="Crop it by hand",
        )
    half = image_HW3.shape[0] // 2
    return np.ascontiguousarray(image_HW3[:half]), np.ascontiguousarray(image_HW3[half:])
