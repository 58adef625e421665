"""A prediction as a folder of files; ``result.json``, written last, says that it is whole.

Layout: ``disparity.png`` + ``disparity.json``, other formats on request, ``confidence.png`` (8-bit, 255 = 1),
``preview.png``, with a calibration ``depth.npy`` and ``cloud.ply``, and ``result.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..geometry.rig import StereoRig
from ..io.atomic import atomic_write_bytes
from ..io.disparity_files import write_disparity
from ..io.pictures import preview, write_image
from .prediction import StereoPrediction

FORMATS = ("png", "npy", "pfm", "tiff")
RESULT = "result.json"


def save_prediction(
    folder: Path,
    prediction: StereoPrediction,
    left_HW3: NDArray[np.uint8],
    *,
    formats: Sequence[str] = ("png",),
    rig: StereoRig | None = None,
    truth_HW: NDArray[np.float32] | None = None,
    truth_valid_HW: NDArray[np.bool_] | None = None,
    request: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write everything about one prediction; returns what ``result.json`` holds.

    Args:
        folder: made if it is missing; files of an earlier run are replaced.
        prediction: the result.
        left_HW3: the left image, RGB uint8, for the picture and the cloud's colours.
        formats: of the disparity: ``png`` (16-bit, always written), ``npy``, ``pfm``, ``tiff``.
        rig: adds ``depth.npy`` (metres, 0 = unknown) and ``cloud.ply``.
        truth_HW: true disparity in px: adds the error map to the picture.
        truth_valid_HW: where the truth is known; by default where it is finite.
        request: what was asked for (see :func:`is_complete`).
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"unknown format {name!r}", expected="any of " + ", ".join(FORMATS))
    meta = {"model": prediction.model.name, "weights_sha256": prediction.model.weights_sha256}
    files = []
    for suffix in dict.fromkeys(["png", *formats]):
        write_disparity(folder / f"disparity.{suffix}", prediction.disparity, meta=meta)
        files.append(f"disparity.{suffix}")
    confidence = np.round(prediction.confidence * 255).astype(np.uint8)
    write_image(folder / "confidence.png", confidence)
    picture = preview(
        left_HW3,
        prediction.disparity,
        confidence_HW=prediction.confidence,
        truth_HW=truth_HW,
        truth_valid_HW=truth_valid_HW,
    )
    write_image(folder / "preview.png", picture)
    files += ["confidence.png", "preview.png"]
    if rig is not None:
        depth = prediction.to_depth(rig)
        depth.save(folder / "depth.npy")
        depth.to_point_cloud(left_HW3).save(folder / "cloud.ply")
        files += ["depth.npy", "cloud.ply"]
    result = {**prediction.summary(), "files": files, "request": dict(request or {})}
    atomic_write_bytes(folder / RESULT, json.dumps(result, indent=2).encode())
    return result


def is_complete(folder: Path, request: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds a whole result of the same request (inputs, model, settings)."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (
        isinstance(result, dict)
        and result.get("request") == dict(request)
        and all((folder / name).is_file() for name in result.get("files", []))
    )
