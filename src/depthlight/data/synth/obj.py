"""Wavefront OBJ and MTL: the parts of the format that furniture and game models use.

Format: Wavefront "Advanced Visualizer" appendix B1 (OBJ) and the MTL specification. Read: ``v``, ``vt``, ``vn``, ``f``
(any polygon, negative indices, missing uv or normal), ``usemtl``, ``mtllib``; of a material ``Kd``, ``Ks``, ``Ns``,
``d``, ``Tr``, ``map_Kd``. Everything else (curves, groups, lines, points) is passed over.

Shape legend: F triangles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...core.errors import FileFormatError, LimitError
from .solids import Mesh, soup

MAX_BYTES = 64 << 20
MAX_TRIANGLES = 400_000
MAX_CORNERS = 4096  # of one polygon

Fetch = Callable[[str], bytes | None]


@dataclass(frozen=True)
class ObjMaterial:
    """One ``newmtl``: diffuse and specular display RGB 0..1, exponent 0..1000, opacity 0..1, texture file or ""."""

    diffuse: tuple[float, float, float] = (0.7, 0.7, 0.7)
    specular: tuple[float, float, float] = (0.0, 0.0, 0.0)
    exponent: float = 20.0
    opacity: float = 1.0
    texture: str = ""


@dataclass(frozen=True)
class ObjModel:
    """A model as it is in the file: triangles in the file's own units; ``mesh.slot_F`` indexes ``materials``."""

    mesh: Mesh
    materials: tuple[ObjMaterial, ...]


@dataclass
class _Tables:
    """What an OBJ file lists, in order; corners are (v, vt, vn) indices from 0, -1 where absent."""

    positions: list[tuple[float, float, float]] = field(default_factory=list)
    uvs: list[tuple[float, float]] = field(default_factory=list)
    normals: list[tuple[float, float, float]] = field(default_factory=list)
    triangles: list[tuple[tuple[int, int, int], ...]] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=lambda: {"": 0})
    libraries: list[str] = field(default_factory=list)


def parse_obj(data: bytes, fetch: Fetch, name: str = "model.obj") -> ObjModel:
    """Parse an OBJ file.

    Args:
        data: the file's bytes. fetch: gives the bytes of a neighbouring file (the MTL) or None if there is none.
        name: for error messages.

    Raises:
        FileFormatError: a number is not one, an index points nowhere, no face at all, or a value is not finite.
        LimitError: more than ``MAX_BYTES`` or ``MAX_TRIANGLES``.
    """
    if len(data) > MAX_BYTES:
        raise LimitError(f"{name} has {len(data) >> 20} MB", expected=f"at most {MAX_BYTES >> 20} MB")
    tables, slot = _Tables(), 0
    for number, words in _lines(data):
        try:
            slot = _take(words, tables, slot)
        except (ValueError, IndexError, OverflowError) as error:
            line = " ".join(words)[:60]
            raise FileFormatError(f"{name}, line {number}: cannot read {line!r} ({error})", expected="OBJ") from None
        if len(tables.triangles) > MAX_TRIANGLES:
            raise LimitError(f"{name} has more than {MAX_TRIANGLES} triangles", hint="Simplify the model")
    if not tables.triangles:
        raise FileFormatError(f"{name} has no faces", expected="an OBJ model with 'f' lines")
    return ObjModel(_build(tables, name), _materials(tables, fetch, name))


def _lines(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Numbered lines as words; a backslash at the end joins a line with the next."""
    text = data.decode("utf-8", errors="replace").replace("\\\r\n", " ").replace("\\\n", " ")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and words[0][0] != "#":
            yield number, words


def _take(words: list[str], tables: _Tables, slot: int) -> int:
    """Read one line into the tables; returns the current material's slot."""
    kind = words[0]
    if kind == "v":
        tables.positions.append((float(words[1]), float(words[2]), float(words[3])))
    elif kind == "vt":
        tables.uvs.append((float(words[1]), float(words[2]) if len(words) > 2 else 0.0))
    elif kind == "vn":
        tables.normals.append((float(words[1]), float(words[2]), float(words[3])))
    elif kind == "f":
        _take_face(words[1:], tables, slot)
    elif kind == "usemtl":
        return tables.names.setdefault(" ".join(words[1:]), len(tables.names))
    elif kind == "mtllib":
        tables.libraries.append(" ".join(words[1:]))
    return slot


def _take_face(words: list[str], tables: _Tables, slot: int) -> None:
    if len(words) > MAX_CORNERS:
        raise ValueError(f"a polygon of {len(words)} corners")
    sizes = (len(tables.positions), len(tables.uvs), len(tables.normals))
    corners = [_corner(word, sizes) for word in words]
    for i in range(1, len(corners) - 1):
        tables.triangles.append((corners[0], corners[i], corners[i + 1]))
        tables.slots.append(slot)


def _corner(word: str, sizes: tuple[int, int, int]) -> tuple[int, int, int]:
    """``v``, ``v/vt``, ``v//vn`` or ``v/vt/vn``, from 1 or negative from the end, to indices from 0."""
    indices = [-1, -1, -1]
    for position, part in enumerate(word.split("/")[:3]):
        if not part:
            continue
        index = int(part)
        index = index - 1 if index > 0 else sizes[position] + index
        if not 0 <= index < sizes[position]:
            if position == 0:
                raise ValueError(f"index {part} of {sizes[0]} points")
            index = -1  # a missing uv or normal is made up
        indices[position] = index
    if indices[0] < 0:
        raise ValueError("a corner without a point")
    return indices[0], indices[1], indices[2]


def _build(tables: _Tables, name: str) -> Mesh:
    positions = np.array(tables.positions, np.float64)
    corners_F33 = np.array(tables.triangles, np.int64)
    slot_F = np.array(tables.slots, np.int32)
    if not np.isfinite(positions).all() or np.abs(positions).max() > 1e9:
        raise FileFormatError(f"{name} has points that are not finite", expected="finite coordinates")
    positions_F33 = positions[corners_F33[..., 0]]
    positions_F33 = positions_F33 - positions_F33.reshape(-1, 3).mean(axis=0)
    extent = np.ptp(positions_F33.reshape(-1, 3), axis=0).max()
    if not extent > 0:
        raise FileFormatError(f"{name} has no extent", expected="a model with some size")
    positions_F33 /= extent
    flat_F3 = np.cross(positions_F33[:, 1] - positions_F33[:, 0], positions_F33[:, 2] - positions_F33[:, 0])
    length_F = np.linalg.norm(flat_F3, axis=-1)
    keep_F = length_F > 1e-10  # the same rule as soup's
    flat_F33 = np.repeat((flat_F3 / np.maximum(length_F, 1e-12)[:, None])[:, None], 3, axis=1)
    normals_F33 = _looked_up(tables.normals, corners_F33[..., 2], flat_F33)
    uvs_F32 = _looked_up(tables.uvs, corners_F33[..., 1], _box_uvs(positions_F33, flat_F33[:, 0]))
    uvs_F32[..., 1] = 1.0 - uvs_F32[..., 1]  # OBJ counts v upwards, pictures downwards
    if not keep_F.any():
        raise FileFormatError(f"{name} has only triangles without area", expected="a model with some surface")
    mesh = soup(positions_F33, normals_F33, uvs_F32)
    return replace(mesh, positions_F33=mesh.positions_F33 * np.float32(extent), slot_F=slot_F[keep_F])


def _looked_up(
    table: Sequence[tuple[float, ...]], index_F3: NDArray[np.int64], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rows of a table where the index is ≥ 0 and the row is sound, else the given values."""
    if not table:
        return otherwise.copy()
    rows = np.array(table, np.float64)
    found = rows[np.maximum(index_F3, 0)]
    sound_F3 = (index_F3 >= 0) & np.isfinite(found).all(axis=-1)
    if otherwise.shape[-1] == 3:
        sound_F3 &= np.linalg.norm(np.nan_to_num(found), axis=-1) > 1e-6
    else:
        sound_F3 &= np.abs(np.nan_to_num(found)).max(axis=-1) < 1e4
    return np.where(sound_F3[..., None], np.nan_to_num(found), otherwise)


def _box_uvs(positions_F33: NDArray[np.float64], flat_F3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Texture coordinates by looking at each triangle along the axis it faces most."""
    axis_F = np.argmax(np.abs(flat_F3), axis=-1)
    pick_F2 = np.array([[2, 1], [0, 2], [0, 1]])[axis_F]
    return np.take_along_axis(positions_F33, np.repeat(pick_F2[:, None], 3, axis=1), axis=-1)


def _materials(tables: _Tables, fetch: Fetch, name: str) -> tuple[ObjMaterial, ...]:
    known: dict[str, ObjMaterial] = {}
    for library in tables.libraries:
        data = fetch(library)
        if data is not None:
            known.update(parse_mtl(data, library))
    return tuple(known.get(material, ObjMaterial()) for material in tables.names)


def parse_mtl(data: bytes, name: str = "model.mtl") -> dict[str, ObjMaterial]:
    """Materials by name; lines that make no sense are passed over, values are brought into range.

    Raises:
        LimitError: more than ``MAX_BYTES``.
    """
    if len(data) > MAX_BYTES:
        raise LimitError(f"{name} has {len(data) >> 20} MB", expected=f"at most {MAX_BYTES >> 20} MB")
    materials: dict[str, ObjMaterial] = {}
    current = ""
    for _, words in _lines(data):
        if words[0] == "newmtl":
            current = " ".join(words[1:])
            materials[current] = ObjMaterial()
        elif current in materials:
            materials[current] = _take_property(materials[current], words)
    return materials


def _take_property(material: ObjMaterial, words: list[str]) -> ObjMaterial:
    kind, values = words[0], words[1:]
    if kind == "map_Kd" and values:
        return replace(material, texture=_file_of(values))
    numbers = _numbers(values)
    if kind in ("Kd", "Ks") and len(numbers) >= 3:
        red, green, blue = (min(max(n, 0.0), 1.0) for n in numbers[:3])
        colour = (red, green, blue)
        return replace(material, diffuse=colour) if kind == "Kd" else replace(material, specular=colour)
    if kind == "Ns" and numbers:
        return replace(material, exponent=min(max(numbers[0], 0.0), 1000.0))
    if kind in ("d", "Tr") and numbers:
        opacity = min(max(numbers[0], 0.0), 1.0)
        return replace(material, opacity=opacity if kind == "d" else 1.0 - opacity)
    return material


def _file_of(values: list[str]) -> str:
    """The file name behind the options (``-s 1 1 1 wood.jpg``), with its spaces and forward slashes."""
    start = 0
    for i, word in enumerate(values):
        if word.startswith("-") and not _numbers([word]) and i + 1 < len(values):
            start = i + 2
            while start < len(values) - 1 and _numbers([values[start]]):
                start += 1
    return " ".join(values[start:]).replace("\\", "/")


def _numbers(words: list[str]) -> list[float]:
    """The leading finite numbers."""
    numbers = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            break
        if not math.isfinite(value):
            break
        numbers.append(value)
    return numbers
