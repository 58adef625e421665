"""``depthlight compare``: several models on one pair, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..core import registry
from ..core.errors import InputError
from ..eval.metrics import error_sums
from ..infer.folder import need_apart
from ..infer.load import load
from ..infer.prediction import StereoMatcher, StereoPrediction
from ..infer.sgbm import SgbmOracle
from ..io.colour import robust_range
from ..io.disparity_files import DisparityMap, read_disparity
from ..io.images import read_image
from ..io.pictures import error_panel, map_panel, panel, sheet, write_image
from .common import (
    BackendOption,
    DeviceOption,
    JsonFlag,
    MaxDispOption,
    PrecisionOption,
    QuietFlag,
    ThreadsOption,
    emit_json,
    say,
)
from .search import MinDispOption, Search

PICTURE = "compare.png"


def compare(
    left: Annotated[Path, typer.Argument(help="Left image.")],
    right: Annotated[Path, typer.Argument(help="Right image.")],
    models: Annotated[str, typer.Option("--models", "-m", help="Names, comma-separated.")] = "light,sgbm",
    truth: Annotated[Path | None, typer.Option("--truth", help="True disparity of the left view: adds errors.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the picture.")] = Path("depthlight-compare"),
    max_disp: MaxDispOption = None,
    min_disp: MinDispOption = 0,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Several models on one pair: time, range, mutual difference, errors where the truth is given, and a picture.

    Backend, device, precision and threads are those of the networks; sgbm has its own.
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise InputError("--models names no model", expected="names separated by commas, such as light,sgbm")
    need_apart([out], [left, right, truth], [PICTURE])
    pair = read_image(left), read_image(right)
    known = read_disparity(truth) if truth else None
    if known is not None and known.disparity_HW.shape != pair[0].shape[:2]:
        raise InputError(f"{truth} and {left} differ in size", expected="the true disparity of this left image")
    how: dict[str, Any] = {"backend": backend, "device": device, "precision": precision, "threads": threads}
    found = {
        name: _predict(
            load(name, **({} if name in registry.CLASSICAL else how)), pair, Search(max_disp, min_disp), known
        )
        for name in names
    }
    rows = {name: _facts(prediction, found[names[0]]) for name, prediction in found.items()}
    if known is not None:
        for name, prediction in found.items():
            sums = error_sums(prediction.disparity, known.disparity_HW, known.valid_HW, prediction.estimated)
            rows[name] |= sums.metrics().to_dict()
    picture = out / PICTURE
    write_image(picture, _sheet(pair[0], found, known))
    if as_json:
        emit_json({"reference": names[0], "models": rows, "picture": str(picture)})
        return
    for name, facts in rows.items():
        say(f"{name}: " + ", ".join(_word(key, value) for key, value in facts.items()), quiet=quiet)
    say(f"Look at {picture}.", quiet=quiet)


def _predict(
    matcher: StereoMatcher,
    pair: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    search: Search,
    known: DisparityMap | None,
) -> StereoPrediction:
    if isinstance(matcher, SgbmOracle) and known is not None:
        return matcher.predict_with_truth(*pair, known.disparity_HW, known.valid_HW)
    search.check(matcher)
    return matcher.predict(*pair, **search.options(matcher, [pair]))


def _sheet(
    left_HW3: NDArray[np.uint8], found: dict[str, StereoPrediction], known: DisparityMap | None
) -> NDArray[np.uint8]:
    """Left image, then each model's disparity in one colour range, with its error map where the truth is known."""
    first = next(iter(found.values())).disparity
    span = robust_range(first) if known is None else robust_range(known.disparity_HW, known.valid_HW)
    panels = [panel(left_HW3, "Left image")]
    if known is not None:
        panels.append(map_panel(known.disparity_HW, "Ground truth", span=span, valid_HW=known.valid_HW))
    for name, prediction in found.items():
        panels.append(map_panel(prediction.disparity, name, span=span))
        if known is not None:
            panels.append(error_panel(prediction.disparity, known.disparity_HW, known.valid_HW))
    return _of_one_width(panels)


def _of_one_width(panels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Two columns; a panel without a scale gets white in its place, so that all images keep one size."""
    width = max(one.shape[1] for one in panels)
    padded = [np.pad(one, ((0, 0), (0, width - one.shape[1]), (0, 0)), constant_values=255) for one in panels]
    return sheet(padded, columns=2, width=width)


def _facts(prediction: StereoPrediction, reference: StereoPrediction) -> dict[str, Any]:
    difference: NDArray[np.float32] = np.abs(prediction.disparity - reference.disparity)
    return {
        "seconds": round(prediction.seconds, 3),
        "disparity_min": round(float(prediction.disparity.min()), 2),
        "disparity_max": round(float(prediction.disparity.max()), 2),
        "median_difference_to_first": round(float(np.median(difference)), 3),
        "saturated_share": round(prediction.saturated, 4),
    }


def _word(key: str, value: Any) -> str:
    return f"{key.replace('_', ' ')} {value:.2f}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
