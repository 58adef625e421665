"""A folder of models: OBJ files in it, and in zip archives in it.

Debian's sweethome3d-furniture ships *.sh3f, which are zip archives and are read as they are, without unpacking.

Shape legend: F triangles, h, w texture size.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import posixpath
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ...core.config import from_dict
from ...core.errors import FileFormatError, InputError, LimitError
from ...io.atomic import atomic_path
from .obj import MAX_BYTES, ObjMaterial, parse_obj
from .solids import Mesh

ARCHIVES = (".sh3f", ".zip")
TEXTURE_SIDE = 256
MAX_TEXTURE_PIXELS = 64 << 20
KEPT = 96  # models held in memory
MAX_PLACED = 25_000  # triangles of a model that scenes use
VERSION = 3


@dataclass(frozen=True)
class Asset:
    """A model brought to standard form: standing on y = 0, centred, largest side 1.

    ``metres`` is the length of that side if the file's units could be guessed (centimetres or metres of furniture
    size), else 0. ``textures`` holds RGB or RGBA (h, w, 3|4) uint8 per material, or None.
    """

    name: str
    mesh: Mesh
    materials: tuple[ObjMaterial, ...]
    textures: tuple[NDArray[np.uint8] | None, ...]
    metres: float


class MeshLibrary:
    """Models by index, in a stable order; read when first wanted.

    Args:
        folder: searched recursively for ``.obj`` files, and ``.sh3f``/``.zip`` archives that hold some.
        cache: a folder for parsed models (small npz files), which load twenty times faster; None for no cache.

    Raises:
        InputError: the folder is missing or holds no model. FileFormatError: an archive is damaged.
    """

    def __init__(self, folder: str | Path, *, cache: str | Path | None = None) -> None:
        self.folder = Path(folder)
        self.cache = Path(cache) if cache is not None else None
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a folder", expected="a folder of OBJ models or .sh3f archives")
        self.names = _listed(self.folder)
        if not self.names:
            raise InputError(f"{self.folder} holds no .obj file and no archive of them", expected="OBJ models")
        self._assets: OrderedDict[int, Asset] = OrderedDict()
        self._archives: dict[str, zipfile.ZipFile] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, Any]:
        """Workers open archives of their own and start with nothing loaded."""
        return {**self.__dict__, "_assets": OrderedDict(), "_archives": {}}

    def asset(self, index: int) -> Asset:
        """Model ``index``.

        Raises:
            FileFormatError: it is not a sound OBJ file. LimitError: it is too large.
        """
        if index in self._assets:
            self._assets.move_to_end(index)
            return self._assets[index]
        asset = self._cached(index)
        self._assets[index] = asset
        if len(self._assets) > KEPT:
            self._assets.popitem(last=False)
        return asset

    def sample(self, rng: np.random.Generator, tries: int = 8) -> Asset:
        """A random model of at most ``MAX_PLACED`` triangles; larger ones are passed over.

        Raises:
            LimitError: ``tries`` draws in a row were larger. FileFormatError: a drawn file is damaged.
        """
        for _ in range(tries):
            asset = self.asset(int(rng.integers(len(self))))
            if len(asset.mesh) <= MAX_PLACED:
                return asset
        raise LimitError(f"{tries} models in a row have over {MAX_PLACED} triangles", hint="Simplify the models")

    def _read(self, archive: str, member: str) -> bytes | None:
        """The bytes of a file of the library, or None if it is not there (or outside)."""
        if archive:
            if archive not in self._archives:
                self._archives[archive] = zipfile.ZipFile(self.folder / archive)
            source = self._archives[archive]
            if member not in source.NameToInfo:
                return None
            if source.getinfo(member).file_size > MAX_BYTES:
                raise LimitError(f"{archive}:{member} is larger than {MAX_BYTES >> 20} MB")
            try:
                return source.read(member)
            except (zlib.error, zipfile.BadZipFile) as error:
                raise FileFormatError(f"{archive}:{member} is damaged ({error})") from None
        path = (self.folder / member).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            return None
        if path.stat().st_size > MAX_BYTES:
            raise LimitError(f"{path} is larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes()

    def _cached(self, index: int) -> Asset:
        if self.cache is None:
            return self._load(index)
        archive, member = self.names[index]
        source = self.folder / (archive or member)
        stamp = f"{VERSION}|{source.resolve()}|{source.stat().st_mtime_ns}|{source.stat().st_size}|{member}"
        file = self.cache / f"{hashlib.sha256(stamp.encode()).hexdigest()[:24]}.npz"
        if file.is_file():
            return _unpack(file)
        asset = self._load(index)
        with atomic_path(file) as temporary:
            _pack(asset, temporary)
        return asset

    def _load(self, index: int) -> Asset:
        archive, member = self.names[index]
        base = posixpath.dirname(member)
        name = f"{archive}:{member}" if archive else member

        def neighbour(file: str) -> bytes | None:
            return self._read(archive, posixpath.normpath(posixpath.join(base, file)))

        data = self._read(archive, member)
        if data is None:
            raise FileFormatError(f"{name} has gone")
        model = parse_obj(data, neighbour, name)
        textures = tuple(_texture(neighbour(m.texture)) if m.texture else None for m in model.materials)
        mesh, metres = _standing(model.mesh)
        coarse_F33 = np.round(mesh.normals_F33 * 127).astype(np.int8) / np.float32(127)  # as the cache keeps them
        mesh = replace(mesh, normals_F33=coarse_F33.astype(np.float32))
        return Asset(name, mesh, model.materials, textures, metres)


def _listed(folder: Path) -> list[tuple[str, str]]:
    """(archive, member) of every model; the archive is "" for plain files."""
    names = [("", path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*.obj"))]
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in ARCHIVES):
        try:
            with zipfile.ZipFile(path) as source:
                members = sorted(n for n in source.namelist() if n.lower().endswith(".obj"))
        except (zipfile.BadZipFile, OSError) as error:
            raise FileFormatError(f"{path} is not a sound zip archive ({error})") from None
        names += [(path.relative_to(folder).as_posix(), member) for member in members]
    return names


def _standing(mesh: Mesh) -> tuple[Mesh, float]:
    """In standard form, with the length of the largest side in metres; OBJ's z points at the viewer, ours away."""
    mesh = mesh.transformed(np.diag([1.0, 1.0, -1.0]))
    points = mesh.positions_F33.reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    side = float((high - low).max())
    origin = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    metres = side / 100 if 8 < side < 600 else side if 0.1 < side < 6 else 0.0
    return replace(mesh, positions_F33=((mesh.positions_F33 - origin) / side).astype(np.float32)), metres


def _texture(data: bytes | None) -> NDArray[np.uint8] | None:
    """Decoded and shrunk to at most ``TEXTURE_SIDE``; None if there is no readable picture."""
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            if math.prod(image.size) > MAX_TEXTURE_PIXELS:
                return None
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            picture = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    scale = TEXTURE_SIDE / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture, np.uint8)


def _pack(asset: Asset, file: Path) -> None:
    arrays: dict[str, Any] = {k: v for k, v in vars(asset.mesh).items() if k != "normals_F33"}
    arrays["normals_F33"] = np.round(asset.mesh.normals_F33 * 127).astype(np.int8)
    arrays |= {f"texture{i}": t for i, t in enumerate(asset.textures) if t is not None}
    about = {"name": asset.name, "metres": asset.metres, "materials": [asdict(m) for m in asset.materials]}
    with file.open("wb") as stream:
        np.savez(stream, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


def _unpack(file: Path) -> Asset:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            mesh = Mesh(
                arrays["positions_F33"], arrays["normals_F33"] / np.float32(127), arrays["uvs_F32"], arrays["slot_F"]
            )
            materials = tuple(from_dict(ObjMaterial, m) for m in about["materials"])
            textures = tuple(arrays.get(f"texture{i}") for i in range(len(materials)))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{file} is not a sound mesh cache ({error})", hint="Delete the cache folder") from None
    return Asset(about["name"], mesh, materials, textures, about["metres"])
