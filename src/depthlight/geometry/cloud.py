"""Point clouds and the file format everyone reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..io.atomic import atomic_write_bytes


@dataclass(frozen=True)
class PointCloud:
    """``points`` (N, 3) float32 metres, x right, y down, z forward; ``colours`` (N, 3) uint8 RGB or None."""

    points: NDArray[np.float32]
    colours: NDArray[np.uint8] | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a binary little-endian PLY; the unit is in its header."""
        if Path(path).suffix.lower() != ".ply":
            raise InputError(f"cannot write a cloud to {path}", expected="a name ending in .ply")
        atomic_write_bytes(path, encode_ply(self))


def encode_ply(cloud: PointCloud) -> bytes:
    """The cloud as bytes of a binary PLY (Turk 1994)."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    header = ["ply", "format binary_little_endian 1.0", "comment unit metre; x right, y down, z forward"]
    header += [f"element vertex {len(cloud.points)}", "property float x", "property float y", "property float z"]
    if cloud.colours is not None:
        fields += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
        header += ["property uchar red", "property uchar green", "property uchar blue"]
    header.append("end_header")
    vertices = np.empty(len(cloud.points), dtype=fields)
    for axis, name in enumerate("xyz"):
        vertices[name] = cloud.points[:, axis]
    if cloud.colours is not None:
        for axis, name in enumerate(("red", "green", "blue")):
            vertices[name] = cloud.colours[:, axis]
    return ("\n".join(header) + "\n").encode("ascii") + vertices.tobytes()
