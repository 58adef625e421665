"""A prediction as a folder of files; ``result.json``, written last, says that it is whole.

Layout: ``disparity.png`` + ``disparity.json`` (dense), other formats on request, ``valid.png`` (255 = valid, else 0),
``confidence.png`` (8-bit, 255 = 1), ``preview.png``, after a left-right check ``disparity_right.png`` + ``.json``, with
a calibration ``depth.npy`` and ``cloud.ply``, and ``result.json``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DepthlightError, InputError, OutputError
from ..geometry.rig import StereoRig
from ..io.atomic import atomic_write_bytes
from ..io.disparity_files import write_disparity
from ..io.pictures import preview, write_image
from ..io.text import read_text
from .prediction import StereoPrediction

FORMATS = ("png", "npy", "pfm", "tiff")
RESULT = "result.json"
# Every name a prediction may take, the one that vouches for the others first.
OWNED = (
    RESULT,
    *(f"disparity.{suffix}" for suffix in ("json", *FORMATS)),
    "disparity_right.png",
    "disparity_right.json",
    "valid.png",
    "confidence.png",
    "preview.png",
    "depth.npy",
    "cloud.ply",
)


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
        folder: made if it is missing; files of an earlier run (:data:`OWNED`) are removed first.
        prediction: the result.
        left_HW3: the left image, RGB uint8, for the picture and the cloud's colours.
        formats: of the disparity: ``png`` (16-bit, always written), ``npy``, ``pfm``, ``tiff``.
        rig: adds ``depth.npy`` (metres, 0 = unknown) and ``cloud.ply``.
        truth_HW: true disparity in px: adds the error map to the picture.
        truth_valid_HW: where the truth is known; by default where it is finite.
        request: what was asked for (see :func:`is_complete`).

    Raises:
        InputError: unknown format, or the rig or the truth is for images of another size; nothing is touched then.
        OutputError: a file cannot be removed or written.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"unknown format {name!r}", expected="any of " + ", ".join(FORMATS))
    depth = None if rig is None else prediction.to_depth(rig)
    picture = preview(
        left_HW3,
        prediction.disparity,
        confidence_HW=prediction.confidence,
        truth_HW=truth_HW,
        truth_valid_HW=truth_valid_HW,
    )
    _clear(folder)
    files = _write_maps(folder, prediction, formats)
    write_image(folder / "preview.png", picture)
    files.append("preview.png")
    if depth is not None:
        depth.save(folder / "depth.npy")
        depth.to_point_cloud(left_HW3).save(folder / "cloud.ply")
        files += ["depth.npy", "cloud.ply"]
    result = {**prediction.summary(), "files": files, "request": dict(request or {})}
    atomic_write_bytes(folder / RESULT, json.dumps(result, indent=2).encode())
    return result


def _write_maps(folder: Path, prediction: StereoPrediction, formats: Sequence[str]) -> list[str]:
    """Disparities, ``valid`` and ``confidence``; returns the names."""
    meta = {"model": prediction.model.name, "weights_sha256": prediction.model.weights_sha256}
    maps = {f"disparity.{suffix}": prediction.disparity for suffix in ("png", *formats)}
    if prediction.disparity_right is not None:
        maps["disparity_right.png"] = prediction.disparity_right
    for name, disparity in maps.items():
        write_disparity(folder / name, disparity, meta=meta)
    pictures = {
        "valid.png": np.where(prediction.valid, np.uint8(255), np.uint8(0)),
        "confidence.png": np.round(prediction.confidence * 255).astype(np.uint8),
    }
    for name, picture in pictures.items():
        write_image(folder / name, picture)
    return [*maps, *pictures]


def _clear(folder: Path) -> None:
    """Remove an earlier prediction, its ``result.json`` first, so that no reader takes a mixture for a whole."""
    try:
        for name in OWNED:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename}: {error.strerror or error}",
            hint="Remove what is there, or choose another folder",
        ) from error


def need_apart(folders: Iterable[Path], inputs: Iterable[Path | None], names: Sequence[str] = OWNED) -> None:
    """Refuse to write ``names`` into ``folders`` where one of these files is an input, links followed.

    Raises:
        InputError: names the file.
    """
    written = {folder.resolve() for folder in folders}
    for path in inputs:
        if path is None or not path.is_file():
            continue
        for place in (path.resolve(), path.parent.resolve() / path.name):
            if place.name in names and place.parent in written:
                raise InputError(f"{path} is an input and would be replaced", hint="Choose another folder with --out")


def need_writable(folder: Path) -> None:
    """Make ``folder`` and try it out, before work is done for it.

    Raises:
        OutputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}: {error.strerror or error}", hint="Check that it is a writable folder"
        ) from error


def is_complete(folder: Path, request: Mapping[str, Any]) -> bool:
    """Whether ``folder`` holds a whole result of the same request (inputs, model, settings)."""
    try:
        result = json.loads(read_text(folder / RESULT, what="a result"))
    except (DepthlightError, ValueError, RecursionError):
        return False
    if not isinstance(result, dict) or result.get("request") != dict(request):
        return False
    files = result.get("files")
    return isinstance(files, list) and all(name in OWNED and (folder / name).is_file() for name in files)
