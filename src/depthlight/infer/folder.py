"""A prediction as a folder of files; ``result.json``, written last, says that it is whole.

Layout: ``disparity.png`` + ``disparity.json`` (dense within the region asked for), other formats on request,
``valid.png`` (255 = valid, else 0), ``confidence.png`` (8-bit, 255 = 1), ``preview.png``, after a left-right check
``disparity_right.png`` + ``.json``, with a calibration depth, its uncertainty, cloud and mesh
(:mod:`depthlight.infer.metres`), and ``result.json``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from .metres import Metres, check_fits, write_metres
from .owned import EVERY, RESULT, STEREO
from .prediction import StereoPrediction

FORMATS = ("png", "npy", "pfm", "tiff")
RIGHT = "disparity_right.png"
More = Callable[[], tuple[Iterable[str], Mapping[str, Any]]]


def save_prediction(
    folder: Path,
    prediction: StereoPrediction,
    left_HW3: NDArray[np.uint8],
    *,
    formats: Sequence[str] = ("png",),
    rig: StereoRig | None = None,
    metres: Metres | None = None,
    truth_HW: NDArray[np.float32] | None = None,
    truth_valid_HW: NDArray[np.bool_] | None = None,
    request: Mapping[str, Any] | None = None,
    more: More | None = None,
) -> dict[str, Any]:
    """Write everything about one prediction; returns what ``result.json`` holds.

    Args:
        folder: made if it is missing; files of an earlier result (:mod:`.owned`) are removed first.
        prediction: the result.
        left_HW3: the left image, RGB uint8, for the picture and the cloud's colours.
        formats: of the disparity: ``png`` (16-bit, always written), ``npy``, ``pfm``, ``tiff``.
        rig: adds what is in metres.
        metres: what that is; by default ``depth.npy`` (0 = unknown), ``depth_sigma.npy`` and ``cloud.ply``.
        truth_HW: true disparity in px: adds the error map to the picture.
        truth_valid_HW: where the truth is known; by default where it is finite.
        request: what was asked for (see :func:`is_complete`).
        more: writes what else belongs to the result, before ``result.json``; answers the names of these files, and
            further entries of ``result.json``.

    Raises:
        InputError: unknown format, the rig or the truth is for images of another size, or no pixel lies in the range of
            depths; nothing is touched then.
        LimitError: the voxels are too fine for the cloud; nothing is touched then either.
        OutputError: a file cannot be removed or written.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"unknown format {name!r}", expected="any of " + ", ".join(FORMATS))
    metres = metres or Metres()
    depth = None if rig is None else check_fits(prediction.to_depth(rig), metres)
    picture = preview(
        left_HW3,
        prediction.disparity,
        valid_HW=prediction.region,
        confidence_HW=prediction.confidence,
        truth_HW=truth_HW,
        truth_valid_HW=truth_valid_HW,
    )
    clear(folder, STEREO)
    files = _write_maps(folder, prediction, formats)
    write_image(folder / "preview.png", picture)
    files.append("preview.png")
    result: dict[str, Any] = prediction.summary()
    if depth is not None:
        named, result["metres"] = write_metres(folder, depth, left_HW3, metres)
        files += named
    if more is not None:
        further, facts = more()
        files += further
        result |= facts
    result |= {"files": files, "request": dict(request or {})}
    atomic_write_bytes(folder / RESULT, json.dumps(result, indent=2).encode())
    return result


def _write_maps(folder: Path, prediction: StereoPrediction, formats: Sequence[str]) -> list[str]:
    """Disparities with their sidecars, ``valid`` and ``confidence``; returns the names."""
    meta = {"model": prediction.model.name, "weights_sha256": prediction.model.weights_sha256}
    maps = {f"disparity.{suffix}": (prediction.disparity, prediction.region) for suffix in ("png", *formats)}
    if prediction.disparity_right is not None:
        maps[RIGHT] = prediction.disparity_right, prediction.region_right
    for name, (disparity, valid_HW) in maps.items():
        view = "right" if name == RIGHT else "left"
        signed = prediction.min_disp < 0
        write_disparity(folder / name, disparity, valid_HW=valid_HW, meta=meta, signed=signed, view=view)
    pictures = {
        "valid.png": np.where(prediction.valid, np.uint8(255), np.uint8(0)),
        "confidence.png": np.round(prediction.confidence * 255).astype(np.uint8),
    }
    for name, picture in pictures.items():
        write_image(folder / name, picture)
    return [*maps, *dict.fromkeys(str(Path(name).with_suffix(".json")) for name in maps), *pictures]


def clear(folder: Path, names: Sequence[str]) -> None:
    """Remove ``names`` and an earlier result of any kind, ``result.json`` first: no reader takes a mixture for a whole.

    Of other kinds than ``names`` only what that ``result.json`` lists goes: a file of somebody else's is left alone.
    """
    listed = _listed(folder)
    try:
        for name in dict.fromkeys((*names, *listed)):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename}: {error.strerror or error}",
            hint="Remove what is there, or choose another folder",
        ) from error


def _listed(folder: Path) -> list[str]:
    """The files that an earlier ``result.json`` counts as its own, of the names that results take."""
    try:
        files = json.loads(read_text(folder / RESULT, what="a result"))["files"]
        return [name for name in EVERY if name in files]
    except (DepthlightError, ValueError, RecursionError, KeyError, TypeError):
        return []


def need_apart(folders: Iterable[Path], inputs: Iterable[Path | None], names: Sequence[str] = EVERY) -> None:
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
    return isinstance(files, list) and all(name in EVERY and (folder / name).is_file() for name in files)
