"""Calibration from rendered boards: lenses, rotation and baseline come back, bad views are found."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depthlight.core.errors import ConfigError, InputError
from depthlight.core.tolerances import tolerance
from depthlight.geometry.boards import Board, Corners, board_of, common, find_corners, same_order
from depthlight.geometry.calibrate import View, calibrate_stereo, coverage

BOARD = Board(kind="chessboard", columns=9, rows=6, square=0.03)


@pytest.fixture
def views():
    """A function (rig, count, noise) → views with projected corners."""

    def make(rig, count=14, noise=0.05, seed=1, columns=9, rows=6, square=0.03):
        rng = np.random.default_rng(seed)
        board = Board(kind="chessboard", columns=columns, rows=rows, square=square)
        corners = board.points()
        found = []
        while len(found) < count:
            turn = cv2.Rodrigues(rng.uniform(-0.6, 0.6, 3))[0]
            place = np.array([rng.uniform(-0.3, 0.2), rng.uniform(-0.25, 0.15), rng.uniform(0.3, 0.9)])
            points = corners @ turn.T + place
            left = rig.left.project(points)
            right = rig.right.project(points @ rig.rotation().T + rig.translation())
            both = np.concatenate([left, right])
            if not (
                np.isfinite(both).all()
                and (both > 2).all()
                and (both < [rig.left.width - 2, rig.left.height - 2]).all()
            ):
                continue
            left, right = (p + rng.normal(0, noise, p.shape) for p in (left, right))
            found.append(View(f"{len(found):02d}", np.arange(len(points)), left, right))
        return found

    return make


@pytest.mark.parametrize(("lens", "kind"), [("pinhole", "pinhole"), ("fisheye", "fisheye"), ("rational", "pinhole")])
def test_a_rig_is_recovered_from_corners(near_rig, views, lens, kind):
    rig = near_rig(11, kind)
    seen = views(rig, 16)
    report = calibrate_stereo(seen, BOARD, rig.left.size, lens=lens)
    found = report.cameras
    assert report.rms < 0.12
    assert report.epipolar < 0.15
    assert found.baseline == pytest.approx(rig.baseline, rel=tolerance("calibrate.baseline"))
    apart = cv2.Rodrigues(found.rotation() @ rig.rotation().T)[0]
    assert np.degrees(np.linalg.norm(apart)) < tolerance("calibrate.degrees")
    for side, one, truth in (("left", found.left, rig.left), ("right", found.right, rig.right)):
        assert one.fx == pytest.approx(truth.fx, rel=tolerance("calibrate.focal"))
        pixels = np.concatenate([getattr(view, side) for view in seen])  # where the board was
        rays = np.column_stack([one.rays(pixels), np.ones(len(pixels))])
        apart = np.abs(truth.project(rays) - pixels)
        assert np.isnan(apart).mean() < 0.01  # a rational lens may have a pole in the picture
        assert np.nanpercentile(apart, 99) < 2
    assert report.left_out == {}


def test_rendered_boards_are_found_and_calibrate(near_rig, board_pairs):
    rig = near_rig(3)
    found = []
    for number, pair in enumerate(board_pairs(rig, 10, seed=2)):
        left, right = (find_corners(image, BOARD) for image in pair)
        if left is not None and right is not None:
            found.append(View(str(number), *common(left, same_order(left, right))))
    assert len(found) >= 8
    report = calibrate_stereo(found, BOARD, rig.left.size)
    assert report.rms < 0.15
    assert report.cameras.baseline == pytest.approx(rig.baseline, rel=0.01)
    assert report.cameras.left.fx == pytest.approx(rig.left.fx, rel=0.01)


def test_views_that_stand_out_are_left_out_and_named(near_rig, views):
    rig = near_rig(5)
    good = views(rig, 14)
    moved = [
        View("moved", v.ids, v.left, v.right + np.array([0, 6])) if i == 3 else v for i, v in enumerate(good)
    ]  # the rig slipped, or the pair is not of one moment
    report = calibrate_stereo(moved, BOARD, rig.left.size)
    assert list(report.left_out) == ["moved"]
    assert report.left_out["moved"] > 1
    assert len(report.errors) == 13
    assert report.cameras.baseline == pytest.approx(rig.baseline, rel=0.01)


def test_what_does_not_fix_the_cameras_is_told(near_rig, views):
    rig = near_rig(5)
    good = views(rig, 5)
    with pytest.raises(InputError, match="at least 4"):
        calibrate_stereo(good[:3], BOARD, rig.left.size)
    with pytest.raises(InputError, match="unknown lens"):
        calibrate_stereo(good, BOARD, rig.left.size, lens="telescope")
    report = calibrate_stereo(good, BOARD, rig.left.size)
    assert any("Only 5 views" in remark for remark in report.remarks)


def test_charuco_boards_are_found_in_part():
    board = Board(kind="charuco", columns=7, rows=5, square=0.04, marker=0.03)
    picture = np.asarray(board.charuco().generateImage((700, 500), marginSize=0))
    sheet = np.full((600, 800), 255, np.uint8)
    sheet[50:550, 50:750] = picture
    whole = find_corners(sheet, board)
    assert len(whole.ids) == 24
    expected = board.points()[whole.ids][:, :2] / 0.04 * 100 + 149.5
    np.testing.assert_allclose(whole.points, expected, atol=0.6)
    part = find_corners(sheet[:, :520], board)
    assert 6 <= len(part.ids) < 24
    ids, one, other = common(whole, part)
    np.testing.assert_allclose(one, other, atol=0.5)
    assert set(ids) == set(part.ids)
    assert find_corners(np.full((300, 300), 128, np.uint8), board) is None


def test_a_board_counted_from_the_other_end_is_turned():
    points = np.stack(np.meshgrid(np.arange(9.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    left = Corners(np.arange(54), points)
    right = Corners(np.arange(54), points[::-1] - [3, 0])
    np.testing.assert_array_equal(same_order(left, right).points, points - [3, 0])
    assert same_order(left, left) is left
    assert common(left, Corners(np.array([1, 2]), points[:2])) is None


def test_coverage_is_the_share_of_cells():
    assert coverage(np.array([[1.0, 1.0], [2.0, 2.0], [99.0, 99.0]]), (100, 100)) == 2 / 64


@pytest.mark.parametrize(
    ("kind", "size", "square"),
    [("dots", "9x6", 0.03), ("chessboard", "9", 0.03), ("chessboard", "2x6", 0.03), ("chessboard", "9x6", 25.0)],
)
def test_boards_that_cannot_be_are_refused(kind, size, square):
    with pytest.raises((ConfigError, InputError)):
        board_of(kind, size, square)


def test_a_marker_is_smaller_than_its_square():
    with pytest.raises(ConfigError, match="smaller than the square"):
        Board(kind="charuco", columns=7, rows=5, square=0.03, marker=0.03)
    with pytest.raises(InputError, match="unknown marker dictionary"):
        Board(kind="charuco", columns=7, rows=5, square=0.03, dictionary="DICT_9X9")
