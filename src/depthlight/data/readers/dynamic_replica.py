"""Dynamic Replica."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ...core.errors import FileFormatError, InputError
from ..decoders import Truth, decode_depth_half
from .base import Entry, Reader, checked_root, choice


class DynamicReplica(Reader):
    """Karaev et al., "DynamicStereo" (CVPR 2023).

    Layout documented by ``datasets/dynamic_stereo_datasets.py`` of facebookresearch/dynamic_stereo: the paths of images
    and depth, the cameras (PyTorch3D, NDC) and what belongs together are in one gzipped JSON list per split::

        <split>/frame_annotations_<split>.jgz
        <split>/<sequence>_left/images/…png, <sequence>_left/depths/…geometric.png, <sequence>_right/…

    Args:
        root: the folder that holds the splits, or a split's own.
        split: train, valid or test.
    """

    layout: ClassVar[str] = "<split>/frame_annotations_<split>.jgz beside the folders of its sequences"

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        choice("split", split, ("train", "valid", "test"))
        self.name = f"dynamic-replica-{split}"
        base = checked_root(root, self.name, self.layout)
        file = f"frame_annotations_{split}.jgz"
        found = [folder for folder in (base / split, base) if (folder / file).is_file()]
        if not found:
            raise InputError(f"{base} has no {file}", expected=self.layout, path=str(base))
        super().__init__(found[0], _entries(found[0], found[0] / file))

    def decode(self, path: Path, entry: Entry) -> Truth:
        return decode_depth_half(path, entry.extra["focal_baseline"])


def _entries(folder: Path, file: Path) -> Iterator[Entry]:
    pairs: dict[tuple[str, int], dict[str, Any]] = {}
    try:
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for frame in json.load(stream):
                key = str(frame["sequence_name"]), int(frame["frame_number"])
                pairs.setdefault(key, {})[str(frame["camera_name"])] = frame
        for (sequence, number), views in pairs.items():
            if {"left", "right"} <= views.keys():
                yield _entry(folder, f"{sequence}/{number:04d}", views["left"], views["right"])
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{file} is damaged or of another kind ({type(error).__name__}: {error})",
            expected="gzipped JSON: a list of frames with image, depth, viewpoint, camera_name",
            path=str(file),
        ) from None


def _entry(folder: Path, name: str, left: dict[str, Any], right: dict[str, Any]) -> Entry:
    paths = [_inside(folder, view[kind]["path"]) for kind in ("image", "depth") for view in (left, right)]
    extra = {"focal_baseline": _focal_baseline(left, right)}
    return Entry(name, paths[0], paths[1], paths[2], paths[3], extra=extra)


def _inside(folder: Path, inner: str) -> Path:
    if PurePosixPath(inner).is_absolute() or ".." in PurePosixPath(inner).parts:
        raise ValueError(f"the path {inner!r} leads out of the set")
    return folder / inner


def _focal_baseline(left: dict[str, Any], right: dict[str, Any]) -> float:
    """fx in px times the baseline in m, from PyTorch3D's NDC cameras (x to the left, hence right minus left)."""
    height, width = (float(side) for side in left["image"]["size"])
    view = left["viewpoint"]
    kind = str(view["intrinsics_format"]).lower()
    half = {"ndc_isotropic": min(height, width) / 2, "ndc_norm_image_bounds": width / 2}[kind]
    focal = float(view["focal_length"][0]) * half
    baseline = float(right["viewpoint"]["T"][0]) - float(view["T"][0])
    if not focal * baseline > 0:
        raise ValueError(f"focal length {focal:g} px and baseline {baseline:g} m, both must be positive")
    return focal * baseline
