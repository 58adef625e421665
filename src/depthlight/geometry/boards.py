"""Calibration boards: what they look like and where their corners are in an image.

Letters in names: H height, W width, N corners.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, InputError, UnknownNameError
from .cameras import Floats

KINDS = ("chessboard", "charuco")
DICTIONARIES = tuple(
    sorted(name for name in dir(cv2.aruco) if re.fullmatch(r"DICT_[4-7]X[4-7]_\d+|DICT_ARUCO.*", name))
)
_LARGEST = 1600  # px: larger images are searched smaller first
_FEWEST = 6  # corners of a ChArUco board that make a view


@dataclass(frozen=True, kw_only=True)
class Board:
    """A flat board.

    ``chessboard``: ``columns`` × ``rows`` inner corners. ``charuco``: ``columns`` × ``rows`` squares, with markers of
    ``marker`` metres (three quarters of a square by default) from ``dictionary``. ``square``: side of a square, metres.

    Raises:
        ConfigError: sizes that no board has.
    """

    kind: str
    columns: int
    rows: int
    square: float
    marker: float = 0.0
    dictionary: str = "DICT_5X5_100"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("board", self.kind, KINDS)
        if min(self.columns, self.rows) < 3 or max(self.columns, self.rows) > 100:
            raise ConfigError(f"a board of {self.columns}x{self.rows}", expected="3 to 100 each way")
        if not 0.0005 <= self.square <= 5:
            raise ConfigError(f"a square of {self.square:g} m", expected="0.5 mm to 5 m", hint="Give the unit: 25mm")
        if not 0 <= self.marker < self.square:
            raise ConfigError(f"a marker of {self.marker:g} m", expected="smaller than the square")
        if self.kind == "charuco" and self.dictionary not in DICTIONARIES:
            raise UnknownNameError("marker dictionary", self.dictionary, DICTIONARIES)

    def points(self) -> Floats:
        """All corners on the board (N, 3), metres, z = 0, row by row."""
        columns, rows = (self.columns, self.rows) if self.kind == "chessboard" else (self.columns - 1, self.rows - 1)
        x, y = np.meshgrid(np.arange(columns, dtype=np.float64), np.arange(rows, dtype=np.float64))
        return np.column_stack([x.ravel(), y.ravel(), np.zeros(columns * rows)]) * self.square

    def charuco(self) -> Any:
        """OpenCV's board.

        Raises:
            InputError: the dictionary has too few markers for it.
        """
        marker = self.marker or 0.75 * self.square
        try:
            dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
            return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, marker, dictionary)
        except cv2.error as error:
            raise InputError(f"a {self.columns}x{self.rows} ChArUco board of {self.dictionary} ({error})") from None


def board_of(kind: str, size: str, square: float, *, marker: float = 0.0, dictionary: str = "DICT_5X5_100") -> Board:
    """A board from words: ``board_of("chessboard", "9x6", 0.025)``.

    Raises:
        InputError: the size is not like 9x6, or a board that cannot be.
    """
    match = re.fullmatch(r"(\d{1,3})[x×](\d{1,3})", size)
    if match is None:
        raise InputError(f"the board's size is {size[:40]!r}", expected="columns x rows, such as 9x6")
    columns, rows = int(match[1]), int(match[2])
    return Board(kind=kind, columns=columns, rows=rows, square=square, marker=marker, dictionary=dictionary)


@dataclass(frozen=True)
class Corners:
    """Corners found in one image: ``ids`` (N,) into :meth:`Board.points`, ``points`` (N, 2) float64 px."""

    ids: NDArray[np.int64]
    points: Floats


def find_corners(gray_HW: NDArray[np.uint8], board: Board) -> Corners | None:
    """The board's corners to a fraction of a pixel; None if it is not there (a chessboard: not whole)."""
    if board.kind == "charuco":
        return _find_charuco(gray_HW, board)
    height, width = gray_HW.shape
    factor = min(1.0, _LARGEST / max(height, width))
    small = gray_HW
    if factor < 1:
        size = (round(width * factor), round(height * factor))
        small = np.asarray(cv2.resize(gray_HW, size, interpolation=cv2.INTER_AREA), np.uint8)
    shape = (board.columns, board.rows)
    found, corners = cv2.findChessboardCornersSB(small, shape, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not found:
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
        found, corners = cv2.findChessboardCorners(small, shape, flags=flags)
    if not found:
        return None
    scale = np.array([width / small.shape[1], height / small.shape[0]])
    points = (np.asarray(corners, np.float64).reshape(-1, 2) + 0.5) * scale - 0.5
    return Corners(np.arange(len(points)), refined(gray_HW, points, board))


def refined(gray_HW: NDArray[np.uint8], points_N2: Floats, board: Board) -> Floats:
    """Corners moved to where all gradients near by point at (cv2.cornerSubPix), in a window that fits the squares."""
    grid = points_N2.reshape(board.rows, board.columns, 2)
    steps = np.concatenate([np.linalg.norm(np.diff(grid, axis=axis), axis=-1).ravel() for axis in (0, 1)])
    window = int(np.clip(np.percentile(steps, 5) * 0.35, 2, 15))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-4)
    start = points_N2.astype(np.float32).reshape(-1, 1, 2).copy()
    better = cv2.cornerSubPix(gray_HW, start, (window, window), (-1, -1), criteria)
    return np.asarray(better, np.float64).reshape(-1, 2)


def _find_charuco(gray_HW: NDArray[np.uint8], board: Board) -> Corners | None:
    detector = cv2.aruco.CharucoDetector(board.charuco())
    points, ids = detector.detectBoard(gray_HW)[:2]
    if ids is None or len(ids) < _FEWEST:
        return None
    return Corners(np.asarray(ids, np.int64).ravel(), np.asarray(points, np.float64).reshape(-1, 2))


def common(left: Corners, right: Corners) -> tuple[NDArray[np.int64], Floats, Floats] | None:
    """Corners that both views show: ids (N,), left and right px (N, 2); None if they are too few.

    A chessboard looks the same upside down, so that one view may be counted from the other end: two cameras that stand
    side by side see its first and last corner in the same direction.
    """
    ids, in_left, in_right = np.intersect1d(left.ids, right.ids, return_indices=True)
    if len(ids) < _FEWEST:
        return None
    one, other = left.points[in_left], right.points[in_right]
    return np.asarray(ids, np.int64), one, other


def same_order(left: Corners, right: Corners) -> Corners:
    """The right view's chessboard corners, counted from the same end as the left view's."""
    one, other = left.points[-1] - left.points[0], right.points[-1] - right.points[0]
    if float(one @ other) >= 0:
        return right
    return Corners(right.ids, right.points[::-1].copy())
