"""One page about a pair: where matches are off their rows, by how much, and the findings in words."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...io.charts import LINE_COLOURS
from ...io.drawing import GRID, INK, PAPER, SOFT_INK, Colour, font, label, ticks, to_array
from .findings import Diagnosis
from .measure import Measurements

WIDTH, MARGIN, GAP = 1000, 20, 18
HEADING, TEXT, LINE = 18, 14, 20
CHART = 200  # height of the histograms
LINES = 250  # about as many vertical errors are drawn
STRETCH = 10  # vertical errors are drawn this many times as long
SEVERITY_COLOURS: dict[str, Colour] = {"error": (192, 36, 28), "warning": (196, 120, 0), "notice": SOFT_INK}
GOOD: Colour = (0, 130, 90)
Pixels = NDArray[np.uint8]


def diagnosis_page(diagnosis: Diagnosis, left_HW3: Pixels, right_HW3: Pixels) -> Pixels:
    """The page as RGB uint8: both views, the left with each match's vertical error, two histograms, the findings."""
    blocks = [_views(diagnosis.measured, left_HW3, right_HW3), _charts(diagnosis.measured), _words(diagnosis)]
    height = sum(block.height for block in blocks) + GAP * (len(blocks) + 1)
    page = Image.new("RGB", (WIDTH, height), PAPER)
    y = GAP
    for block in blocks:
        page.paste(block, (0, y))
        y += block.height + GAP
    return to_array(page)


def _views(measured: Measurements, left_HW3: Pixels, right_HW3: Pixels) -> Image.Image:
    width = (WIDTH - 2 * MARGIN - GAP) // 2
    shown = [_shrunk(view, width) for view in (left_HW3, right_HW3)]
    block = Image.new("RGB", (WIDTH, 26 + max(view.height for view in shown)), PAPER)
    pen = ImageDraw.Draw(block)
    _draw_errors(shown[0], measured, width / left_HW3.shape[1])
    titles = (f"Left, vertical errors of matches drawn {STRETCH} times as long", "Right")
    for column, (view, title) in enumerate(zip(shown, titles, strict=True)):
        x = MARGIN + column * (width + GAP)
        pen.text((x, 0), title, INK, font(TEXT))
        block.paste(view, (x, 26))
    return block


def _draw_errors(view: Image.Image, measured: Measurements, factor: float) -> None:
    """From each match's place in the left view up or down by its vertical error; wrong matches are left out."""
    matches, rows = measured.matches, measured.rows
    if matches is None or rows is None:
        return
    pen = ImageDraw.Draw(view)
    chosen = np.nonzero(rows.inlier_N)[0]
    for i in chosen[:: max(1, len(chosen) // LINES)]:
        (x, y), error = matches.left_N2[i] * factor, float(matches.right_N2[i, 1] - matches.left_N2[i, 1])
        colour = GOOD if abs(error) <= 1 else SEVERITY_COLOURS["warning" if abs(error) <= 2 else "error"]
        pen.line([(x, y), (x, y + STRETCH * error * factor)], colour, 2)
        pen.ellipse([x - 2, y - 2, x + 2, y + 2], colour)


def _charts(measured: Measurements) -> Image.Image:
    block = Image.new("RGB", (WIDTH, CHART + 50), PAPER)
    matches, rows = measured.matches, measured.rows
    if matches is None or rows is None:
        ImageDraw.Draw(block).text((MARGIN, 10), "Too few matches for histograms.", SOFT_INK, font(TEXT))
        return block
    apart_N2 = (matches.left_N2 - matches.right_N2)[rows.inlier_N]
    width = (WIDTH - 2 * MARGIN - GAP) // 2
    for column, (title, values) in enumerate(
        (("Vertical error, px (right - left)", -apart_N2[:, 1]), ("Disparity of the matches, px", apart_N2[:, 0]))
    ):
        _histogram(block, title, values, MARGIN + column * (width + GAP), width)
    return block


def _histogram(block: Image.Image, title: str, values_N: NDArray[np.float32], left: int, width: int) -> None:
    pen = ImageDraw.Draw(block)
    pen.text((left, 0), title, INK, font(TEXT))
    low, high = (float(v) for v in np.percentile(values_N, (1, 99)))
    room = max(1.0, 0.15 * (high - low))
    low, high = min(low - room, 0.0), max(high + room, 0.0)
    counts, _ = np.histogram(values_N, bins=60, range=(low, high))
    top, bottom = 28, 28 + CHART - 30

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * width

    for index, count in enumerate(counts):
        if count:
            x0, x1 = left + index * width / 60, left + (index + 1) * width / 60 - 1
            pen.rectangle([x0, bottom - count / counts.max() * (bottom - top), x1, bottom], LINE_COLOURS[0])
    pen.line([(left, bottom), (left + width, bottom)], GRID)
    pen.line([(place(0), top), (place(0), bottom)], INK)
    for value in ticks(low, high, 6):
        pen.text((place(value), bottom + 6), label(value), SOFT_INK, font(TEXT), anchor="ma")


def _words(diagnosis: Diagnosis) -> Image.Image:
    lines: list[tuple[str, Colour, int]] = []
    if not diagnosis.findings:
        lines.append(("Nothing wrong was found.", GOOD, HEADING))
    for finding in diagnosis.findings:
        lines.append((f"{finding.severity}: {finding.id}", SEVERITY_COLOURS[finding.severity], HEADING))
        text = f"{finding.says[0].upper()}{finding.says[1:]}. Why it matters: {finding.why}. What to do: {finding.do}."
        lines += [(part, INK, TEXT) for part in textwrap.wrap(text, 130)]
    heights = [LINE + (10 if size == HEADING else 0) for _, _, size in lines]
    block = Image.new("RGB", (WIDTH, sum(heights) + 4), PAPER)
    pen = ImageDraw.Draw(block)
    y = 0
    for (text, colour, size), height in zip(lines, heights, strict=True):
        pen.text((MARGIN, y + height - LINE), text, colour, font(size))
        y += height
    return block


def _shrunk(view_HW3: Pixels, width: int) -> Image.Image:
    height = min(max(1, round(view_HW3.shape[0] * width / view_HW3.shape[1])), 2 * width)
    smaller = width < view_HW3.shape[1]
    return Image.fromarray(
        np.asarray(
            cv2.resize(
                np.ascontiguousarray(view_HW3),
                (width, height),
                interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST,
            ),
            np.uint8,
        )
    )
