"""``depthlight rectify``: raw pairs in; rectified pairs and their calibration out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..core.errors import CheckFailedError, DepthlightError, InputError
from ..geometry.calibration import read_calibration, write_calibration
from ..geometry.cameras import StereoCameras
from ..geometry.matches import Matches, match_points, vertical_error
from ..geometry.rectify import MAX_FIELD, Rectangle, rectification
from ..geometry.rig import StereoRig
from ..geometry.uncalibrated import LIMITS, rectify_matches
from ..infer.folder import need_apart, need_writable
from ..io.atomic import atomic_write_bytes
from ..io.images import image_size
from ..io.names import inside, pair_folders, safe_names
from ..io.native import read_native, write_native
from .calibration import CalibFormatOption, UnitOption, calibration_hash
from .common import JsonFlag, QuietFlag, emit_json, progress, say

Pixels = NDArray[Any]
RESULT = "result.json"
NAMES = (RESULT, "rig.json", "calib.txt", "mask_left.png", "mask_right.png", "left.png", "right.png")
POOLED = 10  # pairs of a folder whose matches fix an uncalibrated rectification
ERROR_TO_MENTION = 0.5  # px


@dataclass(frozen=True)
class Pair:
    """One raw pair and where its rectified images go."""

    name: str
    left: Path
    right: Path
    to_left: Path
    to_right: Path


@dataclass(frozen=True)
class Plan:
    """How every pair is rectified: ``run`` takes a raw pair, ``rig`` is None without a calibration."""

    run: Callable[[Pixels, Pixels], tuple[Pixels, Pixels]]
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    rectangle: Rectangle
    rig: StereoRig | None
    facts: dict[str, Any]


def rectify(
    left: Annotated[Path, typer.Argument(help="Raw left image, or folder.")],
    right: Annotated[Path, typer.Argument(help="Raw right image, or folder.")],
    calib: Annotated[Path | None, typer.Option(help="Calibration of the raw cameras (depthlight calibrate).")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("depthlight-rectified"),
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Rectify from matches alone: no calibration, no metres.")
    ] = False,
    calib_format: CalibFormatOption = None,
    unit: UnitOption = None,
    lens: Annotated[str | None, typer.Option("--lens", help="pinhole or fisheye, if the file does not say.")] = None,
    alpha: Annotated[float, typer.Option("--alpha", help="0: no black borders; 1: every raw pixel is kept.")] = 0.0,
    size: Annotated[
        str | None, typer.Option("--size", help="Size of the result, as 1280x720; by default the raw one.")
    ] = None,
    shift: Annotated[
        int, typer.Option("--shift", help="Make all disparities so many px smaller (doffs), for near scenes.")
    ] = 0,
    fov: Annotated[float, typer.Option("--fov", help="Largest field of view of the result, degrees.")] = MAX_FIELD,
    crop: Annotated[bool, typer.Option("--crop", help="Cut to the rectangle that both views know.")] = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Rectified pairs, their calibration (rig.json, calib.txt), masks of what is known, and the error in rows left.

    Bits and channels of the images are kept.
    """
    if (calib is None) != uncalibrated:
        raise InputError(
            "rectify needs a calibration or --uncalibrated, and not both", hint="depthlight calibrate makes one"
        )
    given = {
        "--calib-format": calib_format,
        "--unit": unit,
        "--lens": lens,
        "--alpha": alpha,
        "--size": size,
        "--shift": shift,
        "--fov": fov != MAX_FIELD,
    }
    useless = next((option for option, value in given.items() if value), None)
    if uncalibrated and useless:
        raise InputError(f"{useless} needs --calib", expected="--uncalibrated without it")
    pairs = _pairs(left, right, out)
    need_apart([out], [left, right, calib], NAMES)
    for folder in {pair.to_left.parent for pair in pairs} | {pair.to_right.parent for pair in pairs}:
        need_apart([folder], [p for pair in pairs for p in (pair.left, pair.right)], [p.to_left.name for p in pairs])
    wanted = None if size is None else _size(size)
    image = image_size(pairs[0].left)
    if calib is not None:
        found = read_calibration(calib, format=calib_format, unit=unit, size=(image[1], image[0]), lens=lens)
        plan = _calibrated(found.need_cameras(), (image[1], image[0]), alpha, wanted, shift, fov)
        plan.facts["calib"] = calibration_hash(calib)
    else:
        plan = _uncalibrated(pairs)
    need_writable(out)
    (out / RESULT).unlink(missing_ok=True)
    errors, failed = _run(pairs, plan, crop=crop, quiet=quiet)
    result = _finish(out, plan, errors, failed, crop=crop)
    if as_json:
        emit_json(result)
    _tell(out, result, quiet=quiet, as_json=as_json)
    if failed and len(failed) == len(pairs):
        raise next(iter(failed.values()))
    if failed:
        raise CheckFailedError(f"{len(failed)} of {len(pairs)} pairs failed, first {next(iter(failed))}")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if match is None or min(int(match[1]), int(match[2])) < 16:
        raise InputError(f"--size is {text[:40]!r}", expected="width x height in px, such as 1280x720")
    return int(match[1]), int(match[2])


def _pairs(left: Path, right: Path, out: Path) -> list[Pair]:
    for path in (left, right):
        if not path.exists():
            raise InputError(f"{path} does not exist", expected="an image or a folder")
    if left.is_dir() != right.is_dir():
        raise InputError(f"{left} and {right} are a folder and a file", expected="two images or two folders")
    if not left.is_dir():
        return [Pair(left.stem, left, right, out / "left.png", out / "right.png")]
    found = pair_folders(left, right)
    names = safe_names([stem for stem, _, _ in found])
    return [
        Pair(name, one, other, inside(out / "left", f"{name}.png"), inside(out / "right", f"{name}.png"))
        for name, (_, one, other) in zip(names, found, strict=True)
    ]


def _calibrated(
    cameras: StereoCameras,
    image: tuple[int, int],
    alpha: float,
    size: tuple[int, int] | None,
    shift: int,
    fov: float,
) -> Plan:
    scaled = cameras.resized(*image)
    made = rectification(scaled, alpha=alpha, size=size, shift=shift, max_field=fov)
    facts: dict[str, Any] = {
        "mode": "calibrated",
        "model": [camera.model for camera in (cameras.left, cameras.right)],
        "calibrated_size": list(cameras.left.size),
        "image_size": list(image),
        "alpha": alpha,
        "shift": shift,
        "rotation_left": made.left.rotation.tolist(),
        "rotation_right": made.right.rotation.tolist(),
    }
    return Plan(made, (made.left.mask, made.right.mask), made.rectangle, made.rig, facts)


def _uncalibrated(pairs: list[Pair]) -> Plan:
    """One rectification for all pairs, from the matches of up to :data:`POOLED` of them."""
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, min(POOLED, len(pairs))).astype(int))]
    found, size = [], (0, 0)
    for pair in chosen:
        one, other = read_native(pair.left), read_native(pair.right)
        if one.shape[:2] != other.shape[:2] or size not in ((0, 0), (one.shape[1], one.shape[0])):
            raise InputError(f"{pair.left} and the others differ in size", expected="images of one size")
        size = (one.shape[1], one.shape[0])
        found.append(match_points(one, other))
    matches = Matches(*(np.concatenate([getattr(one, side) for one in found]) for side in ("left", "right")))
    made = rectify_matches(matches, size)
    rows = np.abs(made.error)
    facts: dict[str, Any] = {
        "mode": "uncalibrated",
        "image_size": list(size),
        "limits": list(LIMITS),
        "focal_guess_px": made.focal,
        "shift": made.shift,
        "homography_left": made.left.tolist(),
        "homography_right": made.right.tolist(),
        "matches": len(matches),
        "inliers": len(made.inliers),
        "fit_error_px": {"median": float(np.median(rows)), "p90": float(np.percentile(rows, 90))},
    }
    return Plan(made, made.masks, made.rectangle, None, facts)


def _run(
    pairs: list[Pair], plan: Plan, *, crop: bool, quiet: bool
) -> tuple[dict[str, dict[str, Any] | None], dict[str, DepthlightError]]:
    errors: dict[str, dict[str, Any] | None] = {}
    failed: dict[str, DepthlightError] = {}
    area = _area(plan) if crop else None
    with progress("rectify", len(pairs), quiet=quiet) as bar:
        for pair in pairs:
            try:
                one, other = plan.run(read_native(pair.left), read_native(pair.right))
                measured = vertical_error(one, other, plan.masks)
                errors[pair.name] = None if measured is None else asdict(measured)
                write_native(pair.to_left, _cut(one, area))
                write_native(pair.to_right, _cut(other, area))
            except DepthlightError as error:
                if str(error) not in map(str, failed.values()):
                    bar.warn(f"{pair.name}: {error}")
                failed[pair.name] = error
            bar.step(pair.name)
    return errors, failed


def _area(plan: Plan) -> Rectangle:
    if min(plan.rectangle[2:]) < 32:
        raise InputError("the two views share hardly a pixel", expected="views that overlap", hint="Look at the masks")
    return plan.rectangle


def _cut(image: Pixels, area: Rectangle | None) -> Pixels:
    if area is None:
        return image
    x, y, width, height = area
    return np.ascontiguousarray(image[y : y + height, x : x + width])


def _finish(
    out: Path,
    plan: Plan,
    errors: dict[str, dict[str, Any] | None],
    failed: dict[str, DepthlightError],
    *,
    crop: bool,
) -> dict[str, Any]:
    """Masks, calibration and ``result.json``, the last one last."""
    area = plan.rectangle if crop else None
    for side, mask in zip(("left", "right"), plan.masks, strict=True):
        write_native(out / f"mask_{side}.png", _cut(np.where(mask, np.uint8(255), np.uint8(0)), area))
    rig = plan.rig
    if rig is not None:
        if area is not None:
            rig = rig.cropped(*area)
        write_calibration(out / "rig.json", rig, "json")
        write_calibration(out / "calib.txt", rig, "middlebury")
    else:
        for name in ("rig.json", "calib.txt"):
            (out / name).unlink(missing_ok=True)
    known = [error for error in errors.values() if error is not None]
    result: dict[str, Any] = {
        **plan.facts,
        "rig": None if rig is None else asdict(rig),
        "metres": rig is not None,
        "cropped": crop,
        "valid_rectangle": list(plan.rectangle),
        "valid_share": [float(mask.mean()) for mask in plan.masks],
        "vertical_error_px": float(np.median([one["median_absolute"] for one in known])) if known else None,
        "pairs": errors,
        "failed": {name: str(error) for name, error in failed.items()},
    }
    atomic_write_bytes(out / RESULT, json.dumps(result, indent=2).encode())
    return result


def _tell(out: Path, result: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    error = result["vertical_error_px"]
    left = "not measured (too few matches)" if error is None else f"{error:.2f} px (median)"
    say(f"{out}: {len(result['pairs'])} pairs; vertical error left: {left}.", quiet=quiet, as_json=as_json)
    if error is not None and error > ERROR_TO_MENTION:
        cause = (
            "the cameras have moved since the calibration, or it is poor. Calibrate again."
            if result["metres"]
            else "matches alone do not rectify these cameras. Calibrate them: depthlight calibrate."
        )
        say(f"More than half a pixel: {cause}", quiet=quiet, as_json=as_json)
    if not result["metres"]:
        say(f"Rectified from matches alone. {LIMITS[0]}", quiet=quiet, as_json=as_json)
