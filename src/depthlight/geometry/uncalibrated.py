"""Rectification without a calibration, from matches alone. There are no metres afterwards.

Quasi-Euclidean rectification (Fusiello & Irsara, "Quasi-Euclidean epipolar rectification of uncalibrated images", MVA
2011): both views are turned as cameras of one unknown focal length would be, so that the pictures are bent as little as
turning cameras can bend them. (Hartley's method, in OpenCV, fits free homographies and often shears them badly.)

Letters in names: H height, W width, N matches.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from .cameras import Floats
from .matches import Matches, match_points
from .rectify import Rectangle, largest_rectangle

FEWEST = 30  # matches on one epipolar geometry
LIMITS = (
    "No metres: without a calibration there is no focal length and no baseline.",
    "Lens distortion is not removed; the border of wide lenses stays bent.",
    "The two images must come from one kind of camera with square pixels and its axis near the middle of the image.",
    "A scene that is flat or far away, or a camera that only turned, does not fix the geometry.",
)
_PIXELS = 1.0  # MAGSAC's scale of noise
_STEPS = 100
_MARGIN = 4  # px: the smallest disparity after the shift


@dataclass(frozen=True)
class UncalibratedRectification:
    """Homographies (3, 3) from raw to rectified px of either view, at ``size`` (width, height).

    ``inliers``: the matches they were fitted to; ``focal``: the guess that came with them, px; ``shift``: px by which
    the right view was moved so that disparities are positive; ``error``: (N,) px, what is left of rows right − left.
    """

    left: Floats
    right: Floats
    size: tuple[int, int]
    inliers: Matches
    focal: float
    shift: float

    @cached_property
    def error(self) -> Floats:
        """Difference in rows of the inliers after rectification (N,), px."""
        rows = _moved(self.right, self.inliers.right) - _moved(self.left, self.inliers.left)
        return np.asarray(rows[:, 1], np.float64)

    def __call__(self, left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rectify a pair of images, kept in their type and channels; black where the raw image has nothing.

        Raises:
            InputError: an image is not of ``size``.
        """
        for image in (left, right):
            height, width = image.shape[:2]
            if (width, height) != self.size:
                raise InputError(
                    f"the image is {width}x{height} and the rectification for {self.size[0]}x{self.size[1]}",
                    expected="images of the size it was found for",
                )
        one, other = (
            np.asarray(cv2.warpPerspective(np.ascontiguousarray(image), matrix, self.size, flags=cv2.INTER_CUBIC))
            for image, matrix in ((left, self.left), (right, self.right))
        )
        return one, other

    @cached_property
    def masks(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(H, W) bool of either view: the pixel shows what the raw image has."""
        width, height = self.size
        full = np.full((height, width), 255, np.uint8)
        one, other = (
            np.asarray(cv2.warpPerspective(full, matrix, self.size, flags=cv2.INTER_LINEAR)) == 255
            for matrix in (self.left, self.right)
        )
        return one, other

    @cached_property
    def rectangle(self) -> Rectangle:
        """(x, y, width, height) of the largest part whose pixels both views know."""
        return largest_rectangle(self.masks[0] & self.masks[1])


def rectify_uncalibrated(left: NDArray[Any], right: NDArray[Any]) -> UncalibratedRectification:
    """Find the rectification of a raw pair from its matches; see :data:`LIMITS`.

    Raises:
        InputError: the images differ in size, share too few points, or one camera stands in front of the other.
    """
    if left.shape[:2] != right.shape[:2]:
        raise InputError(f"left is {left.shape[:2]} and right {right.shape[:2]}", expected="a pair of one size")
    return rectify_matches(match_points(left, right), (left.shape[1], left.shape[0]))


def rectify_matches(matches: Matches, size: tuple[int, int]) -> UncalibratedRectification:
    """The same from given matches, wrong ones among them."""
    inliers = _inliers(matches, size)
    rotations, focal = _fit(inliers, size)
    camera = _camera(focal, size)
    maps = [camera @ turn @ np.linalg.inv(camera) for turn in rotations]
    maps, shift = _placed(maps, inliers, size)
    return UncalibratedRectification(maps[0], maps[1], size, inliers, focal, shift)


def _fundamental(matches: Matches, method: int) -> tuple[Any, Any]:
    return cv2.findFundamentalMat(matches.left, matches.right, method, _PIXELS, 0.9999, 20_000)


def _inliers(matches: Matches, size: tuple[int, int]) -> Matches:
    """Matches on one epipolar geometry, by MAGSAC++ (Barath et al. 2020), or plain RANSAC where that finds none."""
    keep = None
    matrix: Any = None
    if len(matches) >= 8:
        cv2.setRNGSeed(0)
        with contextlib.suppress(cv2.error):  # an assertion of OpenCV's search itself, met with scenes of few planes
            matrix, keep = _fundamental(matches, cv2.USAC_MAGSAC)
        if matrix is None:
            matrix, keep = _fundamental(matches, cv2.FM_RANSAC)
    count = 0 if keep is None else int(keep.sum())
    if keep is None or matrix is None or matrix.shape != (3, 3) or count < FEWEST:
        raise InputError(
            f"the two views share {count} points on one epipolar geometry",
            expected=f"at least {FEWEST}",
            hint="Use overlapping, textured, sharp views of one scene, or calibrate the cameras",
        )
    width, height = size
    epipole = np.linalg.svd(matrix)[2][-1]
    if abs(epipole[2]) > 1e-12:
        x, y = epipole[:2] / epipole[2]
        if 0 <= x < width and 0 <= y < height:
            raise InputError(
                "one camera stands in front of the other (the epipole lies in the image)",
                expected="cameras side by side",
            )
    return matches.of(keep.ravel().astype(bool))


def _camera(focal: float, size: tuple[int, int]) -> Floats:
    return np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1]], np.float64)


def _turns(values: Floats) -> tuple[Floats, Floats]:
    """Rotations of the two views from five angles: turning the left view about x would only turn both."""
    y_left, z_left, x_right, y_right, z_right = values
    one, other = (cv2.Rodrigues(np.array(v, np.float64))[0] for v in ((0, y_left, z_left), (x_right, y_right, z_right)))
    return np.asarray(one, np.float64), np.asarray(other, np.float64)


def _fit(matches: Matches, size: tuple[int, int]) -> tuple[tuple[Floats, Floats], float]:
    """Five angles and a focal length by Levenberg and Marquardt's method on Sampson's distance."""
    unit = float(sum(size))
    values = np.zeros(6)  # the last one: log₃ of the focal length over width + height
    values[5] = np.log(0.6) / np.log(3)
    damping = 1e-2
    residual = _residual(values, matches, size)
    for _ in range(_STEPS):
        jacobian = np.stack(
            [(_residual(values + step, matches, size) - residual) / 1e-6 for step in np.eye(6) * 1e-6], axis=1
        )
        normal, slope = jacobian.T @ jacobian, jacobian.T @ residual
        move = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -slope)
        tried = values + move
        tried[5] = np.clip(tried[5], -1, 1)
        new = _residual(tried, matches, size)
        if new @ new < residual @ residual:
            values, residual, damping = tried, new, damping / 3
            if np.abs(move).max() < 1e-9:
                break
        else:
            damping *= 4
            if damping > 1e8:
                break
    if np.abs(values[:5]).max() > 1.0:
        raise InputError(
            "the views would have to be turned by more than 57°",
            expected="cameras that look nearly the same way",
            hint="Calibrate them: depthlight calibrate",
        )
    return _turns(values[:5]), float(unit * 3 ** values[5])


def _residual(values: Floats, matches: Matches, size: tuple[int, int]) -> Floats:
    """Sampson's distance of each match (N + 1,), px; the last entry holds the focal length where nothing fixes it."""
    inverse = np.linalg.inv(_camera(sum(size) * 3 ** values[5], size))
    one, other = _turns(values[:5])
    cross = np.array([[0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # [x axis]×: rectified rows are equal
    fundamental = (other @ inverse).T @ cross @ (one @ inverse)
    left = np.column_stack([matches.left, np.ones(len(matches))])
    right = np.column_stack([matches.right, np.ones(len(matches))])
    to_right, to_left = left @ fundamental.T, right @ fundamental
    scale = np.sqrt((to_right[:, :2] ** 2).sum(axis=1) + (to_left[:, :2] ** 2).sum(axis=1))
    distance = (right * to_right).sum(axis=1) / np.maximum(scale, 1e-12)
    return np.append(distance, 0.05 * np.sqrt(len(matches)) * (values[5] - np.log(0.6) / np.log(3)))


def _moved(matrix: Floats, points_N2: Floats) -> Floats:
    flat = np.column_stack([points_N2, np.ones(len(points_N2))]) @ matrix.T
    return np.asarray(flat[:, :2] / flat[:, 2:], np.float64)


def _placed(maps: list[Floats], matches: Matches, size: tuple[int, int]) -> tuple[list[Floats], float]:
    """Both views moved into the frame by their matches: up and down together, and the right one for disparities > 0."""
    points = [_moved(matrix, where) for matrix, where in zip(maps, (matches.left, matches.right), strict=True)]
    corners = np.array([[0, 0], [size[0] - 1, 0], [0, size[1] - 1], [size[0] - 1, size[1] - 1]], np.float64)
    centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    middles = [_moved(matrix, corners).mean(axis=0) for matrix in maps]
    down = float(centre[1] - (middles[0][1] + middles[1][1]) / 2)
    across = float(centre[0] - middles[0][0])
    disparity = points[0][:, 0] + across - points[1][:, 0]
    shift = float(np.percentile(disparity, 1)) - _MARGIN
    moves = [np.array([[1, 0, x], [0, 1, down], [0, 0, 1.0]]) for x in (across, shift)]
    return [move @ matrix for move, matrix in zip(moves, maps, strict=True)], shift
