"""A single-image prediction as a folder of files; ``result.json``, written last, says that it is whole.

Layout: relative models write ``inverse_depth.png`` + ``inverse_depth.json`` (16 bits; scale and offset in the sidecar),
metric ones ``depth.png`` + ``depth.json`` (16 bits, metres by the stated scale, 0 = none); ``.npy`` of either on
request; with a known focal length ``cloud.ply``; ``normals.png`` (8 bits, (n + 1) / 2: red right, green up, blue
towards the viewer), ``preview.png``, on request ``side_by_side.jpg``, and ``result.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..io.atomic import atomic_write_bytes
from ..io.colour import colour_map, robust_range
from ..io.depth_files import write_depth
from ..io.inverse_depth import write_inverse_depth
from ..io.pictures import sheet, write_image
from .folder import clear
from .mono_prediction import NAMES, MonoPrediction
from .owned import MONO, RESULT

FORMATS = ("png", "npy")
PANEL_WIDTH = 480
SIDE_BY_SIDE = "side_by_side.jpg"


def save_mono(
    folder: Path,
    prediction: MonoPrediction,
    image_HW3: NDArray[np.uint8],
    *,
    formats: Sequence[str] = ("png",),
    side_by_side: NDArray[np.uint8] | None = None,
    request: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write everything about one prediction; returns what ``result.json`` holds.

    Args:
        folder: made if it is missing; files of an earlier result (:mod:`.owned`) are removed first.
        image_HW3: the image, RGB uint8, for the picture and the cloud's colours.
        formats: of the map: ``png`` (always written), ``npy`` (float32).
        side_by_side: a picture for 3-D viewers (:mod:`depthlight.infer.second_view`).
        request: what was asked for (see :func:`depthlight.infer.folder.is_complete`).
        facts: further entries of ``result.json``.

    Raises:
        InputError: unknown format, or the image has another size; nothing is touched then.
        LimitError: metric depth beyond what a 16-bit PNG holds.
        OutputError: a file cannot be removed or written.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"unknown format {name!r}", expected="any of " + ", ".join(FORMATS))
    if image_HW3.shape[:2] != prediction.values.shape:
        raise InputError(
            f"the image is {image_HW3.shape[:2]}", expected=f"{prediction.values.shape}, as the prediction"
        )
    normals_HW3 = np.rint((prediction.normals() + 1) * 127.5).astype(np.uint8)
    clear(folder, MONO)
    files = _write_maps(folder, prediction, tuple(dict.fromkeys(("png", *formats))))
    pictures = {"normals.png": normals_HW3, "preview.png": preview(image_HW3, prediction, normals_HW3)}
    if side_by_side is not None:
        pictures[SIDE_BY_SIDE] = side_by_side
    for name, picture in pictures.items():
        write_image(folder / name, picture)
    files += pictures
    if prediction.is_metric and prediction.focal is not None:
        prediction.to_depth().without_tails().to_point_cloud(image_HW3).save(folder / "cloud.ply")
        files.append("cloud.ply")
    result = prediction.summary() | dict(facts or {}) | {"files": files, "request": dict(request or {})}
    atomic_write_bytes(folder / RESULT, json.dumps(result, indent=2).encode())
    return result


def _write_maps(folder: Path, prediction: MonoPrediction, formats: Sequence[str]) -> list[str]:
    stem = "depth" if prediction.is_metric else "inverse_depth"
    meta = {"model": prediction.model.name, "weights_sha256": prediction.model.weights_sha256}
    files = [f"{stem}.json"]
    for suffix in formats:
        path = folder / f"{stem}.{suffix}"
        if prediction.is_metric:
            write_depth(path, prediction.values, meta=meta, view=None)
        else:
            write_inverse_depth(path, prediction.values, meta=meta)
        files.append(path.name)
    return files


def preview(
    image_HW3: NDArray[np.uint8], prediction: MonoPrediction, normals_HW3: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The image, the map with the range it shows, and the normals, side by side."""
    low, high = robust_range(prediction.values)
    what = NAMES[prediction.quantity]
    unit = " m" if prediction.is_metric else ""
    caption = f"{what[0].upper()}{what[1:]}, {low:.3g} (blue) to {high:.3g}{unit} (red)"
    maps = [image_HW3, colour_map(prediction.values, low, high), normals_HW3]
    return sheet(maps, columns=3, labels=("Image", caption, "Normals"), width=PANEL_WIDTH)
