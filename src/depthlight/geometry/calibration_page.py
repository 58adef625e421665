"""The report of a calibration as one HTML page: no script, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from .boards import Board
from .calibrate import CalibrationReport, View
from .rectify import rectification

_WIDTH = 560  # px of a picture on the page
_INK, _BLUE, _RED, _YELLOW = (70, 70, 70), (0, 114, 178), (213, 60, 0), (255, 210, 60)
_STYLE = """body{font:16px/1.5 sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#24262b}
table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%;border:1px solid #ccc}
.bar{background:#0072b2;height:.8em;display:inline-block}.out .bar{background:#d53c00}.row{display:flex;gap:1em}
.remark{background:#fff3d0;padding:.4em .8em}"""


def page(
    report: CalibrationReport,
    board: Board,
    views: Sequence[View],
    missed: Sequence[str],
    example: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> str:
    """The page's text.

    Args:
        report: the calibration.
        board: the board it is from.
        views: all views with corners, those left out among them.
        missed: names of pairs in which the board was not found.
        example: one raw pair (H, W, 3) RGB uint8, shown rectified.
    """
    remarks = "".join(f'<p class="remark">{escape(remark)}</p>' for remark in report.remarks)
    parts = [
        f"<p>{escape(_summary(report, board))}</p>{remarks}",
        "<h2>Cameras</h2>" + _cameras(report),
        "<h2>Error of each view</h2>" + _errors(report),
    ]
    if missed:
        parts.append(f"<p>Board not found in both images of: {escape(', '.join(missed))}.</p>")
    shown = "".join(_image(_coverage(report, views, side), f"{side} corners") for side in ("left", "right"))
    parts.append(
        "<h2>Where the board was</h2><p>Each dot is a corner; views left out are red. The lens is known only where "
        f'there were corners.</p><div class="row">{shown}</div>'
    )
    parts.append(
        "<h2>One pair, rectified</h2><p>The same thing must lie on the same line in both views.</p>"
        + _image(_rectified(report, example), "a rectified pair with lines")
    )
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Stereo calibration</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>Stereo calibration</h1>\n{body}\n</body></html>\n"
    )


def _summary(report: CalibrationReport, board: Board) -> str:
    return (
        f"{len(report.errors)} views of a {board.columns}×{board.rows} {board.kind} with squares of "
        f"{1000 * board.square:g} mm, {report.lens} lens. Reprojection error {report.rms:.3f} px, epipolar error "
        f"{report.epipolar:.3f} px (largest {report.epipolar_max:.2f} px), both root mean square. "
        f"Baseline {1000 * report.cameras.baseline:.2f} mm. The corners cover {100 * report.coverage[0]:.0f} % of the "
        f"left and {100 * report.coverage[1]:.0f} % of the right image."
    )


def _cameras(report: CalibrationReport) -> str:
    rows = []
    for side, camera in (("left", report.cameras.left), ("right", report.cameras.right)):
        values = (camera.fx, camera.fy, camera.cx, camera.cy)
        cells = "".join(f'<td class="n">{value:.2f}</td>' for value in values)
        bent = ", ".join(f"{value:.4f}" for value in camera.distortion)
        rows.append(f"<tr><td>{side}</td>{cells}<td>{bent}</td></tr>")
    angle = np.degrees(np.linalg.norm(cv2.Rodrigues(report.cameras.rotation())[0]))
    shift = ", ".join(f"{1000 * value:.2f}" for value in report.cameras.T)
    head = "<tr><th></th><th>fx</th><th>fy</th><th>cx</th><th>cy</th><th>distortion</th></tr>"
    return f"<table>{head}{''.join(rows)}</table><p>Rotation {angle:.3f}°, T = ({shift}) mm.</p>"


def _errors(report: CalibrationReport) -> str:
    entries = [(name, error, "") for name, error in report.errors.items()]
    entries += [(name, error, " left out") for name, error in report.left_out.items()]
    largest = max(error for _, error, _ in entries)
    rows = [
        f'<tr class="{"out" if note else ""}"><td>{escape(name)}</td><td class="n">{error:.3f}</td>'
        f'<td><span class="bar" style="width:{360 * error / max(largest, 1e-9):.0f}px"></span>{note}</td></tr>'
        for name, error, note in sorted(entries)
    ]
    return f"<table><tr><th>view</th><th>px</th><th></th></tr>{''.join(rows)}</table>"


def _image(picture: NDArray[np.uint8], words: str) -> str:
    data = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))[1].tobytes()
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(data).decode("ascii")}">'


def _coverage(report: CalibrationReport, views: Sequence[View], side: str) -> NDArray[np.uint8]:
    width, height = report.cameras.left.size
    factor = _WIDTH / width
    canvas = np.full((round(height * factor), _WIDTH, 3), 255, np.uint8)
    for view in views:
        colour = _RED if view.name in report.left_out else _BLUE
        for x, y in getattr(view, side) * factor:
            cv2.circle(canvas, (round(x), round(y)), 3, colour, -1, cv2.LINE_AA)
    cv2.putText(canvas, side, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, _INK, 1, cv2.LINE_AA)
    return canvas


def _rectified(report: CalibrationReport, example: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    made = rectification(report.cameras)(*example)
    height = round(example[0].shape[0] * _WIDTH / example[0].shape[1])
    small = [cv2.resize(image, (_WIDTH, height), interpolation=cv2.INTER_AREA) for image in made]
    both = np.ascontiguousarray(np.concatenate(small, axis=1))
    for y in range(height // 12, height, height // 12):
        cv2.line(both, (0, y), (2 * _WIDTH - 1, y), _YELLOW, 1)
    return np.asarray(both, np.uint8)
