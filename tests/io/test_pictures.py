"""Pictures say what the numbers say: colours, ranges, layout, and files that read back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from depthlight.core.errors import InputError, OutputError, UnknownNameError
from depthlight.io.charts import LINE_COLOURS, _axis, line_chart
from depthlight.io.colour import (
    COLOUR_MAPS,
    ERROR_BOUNDS,
    ERROR_COLOURS,
    INVALID_COLOUR,
    colour_map,
    error_colours,
    robust_range,
)
from depthlight.io.drawing import fitted, font, label, ticks
from depthlight.io.images import read_image
from depthlight.io.pictures import error_panel, map_panel, panel, preview, sheet, write_image

RAMP = np.linspace(0, 50, 60, dtype=np.float32)[None].repeat(40, 0)
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def has_colour(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == np.array(colour, np.uint8)).all(axis=2).any())


# Colour


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_a_map_is_monotone_in_its_values_and_holds_at_its_ends(name: str) -> None:
    colours = colour_map(RAMP, 10, 40, name=name)
    assert colours.shape == (40, 60, 3) and colours.dtype == np.uint8
    assert np.array_equal(colours[0, 0], colour_map(np.array([[10.0]]), 10, 40, name=name)[0, 0])
    assert np.array_equal(colours[0, -1], colour_map(np.array([[40.0]]), 10, 40, name=name)[0, 0])
    inner = colours[0, (RAMP[0] > 10) & (RAMP[0] < 40)]
    assert len(np.unique(inner, axis=0)) == len(inner), "two values share a colour"


def test_turbo_is_rgb_near_red_far_blue() -> None:
    low, high = colour_map(np.array([[0.2, 0.85]]), 0, 1)[0].astype(int)
    assert low[2] > low[0] and high[0] > high[2]


def test_invalid_and_non_finite_pixels_are_dark() -> None:
    values = np.array([[1.0, np.nan, np.inf, 2.0]])
    colours = colour_map(values, 0, 3, valid_HW=np.array([[True, True, True, False]]))
    assert [tuple(c) == INVALID_COLOUR for c in colours[0].tolist()] == [False, True, True, True]


def test_bad_ranges_names_and_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="low < high"):
        colour_map(RAMP, 3, 3)
    with pytest.raises(InputError):
        colour_map(RAMP, 0, float("nan"))
    with pytest.raises(UnknownNameError, match="turbo"):
        colour_map(RAMP, 0, 1, name="turbu")
    with pytest.raises(InputError, match=r"\(H, W\)"):
        colour_map(PHOTO.astype(float), 0, 1)


def test_the_range_ignores_outliers_and_is_never_empty() -> None:
    values = np.arange(1000.0).reshape(25, 40)
    values[0, 0] = 1e9
    low, high = robust_range(values)
    assert low == pytest.approx(10, abs=2) and high == pytest.approx(990, abs=2)
    assert robust_range(np.full((2, 2), np.nan)) == (0, 1)
    assert robust_range(values, np.zeros(values.shape, bool)) == (0, 1)
    for constant in (0.0, 3.0, 1e7):
        low, high = robust_range(np.full((3, 3), constant))
        assert low < constant < high
    assert robust_range(np.array([[1.0, 5.0, 9.0]]), np.array([[False, True, False]])) == (4.5, 5.5)


def test_error_colours_change_at_their_bounds() -> None:
    for index, bound in enumerate(ERROR_BOUNDS):
        pair = error_colours(np.array([[bound * 0.999, bound]]), np.zeros((1, 2)))
        assert tuple(pair[0, 0].tolist()) == ERROR_COLOURS[index]
        assert tuple(pair[0, 1].tolist()) == ERROR_COLOURS[index + 1]


def test_errors_without_truth_are_dark_and_missing_estimates_worst() -> None:
    colours = error_colours(
        np.array([[1.0, np.nan, 1.0]]), np.array([[np.nan, 1.0, 1.0]]), np.array([[True, True, False]])
    )
    assert [tuple(c) for c in colours[0].tolist()] == [INVALID_COLOUR, ERROR_COLOURS[-1], INVALID_COLOUR]
    with pytest.raises(InputError, match="one shape"):
        error_colours(np.zeros((2, 2)), np.zeros((2, 3)))


# Panels and sheets


def test_a_panel_shows_its_image_unchanged_where_it_fits() -> None:
    photo = np.tile(PHOTO, (6, 6, 1))  # 240×360: neither enlarged nor reduced
    shown = panel(photo)
    assert np.array_equal(shown, photo)
    captioned = panel(photo, "Left image")
    assert np.array_equal(captioned[-240:], photo) and captioned.shape[1] == 360
    assert (captioned[:-240] < 128).any(), "no caption"


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 2000), (40, 60)])
def test_panels_of_extreme_sizes(size: tuple[int, int]) -> None:
    shown = map_panel(np.full(size, 3.0), "Disparity")
    assert shown.shape[0] <= 1200 and 240 <= shown.shape[1] <= 960


def test_a_scale_has_the_colours_of_the_map_and_marks() -> None:
    shown = map_panel(np.tile(RAMP, (4, 4)), "Disparity", span=(0, 50))
    bar = shown[-160:, 240 + 12 : 240 + 26]
    expected = colour_map(np.linspace(1, 0, 160)[:, None], 0, 1)[:, 0].astype(int)
    assert np.abs(bar.astype(int) - expected[:, None]).mean() < 4
    assert (shown[:, 240 + 30 :] < 128).any(), "no numbers"


def test_the_preview_uses_the_range_of_the_truth_and_says_the_error() -> None:
    bare = preview(PHOTO, RAMP)
    full = preview(PHOTO, RAMP + 3, confidence_HW=RAMP / 50, truth_HW=RAMP, valid_HW=RAMP > 1)
    assert full.shape[0] > bare.shape[0]
    assert has_colour(full, ERROR_COLOURS[5]) and not has_colour(bare, ERROR_COLOURS[5])
    assert has_colour(full, INVALID_COLOUR) and not has_colour(bare, INVALID_COLOUR)
    with pytest.raises(InputError, match="confidence is"):
        preview(PHOTO, RAMP, confidence_HW=RAMP[:-1])


def test_the_preview_of_a_wide_pair_stacks() -> None:
    wide = np.zeros((40, 400, 3), np.uint8)
    shown = preview(wide, np.zeros((40, 400)), confidence_HW=np.zeros((40, 400)))
    assert shown.shape[1] < 2 * 400


def test_an_error_panel_without_any_truth() -> None:
    assert has_colour(error_panel(RAMP, np.full(RAMP.shape, np.nan)), INVALID_COLOUR)


def test_a_sheet_holds_every_image_in_order() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    images = [np.full((20, 30, 3), colour, np.uint8) for colour in colours]
    shown = sheet(images, columns=2, labels=["a", "b", "c"], width=60)
    where = [np.argwhere((shown == np.array(c)).all(axis=2)) for c in colours]
    assert [len(w) for w in where] == [60 * 40] * 3
    (top, left), (_, right), (below, _) = (w.min(axis=0) for w in where)
    assert left < right and top < below


def test_bad_sheets_and_pictures_are_refused() -> None:
    for call in (
        lambda: sheet([], columns=2),
        lambda: sheet([PHOTO], columns=0),
        lambda: sheet([PHOTO], columns=1, labels=["a", "b"]),
        lambda: panel(PHOTO.astype(float)),
        lambda: panel(PHOTO[:, :, :2]),
    ):
        with pytest.raises(InputError):
            call()


# Charts


def test_a_chart_draws_each_line_in_its_colour_where_the_values_are() -> None:
    chart = line_chart({"up": [(0, 0), (10, 10)], "down": [(0, 10), (10, 0)]}, x_label="x", y_label="y", points=False)
    assert chart.shape == (460, 820, 3) and chart.dtype == np.uint8
    columns = {}
    for name, colour in zip(("up", "down"), LINE_COLOURS, strict=False):
        near = np.abs(chart.astype(int) - np.array(colour)).sum(axis=2) < 30
        rows, cols = np.nonzero(near[60:, 100:])  # below the legend
        columns[name] = np.corrcoef(rows, cols)[0, 1]
    assert columns["up"] < -0.9 and columns["down"] > 0.9


def test_a_non_finite_value_leaves_a_gap() -> None:
    whole = [(float(x), 1.0 + (x == 3)) for x in range(100)]
    broken = [(x, float("nan") if 30 < x < 70 else y) for x, y in whole]

    def empty_columns(line: list[tuple[float, float]]) -> int:
        chart = line_chart({"a": line}).astype(int)
        drawn = (np.abs(chart - np.array(LINE_COLOURS[0])).sum(axis=2) < 60).any(axis=0)
        return int((~drawn[100:780]).sum())

    assert empty_columns(whole) == 0
    assert 0.35 < empty_columns(broken) / 680 < 0.45


@pytest.mark.parametrize(
    "line", [[(1.0, 1.0)], [(0.0, 0.0)], [(1, 5), (2, 5)], [(-3, -2), (4, 1e9)], [(1e-9, 1e-12), (2e-9, 3e-12)]]
)
def test_charts_of_extreme_values(line: list[tuple[float, float]]) -> None:
    assert (line_chart({"a": line}, title="t" * 300, size=(320, 240)) < 128).any()


def test_logarithmic_charts() -> None:
    line = [(1.0, 1e-4), (10.0, 3e-3), (1000.0, 2e-5)]
    assert not np.array_equal(line_chart({"a": line}), line_chart({"a": line}, log_y=True))
    line_chart({"a": [(3.0, 3.3), (3.1, 3.4)]}, log_x=True, log_y=True)  # no power of ten within
    with pytest.raises(InputError, match="cannot show 0"):
        line_chart({"a": [(0.0, 1.0)]}, log_x=True)


def test_many_lines_have_a_legend_of_several_rows() -> None:
    series = {f"a rather long name, number {i}": [(0.0, float(i)), (1.0, 2.0 * i)] for i in range(9)}
    assert line_chart(series, title="Nine").shape == (460, 820, 3)


def test_empty_charts_are_refused() -> None:
    for series in ({}, {"a": []}, {"a": [(0.0, float("nan"))]}):
        with pytest.raises(InputError, match="finite point"):
            line_chart(series)
    with pytest.raises(InputError, match="at least"):
        line_chart({"a": [(0.0, 1.0)]}, size=(10, 10))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (8.3, 57.9), (-5, 5), (0, 1e-7), (1e8, 1e8 + 30), (3, 3)])
def test_ticks_are_round_ordered_and_within(low: float, high: float) -> None:
    marks = ticks(low, high, 5)
    assert 1 <= len(marks) <= 11
    assert all(low - 1e-9 * abs(low) <= m <= high * (1 + 1e-9) for m in marks)
    steps = {round((b - a) / (high - low), 6) for a, b in itertools.pairwise(marks)}
    assert len(steps) <= 1


def test_labels() -> None:
    values = (0.0, -0.0, 0.1 + 0.2, 5000, 20000, 2.5e6, -1500, 5e-5)
    assert [label(v) for v in values] == ["0", "0", "0.3", "5k", "20k", "2.5M", "-1.5k", "5e-05"]
    assert fitted("short", 500, 14) == "short"
    cut = fitted("a very long label", 60, 14)
    assert cut.endswith("…") and font(14).getlength(cut) <= 60


# Files


def test_pictures_are_written_and_read_back(tmp_path) -> None:
    write_image(tmp_path / "a.png", PHOTO)
    assert np.array_equal(read_image(tmp_path / "a.png"), PHOTO)
    write_image(tmp_path / "g.png", PHOTO[:, :, 0])
    assert np.array_equal(read_image(tmp_path / "g.png")[:, :, 1], PHOTO[:, :, 0])
    write_image(tmp_path / "a.jpg", np.full((20, 20, 3), (200, 90, 30), np.uint8))
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (200, 90, 30)).max() < 5
    write_image(tmp_path / "flipped.png", PHOTO[:, ::-1])
    assert np.array_equal(read_image(tmp_path / "flipped.png"), PHOTO[:, ::-1])


def test_pictures_that_cannot_be_written(tmp_path) -> None:
    for name, pixels in (("a.gif", PHOTO), ("a.png", PHOTO / 255), ("a.png", PHOTO[:, :, :2]), ("a.png", PHOTO[:0])):
        with pytest.raises(InputError):
            write_image(tmp_path / name, pixels)
    with pytest.raises(OutputError):
        write_image("/proc/none/a.png", PHOTO)
    assert not list(tmp_path.iterdir())


def test_a_short_logarithmic_axis_is_marked_all_the_same():
    assert _axis([1.2, 2.3], 400, 60, log=True, margin=0.0).shown() == pytest.approx([1.2, 1.4, 1.6, 1.8, 2.0, 2.2])
    assert _axis([80, 1500], 60, 800, log=True, margin=0.0).shown() == [100, 200, 500, 1000]
