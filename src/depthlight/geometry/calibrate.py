"""Stereo calibration from views of a flat board: lenses, rotation and baseline, with what is known about their errors.

Zhang 2000 for the start of each camera, then one bundle adjustment of both (OpenCV's stereoCalibrate). Views whose
error stands out from the others' are left out, and named.

Letters in names: N corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError, UnknownNameError
from .boards import Board
from .cameras import Camera, Floats, StereoCameras, to_matrix, to_vector
from .rectify import rectification

LENSES = ("pinhole", "rational", "fisheye")
FEWEST_VIEWS = 4
_ROUNDS = 5  # of leaving views out
_STANDS_OUT = 3.0  # times the median error
_SMALL = 0.3  # px: an error that is never left out
_MOST_LEFT_OUT = 0.4  # share of the views
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-9)


@dataclass(frozen=True)
class View:
    """One pair of images of the board: ids (N,) into the board's corners, left and right px (N, 2)."""

    name: str
    ids: NDArray[np.int64]
    left: Floats
    right: Floats


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """Errors in px. ``errors``: root mean square per view used, over both cameras; ``rms``: over all corners used.

    ``left_out``: views whose error stood out, with it; ``epipolar``: root mean square of the difference in rows after
    rectification; ``coverage``: share of an 8×8 grid over the image that holds corners (left, right); ``remarks``: what
    makes the result doubtful, in words.
    """

    cameras: StereoCameras
    lens: str
    rms: float
    epipolar: float
    epipolar_max: float
    errors: dict[str, float]
    left_out: dict[str, float]
    coverage: tuple[float, float]
    remarks: tuple[str, ...] = field(default=())


def calibrate_stereo(
    views: Sequence[View], board: Board, size: tuple[int, int], *, lens: str = "pinhole"
) -> CalibrationReport:
    """Calibrate a rig from views of a board.

    Args:
        views: at least four; a dozen or more in different places, tilts and distances is good.
        size: (width, height) of the images, px.
        lens: ``pinhole`` (k1 k2 p1 p2), ``rational`` (eight coefficients, for wide lenses) or ``fisheye``.

    Raises:
        InputError: too few views, or they do not fix the cameras (all alike, not a flat board, wrong board size).
    """
    if lens not in LENSES:
        raise UnknownNameError("lens", lens, LENSES)
    if len(views) < FEWEST_VIEWS:
        raise InputError(
            f"{len(views)} views show the board in both images",
            expected=f"at least {FEWEST_VIEWS}, better a dozen",
            hint="Check --board: a chessboard counts inner corners, a ChArUco board squares",
        )
    kept, left_out = list(views), dict[str, float]()
    for round_number in range(_ROUNDS + 1):
        cameras, errors = _solve(kept, board, size, lens)
        bad = _stand_out(errors)
        room = int(len(views) * _MOST_LEFT_OUT) - len(left_out)
        if round_number == _ROUNDS or not bad or room <= 0 or len(kept) - len(bad) < FEWEST_VIEWS:
            break
        worst = sorted(bad, key=lambda index: -errors[index])[:room]
        left_out |= {kept[index].name: float(errors[index]) for index in worst}
        kept = [view for index, view in enumerate(kept) if index not in worst]
    return _report(kept, left_out, cameras, errors, size, lens)


def _stand_out(errors: Floats) -> list[int]:
    limit = max(_SMALL, _STANDS_OUT * float(np.median(errors)))
    return [index for index, error in enumerate(errors) if error > limit]


def _solve(views: Sequence[View], board: Board, size: tuple[int, int], lens: str) -> tuple[StereoCameras, Floats]:
    """Cameras, and the root mean square error of each view in px."""
    corners = board.points()
    boards = [np.ascontiguousarray(corners[view.ids][:, None], np.float32) for view in views]
    lefts, rights = (
        [np.ascontiguousarray(getattr(view, side)[:, None], np.float32) for view in views] for side in ("left", "right")
    )
    try:
        solve = _solve_fisheye if lens == "fisheye" else _solve_pinhole
        lenses, rotation, translation = solve(boards, lefts, rights, size, lens)
        made = [_camera(k, d, size, lens) for k, d in lenses]
        cameras = StereoCameras(left=made[0], right=made[1], R=to_matrix(rotation), T=to_vector(translation))
    except (cv2.error, InputError, np.linalg.LinAlgError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"the views do not fix the cameras ({reason})",
            expected="a flat board, sharp, in different places and tilts",
            hint="Check --board, --square and --lens",
        ) from None
    return cameras, np.array([_view_error(view, corners, cameras) for view in views])


def _solve_pinhole(boards: Any, lefts: Any, rights: Any, size: tuple[int, int], lens: str) -> Any:
    flags = cv2.CALIB_RATIONAL_MODEL if lens == "rational" else cv2.CALIB_FIX_K3
    starts = [
        cv2.calibrateCamera(boards, seen, size, None, None, flags=flags, criteria=_CRITERIA)[1:3]
        for seen in (lefts, rights)
    ]
    (k1, d1), (k2, d2) = starts
    found = cv2.stereoCalibrate(
        boards, lefts, rights, k1, d1, k2, d2, size,
        flags=flags | cv2.CALIB_USE_INTRINSIC_GUESS, criteria=_CRITERIA,
    )  # fmt: skip
    return ((found[1], found[2]), (found[3], found[4])), found[5], found[6]


def _flag(name: str) -> int:
    """OpenCV 4 keeps the fisheye flags in ``cv2.fisheye``, OpenCV 5 in ``cv2``, with other values."""
    return int(getattr(cv2.fisheye, name, getattr(cv2, name, 0)))


def _solve_fisheye(boards: Any, lefts: Any, rights: Any, size: tuple[int, int], _lens: str) -> Any:
    boards, lefts, rights = (  # one row of points, and doubles: with others OpenCV fails or ends far off
        [np.asarray(item, np.float64).reshape(1, len(item), -1) for item in group] for group in (boards, lefts, rights)
    )
    flags = _flag("CALIB_RECOMPUTE_EXTRINSIC") | _flag("CALIB_FIX_SKEW")
    starts = [
        cv2.fisheye.calibrate(boards, seen, size, np.eye(3), np.zeros((4, 1)), flags=flags, criteria=_CRITERIA)[1:3]
        for seen in (lefts, rights)
    ]
    (k1, d1), (k2, d2) = starts
    found = cv2.fisheye.stereoCalibrate(
        boards, lefts, rights, k1, d1, k2, d2, size,
        flags=flags | _flag("CALIB_USE_INTRINSIC_GUESS"), criteria=_CRITERIA,
    )  # fmt: skip
    return ((found[1], found[2]), (found[3], found[4])), found[5], found[6]


def _camera(k: Floats, d: Floats, size: tuple[int, int], lens: str) -> Camera:
    coefficients = [float(value) for value in np.ravel(d)]
    count = {"pinhole": 5, "rational": 8, "fisheye": 4}[lens]
    return Camera(
        fx=float(k[0, 0]),
        fy=float(k[1, 1]),
        cx=float(k[0, 2]),
        cy=float(k[1, 2]),
        width=size[0],
        height=size[1],
        model="fisheye" if lens == "fisheye" else "pinhole",
        distortion=tuple(coefficients[:count]),
    )


def _view_error(view: View, corners: Floats, cameras: StereoCameras) -> float:
    """Root mean square distance, px, of the corners from where the best pose of the board puts them in both views."""
    points = corners[view.ids]
    rays = np.nan_to_num(cameras.left.rays(view.left))
    start = cv2.solvePnP(points, rays[:, None], np.eye(3), None, flags=cv2.SOLVEPNP_ITERATIVE)[1:3]
    pose = _refined_pose(np.concatenate([np.ravel(part) for part in start]), points, view, cameras)
    return float(np.sqrt(np.mean(_pose_residual(pose, points, view, cameras) ** 2) * 2))


def _pose_residual(pose: Floats, points: Floats, view: View, cameras: StereoCameras) -> Floats:
    in_left = points @ cv2.Rodrigues(pose[:3])[0].T + pose[3:]
    in_right = in_left @ cameras.rotation().T + cameras.translation()
    apart = [cameras.left.project(in_left) - view.left, cameras.right.project(in_right) - view.right]
    return np.asarray(np.nan_to_num(np.concatenate(apart).ravel(), nan=1e3), np.float64)


def _refined_pose(pose: Floats, points: Floats, view: View, cameras: StereoCameras) -> Floats:
    """A few Gauss–Newton steps on both views: the pose that fits the pair, not the left view alone."""
    for _ in range(4):
        residual = _pose_residual(pose, points, view, cameras)
        slopes = [(_pose_residual(pose + step, points, view, cameras) - residual) / 1e-6 for step in np.eye(6) * 1e-6]
        move = np.linalg.lstsq(np.stack(slopes, axis=1), -residual, rcond=None)[0]
        better = _pose_residual(pose + move, points, view, cameras)
        if better @ better >= residual @ residual:
            break
        pose = pose + move
    return pose


def _report(
    views: Sequence[View],
    left_out: dict[str, float],
    cameras: StereoCameras,
    errors: Floats,
    size: tuple[int, int],
    lens: str,
) -> CalibrationReport:
    weights = np.array([len(view.ids) for view in views])
    rectified = rectification(cameras, max_field=160)
    rows = np.concatenate([rectified.vertical_error(view.left, view.right) for view in views])
    rows = rows[np.isfinite(rows)]
    seen = [np.concatenate([getattr(view, side) for view in views]) for side in ("left", "right")]
    covered = [coverage(points, size) for points in seen]
    rms = float(np.sqrt((errors**2 * weights).sum() / weights.sum()))
    return CalibrationReport(
        cameras=cameras,
        lens=lens,
        rms=rms,
        epipolar=float(np.sqrt((rows**2).mean())) if len(rows) else float("inf"),
        epipolar_max=float(np.abs(rows).max()) if len(rows) else float("inf"),
        errors={view.name: float(error) for view, error in zip(views, errors, strict=True)},
        left_out=left_out,
        coverage=(covered[0], covered[1]),
        remarks=tuple(_remarks(len(views), rms, min(covered))),
    )


def coverage(points_N2: Floats, size: tuple[int, int], cells: int = 8) -> float:
    """Share (0..1) of a grid of ``cells`` × ``cells`` over the image that holds a point."""
    counts = np.histogram2d(points_N2[:, 0], points_N2[:, 1], bins=cells, range=[[0, size[0]], [0, size[1]]])[0]
    return float((counts > 0).mean())


def _remarks(count: int, rms: float, covered: float) -> list[str]:
    found = []
    if count < 10:
        found.append(f"Only {count} views were used: take a dozen or more.")
    if rms > 0.7:
        found.append(
            f"An error of {rms:.2f} px is large: check that the board is flat, the images sharp, --lens right."
        )
    if covered < 0.6:
        found.append(f"The board covered {100 * covered:.0f} % of the image: the lens is not known where it never was.")
    return found
