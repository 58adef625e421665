"""Unlabelled pairs in folders: Flickr1024, Holopix50K, UASOL, or a user's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..core.errors import ConfigError, InputError
from ..io.images import IMAGE_SUFFIXES, read_image
from ..io.names import pair_folders, split_side_by_side
from .readers.base import check_size
from .samples import StereoSample

LAYOUTS = ("auto", "folders", "suffixes", "side-by-side")
_Pair = tuple[str, Path, Path | None]


class PairFolder:
    """Rectified pairs without truth (a ``StereoDataset`` whose samples have no disparity).

    Layouts, each also in subfolders at any depth:

    =============  ==========================================================================================
    folders        ``left/`` and ``right/`` side by side, files of equal name or ``NAME_left``/``NAME_right``
                   (Holopix50K: ``train/left/…_left.jpg``, ``train/right/…_right.jpg``)
    suffixes       ``NAME_L.png`` and ``NAME_R.png`` in one folder, also ``_left``/``_right``, ``im0``/``im1``
                   (Flickr1024: ``Train/0001_L.png``, ``Train/0001_R.png``)
    side-by-side   both views in one image, the left one on the left; must be asked for
    =============  ==========================================================================================

    ``auto`` is ``folders`` where there is a ``left`` beside a ``right``, else ``suffixes``.

    Args:
        root: the folder.
        layout: one of the above, or auto.

    Raises:
        InputError: the folder is missing, holds no pair, or an image has no partner.
        ConfigError: another layout.
    """

    def __init__(self, root: str | os.PathLike[str], layout: str = "auto") -> None:
        if layout not in LAYOUTS:
            raise ConfigError(f"layout={layout!r} is not possible", expected="one of " + ", ".join(LAYOUTS))
        self.root = Path(root)
        self.name = self.root.resolve().name
        if not self.root.is_dir():
            raise InputError(f"{self.root} is not a folder", expected="a folder of stereo pairs", path=str(self.root))
        self._pairs = sorted(self._list(layout), key=lambda pair: pair[0])
        if not self._pairs:
            raise InputError(
                f"{self.root} holds no stereo pair",
                expected="left/ and right/ with equal names, or NAME_L and NAME_R in one folder",
                hint="For both views in one image say layout='side-by-side'",
                path=str(self.root),
            )

    def __len__(self) -> int:
        return len(self._pairs)

    def sample_name(self, index: int) -> str:
        """The pair's path inside the folder, without its side."""
        return self._pairs[index][0]

    def views(self, index: int) -> tuple[Path, Path | None]:
        """The files of the left and the right view, without reading them; no right one of a side-by-side image."""
        return self._pairs[index][1:]

    def __getitem__(self, index: int) -> StereoSample:
        """Read a pair.

        Raises:
            DepthlightError: a file is missing or damaged, or the views differ in size; names the path.
        """
        name, left, right = self._pairs[index]
        left_HW3 = read_image(left)
        if right is None:
            try:
                left_HW3, right_HW3 = split_side_by_side(left_HW3)
            except InputError as error:
                raise InputError(f"{left}: {error.what}", expected=error.expected, hint=error.hint) from None
        else:
            right_HW3 = read_image(right)
            check_size(right, right_HW3.shape[:2], left_HW3.shape[:2])
        return StereoSample(left_HW3=left_HW3, right_HW3=right_HW3, name=name, path=left)

    def _list(self, layout: str) -> Iterator[_Pair]:
        below = (path for path in self.root.rglob("*") if path.is_dir())
        folders = [self.root, *sorted(path for path in below if not _hidden(path.relative_to(self.root)))]
        twins = [folder for folder in folders if (folder / "left").is_dir() and (folder / "right").is_dir()]
        if layout == "folders" or (layout == "auto" and twins):
            for folder in twins:
                yield from self._named(folder, pair_folders(folder / "left", folder / "right"))
            return
        for folder in folders:
            images = sorted(path for path in folder.iterdir() if _is_image(path))
            if images and layout == "side-by-side":
                yield from self._named(folder, [(path.stem, path, None) for path in images])
            elif images:
                yield from self._named(folder, pair_folders(folder, folder))

    def _named(self, folder: Path, pairs: Iterable[_Pair]) -> Iterator[_Pair]:
        for stem, left, right in pairs:
            yield (folder.relative_to(self.root) / stem).as_posix(), left, right


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith(".")
