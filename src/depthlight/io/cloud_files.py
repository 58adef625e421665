"""Point clouds as bytes of PLY and PCD, both binary and little-endian; the unit and the axes are in their headers.

Points (N, 3) float32 are metres in camera axes: x right, y down, z forward. Normals (N, 3) float32 and colours (N, 3)
uint8 RGB may be missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ABOUT = "unit metre; x right, y down, z forward"
_PLY_TYPES = {"<f4": "float", "u1": "uchar"}


def encode_ply(
    points_N3: NDArray[np.float32],
    colours_N3: NDArray[np.uint8] | None = None,
    normals_N3: NDArray[np.float32] | None = None,
) -> bytes:
    """The cloud as a binary PLY (Turk 1994): x y z, nx ny nz, red green blue."""
    columns: dict[str, tuple[str, NDArray[Any]]] = {
        name: ("<f4", points_N3[:, axis]) for axis, name in enumerate("xyz")
    }
    if normals_N3 is not None:
        columns |= {name: ("<f4", normals_N3[:, axis]) for axis, name in enumerate(("nx", "ny", "nz"))}
    if colours_N3 is not None:
        columns |= {name: ("u1", colours_N3[:, axis]) for axis, name in enumerate(("red", "green", "blue"))}
    header = ["ply", "format binary_little_endian 1.0", f"comment {ABOUT}", f"element vertex {len(points_N3)}"]
    header += [f"property {_PLY_TYPES[kind]} {name}" for name, (kind, _) in columns.items()]
    return ("\n".join([*header, "end_header"]) + "\n").encode("ascii") + _records(columns)


def encode_pcd(
    points_N3: NDArray[np.float32],
    colours_N3: NDArray[np.uint8] | None = None,
    normals_N3: NDArray[np.float32] | None = None,
) -> bytes:
    """The cloud as a binary PCD 0.7 (Point Cloud Library): x y z, normal_x …, rgb packed as 0x00RRGGBB in a float."""
    columns: dict[str, tuple[str, NDArray[Any]]] = {
        name: ("<f4", points_N3[:, axis]) for axis, name in enumerate("xyz")
    }
    if normals_N3 is not None:
        columns |= {f"normal_{name}": ("<f4", normals_N3[:, axis]) for axis, name in enumerate("xyz")}
    if colours_N3 is not None:
        columns["rgb"] = ("<f4", packed_rgb(colours_N3))
    count = len(points_N3)
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        f"# {ABOUT}",
        "VERSION 0.7",
        "FIELDS " + " ".join(columns),
        "SIZE " + " ".join("4" for _ in columns),
        "TYPE " + " ".join("F" for _ in columns),
        "COUNT " + " ".join("1" for _ in columns),
        f"WIDTH {count}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {count}",
        "DATA binary",
    ]
    return ("\n".join(header) + "\n").encode("ascii") + _records(columns)


def packed_rgb(colours_N3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB as PCL and ROS keep it: the bits of 0x00RRGGBB, read as a float32."""
    wide = colours_N3.astype("<u4")
    bits: NDArray[np.uint32] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return bits.astype("<u4").view("<f4")


def _records(columns: dict[str, tuple[str, NDArray[Any]]]) -> bytes:
    length = len(next(iter(columns.values()))[1])
    table = np.empty(length, dtype=[(name, kind) for name, (kind, _) in columns.items()])
    for name, (_, values) in columns.items():
        table[name] = values
    return table.tobytes()
