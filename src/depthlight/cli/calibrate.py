"""``depthlight calibrate``: folders of board pictures in; the calibration of the two cameras out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..core.errors import InputError
from ..geometry.boards import Board, board_of, common, find_corners, same_order
from ..geometry.calibrate import CalibrationReport, View, calibrate_stereo
from ..geometry.calibration import write_calibration
from ..geometry.calibration.exact import length
from ..geometry.calibration_page import page
from ..geometry.matches import gray_8_bit
from ..infer.folder import need_apart, need_writable
from ..io.atomic import atomic_write_bytes
from ..io.images import read_image
from ..io.names import pair_folders
from .common import JsonFlag, QuietFlag, emit_json, progress, say

NAMES = ("calibration.json", "opencv.yml", "report.html", "result.json")


def calibrate(
    lefts: Annotated[Path, typer.Argument(help="Folder of left images of the board.")],
    rights: Annotated[Path, typer.Argument(help="Folder of right images, of the same names.")],
    board: Annotated[
        tuple[str, str],
        typer.Option("--board", help="chessboard and its inner corners (9x6), or charuco and its squares (10x7)."),
    ],
    square: Annotated[str, typer.Option("--square", help="Side of a square, with its unit: 25mm.")],
    marker: Annotated[
        str | None, typer.Option("--marker", help="ChArUco: side of a marker, 18mm; by default 3/4 of a square.")
    ] = None,
    dictionary: Annotated[
        str, typer.Option("--dictionary", help="ChArUco: OpenCV's name of the markers.")
    ] = "DICT_5X5_100",
    lens: Annotated[str, typer.Option("--lens", help="pinhole, rational (wide lenses) or fisheye.")] = "pinhole",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("depthlight-calibration"),
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Lenses, rotation and baseline of two cameras from pictures of a board.

    Writes calibration.json (for rectify), opencv.yml, report.html and result.json. Look at the report.
    """
    shape = board_of(
        board[0],
        board[1],
        length(square, "--square"),
        marker=length(marker, "--marker") if marker else 0.0,
        dictionary=dictionary,
    )
    pairs = pair_folders(lefts, rights)
    need_apart([out], [path for _, *files in pairs for path in files], NAMES)
    need_writable(out)
    views, missed, size, example = _views(pairs, shape, quiet=quiet)
    report = calibrate_stereo(views, shape, size, lens=lens)
    result = _result(report, shape, missed, size)
    write_calibration(out / "calibration.json", report.cameras, "json")
    write_calibration(out / "opencv.yml", report.cameras, "opencv")
    atomic_write_bytes(out / "report.html", page(report, shape, views, missed, example).encode())
    atomic_write_bytes(out / "result.json", json.dumps(result, indent=2).encode())
    if as_json:
        emit_json(result)
    _tell(out, report, missed, quiet=quiet, as_json=as_json)


def _views(
    pairs: list[tuple[str, Path, Path]], board: Board, *, quiet: bool
) -> tuple[list[View], list[str], tuple[int, int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Views with corners in both images, names of those without, the image size, and one pair to show."""
    views: list[View] = []
    missed: list[str] = []
    size: tuple[int, int] | None = None
    example = None
    with progress("find the board", len(pairs), quiet=quiet) as bar:
        for name, left_file, right_file in pairs:
            images = read_image(left_file), read_image(right_file)
            for path, image in zip((left_file, right_file), images, strict=True):
                size = size or (image.shape[1], image.shape[0])
                if (image.shape[1], image.shape[0]) != size:
                    raise InputError(
                        f"{path} is {image.shape[1]}×{image.shape[0]} and the first image {size[0]}×{size[1]}",
                        expected="images of one size",
                    )
            view = _view(name, images, board)
            if view is None:
                missed.append(name)
            else:
                views.append(view)
                example = example or images
            bar.step(name)
    if size is None or example is None:
        raise InputError(
            f"the {board.columns}x{board.rows} {board.kind} was found in no pair of {len(pairs)}",
            expected="pictures that show the whole board in both images",
            hint="A chessboard counts inner corners (a board of 10x7 squares is 9x6), a ChArUco board squares",
        )
    return views, missed, size, example


def _view(name: str, images: tuple[NDArray[np.uint8], NDArray[np.uint8]], board: Board) -> View | None:
    left, right = (find_corners(gray_8_bit(image), board) for image in images)
    if left is None or right is None:
        return None
    shared = common(left, same_order(left, right) if board.kind == "chessboard" else right)
    return None if shared is None else View(name, *shared)


def _result(report: CalibrationReport, board: Board, missed: list[str], size: tuple[int, int]) -> dict[str, Any]:
    return {
        "board": {"kind": board.kind, "columns": board.columns, "rows": board.rows, "square_m": board.square},
        "lens": report.lens,
        "width": size[0],
        "height": size[1],
        "rms_px": report.rms,
        "epipolar_rms_px": report.epipolar,
        "epipolar_max_px": report.epipolar_max,
        "baseline_m": report.cameras.baseline,
        "coverage": list(report.coverage),
        "errors_px": report.errors,
        "left_out_px": report.left_out,
        "board_not_found": missed,
        "remarks": list(report.remarks),
        "files": list(NAMES[:3]),
    }


def _tell(out: Path, report: CalibrationReport, missed: list[str], *, quiet: bool, as_json: bool) -> None:
    first = (
        f"{out}: {report.rms:.3f} px reprojection, {report.epipolar:.3f} px epipolar error, "
        f"baseline {1000 * report.cameras.baseline:.2f} mm, from {len(report.errors)} views."
    )
    lines = [first]
    if report.left_out:
        named = ", ".join(f"{name} ({error:.2f} px)" for name, error in report.left_out.items())
        lines.append(f"Left out, their error stands out: {named}.")
    if missed:
        lines.append(f"Board not found in both images of: {', '.join(missed)}.")
    for line in (*lines, *report.remarks, f"Look at {out / 'report.html'}."):
        say(line, quiet=quiet, as_json=as_json)
