"""Scene folders: the project's own layout for evaluation, fine-tuning and tests.

::

    <root>/<scene>/left.png  right.png     the rectified pair; also .jpg, .jpeg, .webp
                   disp.png                disparity of the left view, 16-bit, px·256, 0 = no truth (KITTI);
                                           another scale is stated in disp.json beside it
                   nocc.png                optional: above 0 where the pixel is seen in both views
                   disp_right.png          optional: disparity of the right view
                   calib.txt  meta.json    optional
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import FileFormatError, ImageError, InputError
from ..io.disparity_files import DisparityMap, read_disparity
from ..io.images import read_image
from ..io.names import visible_folders
from .readers.base import check_size
from .samples import StereoSample

VIEW_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class SceneFolder:
    """A folder of scene folders as a dataset.

    Args:
        root: the folder that holds the scenes.
        names: the scenes to take, in this order (see :func:`read_list`); by default all folders with a left image,
            sorted by name.
        need_truth: whether a scene without ``disp.png`` is refused; if not, its disparity is ``None``.
        right_truth, visible: whether ``disp_right.png`` and ``nocc.png`` are read where they are.

    Each sample carries the paths ``calib`` and the mapping ``meta`` in ``extra`` where the scene has them.

    Raises:
        InputError: the folder is missing or holds no scene, or a name is not in it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        names: Sequence[str] | None = None,
        *,
        need_truth: bool = True,
        right_truth: bool = True,
        visible: bool = True,
    ) -> None:
        self.root = Path(root)
        self.name = self.root.resolve().name
        self.need_truth, self.right_truth, self.visible = need_truth, right_truth, visible
        if not self.root.is_dir():
            raise InputError(f"{self.root} is not a folder", expected="a folder of scene folders", path=str(self.root))
        self._names = tuple(self._found()) if names is None else tuple(names)
        for name in self._names:
            self._check_name(name)
        if not self._names:
            hint = "This is a scene itself: give the folder that holds it" if _view(self.root, "left") else ""
            raise InputError(f"{self.root} holds no scene", expected="<scene>/left.png, right.png, disp.png", hint=hint)

    def __len__(self) -> int:
        return len(self._names)

    def sample_name(self, index: int) -> str:
        """The scene's name, without reading it."""
        return self._names[index]

    def views(self, index: int) -> tuple[Path, Path]:
        """The files of the left and the right view, without reading them.

        Raises:
            ImageError: one of them is missing.
        """
        folder = self.root / self._names[index]
        return _need_view(folder, "left"), _need_view(folder, "right")

    def __getitem__(self, index: int) -> StereoSample:
        """Read a scene.

        Raises:
            DepthlightError: a file is missing, damaged or of another size than the left image; names its path.
        """
        name = self._names[index]
        folder = self.root / name
        left_HW3, right_HW3 = (read_image(_need_view(folder, side)) for side in ("left", "right"))
        size = left_HW3.shape[:2]
        check_size(folder / "right", right_HW3.shape[:2], size)
        truth = self._truth(folder / "disp.png", size)
        right_truth = _optional_disparity(folder / "disp_right.png", size) if self.right_truth else None
        return StereoSample(
            left_HW3=left_HW3,
            right_HW3=right_HW3,
            name=name,
            disparity_HW=truth.disparity_HW if truth else None,
            valid_HW=truth.valid_HW if truth else None,
            visible_HW=_optional_mask(folder / "nocc.png", size) if self.visible else None,
            right_disparity_HW=right_truth.disparity_HW if right_truth else None,
            path=folder,
            extra=_extra(folder),
        )

    def _truth(self, path: Path, size: tuple[int, ...]) -> DisparityMap | None:
        truth = _optional_disparity(path, size)
        if truth is None and self.need_truth:
            raise FileFormatError(f"{path} does not exist", expected="the disparity of the left view", path=str(path))
        return truth

    def _found(self) -> list[str]:
        return [folder.name for folder in visible_folders(self.root) if _view(folder, "left")]

    def _check_name(self, name: str) -> None:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise InputError(f"scene name {name!r} is not allowed", expected="a folder inside the dataset")
        if not (self.root / name).is_dir():
            near = difflib.get_close_matches(name, self._found(), n=1)
            hint = f"Did you mean {near[0]}?" if near else ""
            raise InputError(f"{self.root} holds no scene {name!r}", hint=hint, path=str(self.root / name))


def read_list(file: str | os.PathLike[str]) -> list[str]:
    """Scene names from a text file, one per line; blank lines and lines that begin with ``#`` are skipped.

    Raises:
        InputError: the file is missing, not UTF-8 text, empty, or names a scene twice.
    """
    try:
        lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the list {file}: {error}", expected="a text file with one name per line"
        ) from None
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise InputError(f"the list {file} is empty", expected="one scene name per line")
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise InputError(f"the list {file} names {twice[0]!r} twice", expected="each scene once")
    return names


def _view(folder: Path, side: str) -> Path | None:
    """The image of one side, or ``None``."""
    return next((path for suffix in VIEW_SUFFIXES if (path := folder / f"{side}{suffix}").is_file()), None)


def _need_view(folder: Path, side: str) -> Path:
    path = _view(folder, side)
    if path is None:
        raise ImageError(
            f"{folder / side}.png does not exist",
            expected=f"{side} with one of {', '.join(VIEW_SUFFIXES)}",
            path=str(folder),
        )
    return path


def _optional_disparity(path: Path, size: tuple[int, ...]) -> DisparityMap | None:
    if not path.exists():
        return None
    disparity = read_disparity(path)
    check_size(path, disparity.disparity_HW.shape, size)
    return disparity


def _optional_mask(path: Path, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if not path.exists():
        return None
    mask_HW: NDArray[np.bool_] = read_image(path)[..., 0] > 0
    check_size(path, mask_HW.shape, size)
    return mask_HW


def _extra(folder: Path) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    calib, meta = folder / "calib.txt", folder / "meta.json"
    if calib.is_file():
        extra["calib"] = calib
    if meta.is_file():
        try:
            extra["meta"] = json.loads(meta.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FileFormatError(f"{meta} is not JSON: {error}", path=str(meta)) from None
    return extra
