"""A refinement as a folder of files; ``result.json``, written last, says that it is whole.

Layout: ``before.npy`` and ``after.npy`` (relative inverse depth, (H, W) float32), ``inverse_depth.png`` +
``inverse_depth.json`` (after), with measured depth ``depth.npy``, ``depth.png`` + ``depth.json`` (after, metres,
0 = unknown), ``normals_before.png`` and ``normals_after.png``, ``relit.png`` (the photo under four
fixed lights, before and after), ``difference.png``, ``losses.png`` and ``losses.csv``, ``preview.png``, and
``result.json``. While a run is under way its state is in ``state/``.

Shapes: H × W the photo, L lights.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..infer.folder import clear
from ..infer.owned import REFINED_PHOTO, RESULT
from ..io.atomic import atomic_path, atomic_write_bytes
from ..io.charts import line_chart
from ..io.colour import robust_range
from ..io.depth_files import write_depth
from ..io.inverse_depth import write_inverse_depth
from ..io.pictures import map_panel, panel, sheet, write_image
from ..nets.lighting import Lighting, relight
from .keeping import forget
from .loop import fitted_size
from .result import RefineResult

STATE = "state"
_RAW = "guidance_raw"  # in the history: the guidance without the weight of its noise level
_NOT_LOSSES = ("restart", "step", "loss", "t", _RAW)
_SHOWN = 480  # longest side of the re-lit photos, px
_LIGHTS = {
    "from the left": (-0.8, 0.2),
    "from the right": (0.8, 0.2),
    "from above": (0.0, 0.9),
    "from below": (0, -0.9),
}
_MATERIAL = (0.85, 0.15, 16.0)  # diffuse, specular, shininess


def save_refinement(
    folder: Path,
    result: RefineResult,
    photo_HW3: NDArray[np.uint8],
    *,
    request: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write everything about one refinement; returns what ``result.json`` holds.

    Files of an earlier result (:mod:`depthlight.infer.owned`) are removed first, and the state of the run last.

    Raises:
        OutputError: a file cannot be removed or written.
    """
    clear(folder, REFINED_PHOTO)
    for name, values_HW in (("before.npy", result.before), ("after.npy", result.after)):
        with atomic_path(folder / name) as temporary:
            np.save(temporary, values_HW, allow_pickle=False)
    meta = {"model": result.model["model"], "refined": True}
    write_inverse_depth(folder / "inverse_depth.png", result.after, meta=meta)
    if result.anchored is not None:
        for suffix in ("npy", "png"):
            write_depth(folder / f"depth.{suffix}", result.anchored.depth, meta=meta, view=None)
    for name, picture in _pictures(result, photo_HW3).items():
        write_image(folder / name, picture)
    if result.history:
        atomic_write_bytes(folder / "losses.csv", table(result.history))
    files = [name for name in REFINED_PHOTO[1:] if (folder / name).is_file()]
    # one that ended early answers no request, so that a folder run does it again
    facts = {**result.summary(), "files": files, "request": {} if result.stopped else dict(request or {})}
    atomic_write_bytes(folder / RESULT, json.dumps(facts, indent=2, allow_nan=False).encode())
    forget(folder / STATE)
    return facts


def _pictures(result: RefineResult, photo_HW3: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """All pictures, RGB."""
    normals = {"before": result.normals(before=True), "after": result.normals()}
    span = robust_range(result.before)
    maps = {
        name: map_panel(values_HW, f"Inverse depth {name}", unit="", span=span)
        for name, values_HW in (("before", result.before), ("after", result.after))
    }
    difference = _difference(result)
    pictures = {
        "normals_before.png": normal_colours(normals["before"]),
        "normals_after.png": normal_colours(normals["after"]),
        "relit.png": _relit_strip(photo_HW3, normals),
        "difference.png": difference,
        "preview.png": side_by_side([panel(photo_HW3, "Photo"), maps["before"], maps["after"], difference]),
    }
    return pictures | loss_pictures(result.history)


def normal_colours(normal_HW3: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Normals in −1..1 as RGB uint8: x (right) red, y (up) green, z (towards the viewer) blue."""
    return np.asarray(np.rint((normal_HW3.clip(-1, 1) + 1) * 127.5), np.uint8)


def _difference(result: RefineResult) -> NDArray[np.uint8]:
    """After minus before, in percent of the range before."""
    span = float(result.before.max() - result.before.min()) or 1.0
    change_HW = 100 * (result.after - result.before) / span
    reach = max(float(np.percentile(np.abs(change_HW), 99.5)), 1e-3)
    return map_panel(change_HW, "After minus before", unit="%", span=(-reach, reach))


def _relit_strip(photo_HW3: NDArray[np.uint8], normals: Mapping[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """A row before and a row after, a column per light."""
    height, width = fitted_size(photo_HW3.shape[0], photo_HW3.shape[1], _SHOWN)
    photo_B3hw = _batch(cv2.resize(photo_HW3, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255)
    count = len(_LIGHTS)
    diffuse, specular, shininess = _MATERIAL
    weights_L2 = torch.tensor([diffuse, specular]).expand(count, 2)
    lighting = Lighting.of(torch.tensor(list(_LIGHTS.values())), weights_L2, torch.full((count,), shininess))
    images, labels = [], []
    for name, normal_HW3 in normals.items():
        small_hw3 = cv2.resize(normal_HW3, (width, height), interpolation=cv2.INTER_AREA)
        normal_B3hw = torch.nn.functional.normalize(_batch(small_hw3), dim=1)
        relit_L3hw = relight(photo_B3hw, normal_B3hw, lighting)[0]
        images += [np.rint(relit.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for relit in relit_L3hw]
        labels += [f"{name}, {light}" for light in _LIGHTS]
    return sheet(images, columns=count, labels=labels)


def _batch(image_HW3: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image_HW3)).permute(2, 0, 1)[None]


def side_by_side(cells: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Cells of one height or another in two columns on white."""
    height, width = (max(cell.shape[axis] for cell in cells) + 12 for axis in (0, 1))
    canvas = np.full((2 * height, 2 * width, 3), 255, np.uint8)
    for index, cell in enumerate(cells):
        top, left = index // 2 * height + 6, index % 2 * width + 6
        canvas[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return canvas


def loss_pictures(history: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.uint8]]:
    """``losses.png``, where there are losses."""
    lines = curve(history)
    if not lines:
        return {}
    chart = line_chart(lines, title="Losses, smoothed", x_label="step", y_label="share of the first", points=False)
    return {"losses.png": chart}


def curve(history: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Means over a twentieth of the steps, each term as a share of its own first mean.

    Guidance is drawn without the weight of its noise level, where the history has that: the level falls over the run,
    and the guidance with it, whatever the prior has learned.
    """
    names = [name for name in history[0] if name not in _NOT_LOSSES] if history else []
    block = max(1, math.ceil(len(history) / 20))
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in names:
        source = _RAW if name == "guidance" and all(_RAW in row for row in history) else name
        values = [row[source] for row in history]
        means = [sum(part) / len(part) for part in (values[i : i + block] for i in range(0, len(values), block))]
        first = means[0] or 1.0
        lines[name] = [((i + 0.5) * block, mean / first) for i, mean in enumerate(means)]
    return lines


def table(history: Sequence[Mapping[str, float]]) -> bytes:
    """The history as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(history), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()


def _columns(rows: Iterable[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
