"""Samples on disk: scene folders, whole or not there at all, and pools of them that can be continued.

A scene folder holds ``left.*, right.*, disp.png, disp_right.png, nocc.png, calib.txt, meta.json``: disparity as 16-bit
PNG of round(d·256) with 0 for unknown, ``nocc`` 255 where seen in both views, the calibration in Middlebury 2014's
style (baseline in mm). Shape legend: H, W image size; 3 = RGB.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...core.config import from_dict, to_dict
from ...core.errors import ConfigError, DepthlightError, InputError, LimitError, OutputError
from ...core.memory import keep_freed_memory
from ...io.atomic import atomic_write_bytes
from ..samples import StereoSample
from .engine import VERSIONS, Engine, SynthConfig

ImageFormat = Literal["png", "jpg", "webp"]
# PNG: the fastest deflate. JPEG and WebP lose a little; the truth is always PNG.
ENCODING: dict[str, list[int]] = {
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
}
MANIFEST = "synth.json"
PER_WORKER = 8  # scenes queued per worker process
STALE_SECONDS = 3600.0  # no scene takes so long to write


def write_scene(folder: str | Path, sample: StereoSample, image_format: ImageFormat = "png") -> bool:
    """Write ``sample`` as the scene folder ``folder``; False if it was there already (it is left as it is).

    Everything is written into a hidden folder beside it, which is renamed when complete: a scene folder that exists
    is whole.

    Raises:
        LimitError: a known disparity beyond 255.99 px.
        OutputError: the disk refuses.
    """
    folder = Path(folder)
    if (folder / "meta.json").is_file():
        return False
    files = scene_files(sample, image_format)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            with (temporary / name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(folder)
    except OSError as error:
        raise OutputError(
            f"cannot write scene {folder}: {error.strerror or error}",
            hint="Check that the folder is writable and the disk has space",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def scene_files(sample: StereoSample, image_format: ImageFormat = "png") -> dict[str, bytes]:
    """The files of a scene folder, by name, as bytes."""
    files = {
        f"left.{image_format}": _image(sample.left_HW3, image_format),
        f"right.{image_format}": _image(sample.right_HW3, image_format),
    }
    if sample.disparity_HW is not None:
        files["disp.png"] = _disparity(sample.disparity_HW, sample.valid_HW)
    if sample.right_disparity_HW is not None:
        files["disp_right.png"] = _disparity(sample.right_disparity_HW, None)
    if sample.visible_HW is not None:
        files["nocc.png"] = _encoded(".png", sample.visible_HW.astype(np.uint8) * 255, ENCODING["png"])
    if "calibration" in sample.extra:
        files["calib.txt"] = _calibration(sample).encode()
    meta = {"name": sample.name, "made_by": f"depthlight {__version__}", **sample.extra}
    files["meta.json"] = (json.dumps(meta, indent=1, sort_keys=True) + "\n").encode()
    return files


def _image(image_HW3: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    return _encoded(
        f".{image_format}", np.asarray(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), np.uint8), ENCODING[image_format]
    )


def _disparity(disparity_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_] | None) -> bytes:
    steps = np.maximum(np.rint(disparity_HW * np.float32(256)), 1)  # 0 is kept for "unknown"
    if valid_HW is not None:
        steps[~valid_HW] = 0
    if not steps.max() <= 65535:
        raise LimitError(f"a disparity is {steps.max() / 256:.2f} px", expected="at most 255.99 px in a disparity PNG")
    return _encoded(".png", steps.astype(np.uint16), ENCODING["png"])


def _encoded(suffix: str, array: NDArray[Any], options: list[int]) -> bytes:
    good, data = cv2.imencode(suffix, array, options)
    if not good:
        raise OutputError(f"cannot encode {suffix} of shape {array.shape}")
    return bytes(data.tobytes())


def _calibration(sample: StereoSample) -> str:
    values: dict[str, float] = sample.extra["calibration"]
    height, width = sample.left_HW3.shape[:2]
    fx, fy, cx, cy, doffs = (values[key] for key in ("fx", "fy", "cx", "cy", "doffs"))
    largest = float(sample.extra["max_disp"])
    return (
        f"cam0=[{fx:.6f} 0 {cx:.6f}; 0 {fy:.6f} {cy:.6f}; 0 0 1]\n"
        f"cam1=[{fx:.6f} 0 {cx + doffs:.6f}; 0 {fy:.6f} {cy:.6f}; 0 0 1]\n"
        f"doffs={doffs:g}\nbaseline={values['baseline'] * 1000:.6f}\nwidth={width}\nheight={height}\n"
        f"ndisp={int(largest) + 1}\nisint=0\nvmin=0\nvmax={int(largest) + 1}\n"
    )


# --- pools ----------------------------------------------------------------------------------------------------------


def write_pool(
    folder: str | Path,
    config: SynthConfig,
    indices: Sequence[int],
    *,
    jobs: int = 1,
    image_format: ImageFormat = "png",
) -> Iterator[tuple[int, bool]]:
    """Write samples ``indices`` as ``folder/<index:06d>/``; yields (index, written) as they are done, in any order.

    Scenes that exist are kept (written = False), so an interrupted pool is continued by the same call, which also
    removes what a kill left behind. The settings are kept in ``synth.json``; ``jobs`` processes of one thread each.

    Raises:
        ConfigError: the folder holds a pool of other settings.
        DepthlightError: a sample cannot be made or written; scenes done so far stay.
    """
    folder = Path(folder)
    if jobs < 1:
        raise InputError(f"jobs is {jobs}", expected="1 or more")
    Engine(config)  # wrong settings end here, before a process starts
    _claim(folder, config, image_format)
    _clear(folder)
    missing = []
    for index in indices:
        if (folder / f"{index:06d}" / "meta.json").is_file():
            yield index, False
        else:
            missing.append(index)
    if jobs == 1:
        _start(to_dict(config), str(folder), image_format)
        yield from (_work(index)[:2] for index in missing)
    else:
        yield from _parallel(folder, config, missing, jobs, image_format)


def _claim(folder: Path, config: SynthConfig, image_format: str) -> None:
    """Write the pool's settings, or compare with those that are there."""
    versions = {family: VERSIONS[family] for family, weight in config.families.items() if weight > 0}
    settings = json.loads(json.dumps({"version": versions, "format": image_format, "config": _identity(config)}))
    manifest = folder / MANIFEST
    if not manifest.is_file():
        atomic_write_bytes(manifest, (json.dumps(settings, indent=1, sort_keys=True) + "\n").encode())
        return
    try:
        there = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{manifest} cannot be read: {error}", hint="Delete it or choose another folder") from error
    if [there.get("version")] == list(versions.values()):  # of one family, and written when all had one number
        there["version"] = versions
    if there != settings:
        was, now = there.get("config", {}), settings["config"]
        keys = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
        keys += sorted(key for key in ("version", "format") if there.get(key) != settings[key])
        raise ConfigError(
            f"{folder} holds a pool of other settings ({', '.join(keys)})",
            expected="the settings it was begun with, or another folder",
        )


def _clear(folder: Path) -> None:
    """Remove what interrupted writes left; what is younger may be in the making in another process."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # whole meanwhile, or not ours to remove
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path)


def _identity(config: SynthConfig) -> dict[str, Any]:
    """What decides the samples: not the size of a cache, nor where the machine keeps its files."""
    values = to_dict(config)
    for key in ("texture_cache_mb", "mesh_cache"):
        values.pop(key, None)
    for key in ("textures", "meshes"):
        if values.get(key):
            folder = Path(values[key])
            names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            listed = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
            values[key] = f"{folder.name}: {len(names)} files, {listed}"
    return values


_worker: dict[str, Any] = {}


def _start(config: dict[str, Any], folder: str, image_format: str) -> None:
    """What each worker process holds: its engine and where to write. One thread: the processes are the parallelism."""
    cv2.setNumThreads(1)
    keep_freed_memory()
    _worker.update(engine=Engine(from_dict(SynthConfig, config)), folder=Path(folder), format=image_format)


def _work(index: int) -> tuple[int, bool]:
    sample = _worker["engine"].sample(index)
    return index, write_scene(_worker["folder"] / f"{index:06d}", sample, _worker["format"])


def _guarded(index: int) -> tuple[int, bool, str]:
    """:func:`_work` with its error as text: not every exception survives the way between processes."""
    try:
        return (*_work(index), "")
    except DepthlightError as error:
        return index, False, str(error)


def _parallel(
    folder: Path, config: SynthConfig, indices: list[int], jobs: int, image_format: str
) -> Iterator[tuple[int, bool]]:
    setup = (to_dict(config), str(folder), image_format)
    context = multiprocessing.get_context("spawn")
    todo = iter(indices)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=setup) as workers:
        waiting: set[Future[tuple[int, bool, str]]] = set()
        try:
            while True:
                while len(waiting) < jobs * PER_WORKER and (index := next(todo, None)) is not None:
                    waiting.add(workers.submit(_guarded, index))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    index, written, problem = future.result()
                    if problem:
                        raise InputError(f"sample {index}: {problem}")
                    yield index, written
        finally:
            workers.shutdown(wait=True, cancel_futures=True)


def contact_sheet(samples: Sequence[StereoSample], *, width: int = 480) -> NDArray[np.uint8]:
    """Rows of left, right and disparity (each by its own largest; hidden pixels dimmed), RGB."""
    rows = []
    for sample in samples:
        truth = sample.disparity_HW
        if truth is None:
            raise InputError(f"sample {sample.name} has no disparity")
        scaled = np.clip(truth / max(float(truth.max()), 1e-6) * 255, 0, 255).astype(np.uint8)
        picture = cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO)[:, :, ::-1].astype(np.float32)
        if sample.visible_HW is not None:
            picture *= np.where(sample.visible_HW, np.float32(1), np.float32(0.55))[..., None]
        row = np.hstack([sample.left_HW3, sample.right_HW3, picture.astype(np.uint8)])
        height = round(row.shape[0] * 3 * width / row.shape[1])
        rows.append(cv2.resize(row, (3 * width, height), interpolation=cv2.INTER_AREA))
    return np.asarray(np.vstack(rows), np.uint8)
