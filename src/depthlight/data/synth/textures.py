"""Where surfaces get their look from: a folder of photographs, scikit-image's own, and procedural patterns.

Shape legend: H, W image size; 3 = RGB. Textures are float32 in 0..255.
"""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import ImageError, InputError
from .patterns import PATTERNS
from .scene import FloatImage

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SURFACE_PACKAGES = ("ufoai-textures", "openarena-081-textures")  # walls and floors, not photographs of scenes
MIN_SIDE, MAX_SIDE = 64, 900
# Test photographs that come inside scikit-image's package; its motorcycle is a benchmark scene and never used.
SKIMAGE_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "rocket.jpg",
    "text.png",
)
MIXTURE = {
    "photo": 0.69,
    "noise": 0.08,
    "flat": 0.08,
    "grid": 0.04,
    "tiles": 0.025,
    "facade": 0.015,
    "wood": 0.02,
    "brushed": 0.015,
    "writing": 0.025,
    "foliage": 0.01,
}


class Textures:
    """A :class:`~depthlight.data.synth.scene.TextureSource` over a folder of images plus procedural patterns.

    Images are decoded when first used, shrunk to at most 900 px and kept up to ``cache_mb``; the cache never changes
    a result. A ``texture.csv`` beside the images (columns ``file, package``) tells surfaces from photographs; pictures
    of scikit-image's motorcycle are left out. Without a folder, scikit-image's photographs are used if it is
    installed, patterns alone otherwise.

    Raises:
        InputError: the folder is missing or holds no images.
        ImageError: an image cannot be read (when it is used).
    """

    def __init__(self, folder: str | Path | None = None, *, cache_mb: int = 400) -> None:
        files = _bundled() if folder is None else _listed(Path(folder))
        surfaces = {} if folder is None else _packages(Path(folder))
        self.files: tuple[Path, ...] = tuple(files)
        photos = [file for file in files if surfaces.get(file.name) not in SURFACE_PACKAGES]
        self.photos: tuple[Path, ...] = tuple(photos or files)
        self._budget = cache_mb * 2**20
        self._cache: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._used = 0

    def sample(self, rng: np.random.Generator, height: int, width: int) -> FloatImage:
        """A (height, width, 3) texture of any kind in :data:`MIXTURE`."""
        return sample_from(self, self.files, rng, height, width)

    def photo(self, rng: np.random.Generator) -> FloatImage:
        """A whole photograph at its own size (each side at most 900 px); a pattern of 480×640 when there is none."""
        if not self.photos:
            return np.clip(PATTERNS["noise"](rng, 480, 640), 0, 255).astype(np.float32)
        return self.load(self.photos[rng.integers(len(self.photos))]).astype(np.float32)

    def palette(self, rng: np.random.Generator, photos: int, surfaces: int) -> Palette:
        """The looks of one scene: few images, used again and again, as a real place looks."""
        count = len(self.files)
        chosen = [self.photos[i] for i in rng.integers(0, len(self.photos), photos)] if count else []
        chosen += [self.files[i] for i in rng.integers(0, count, surfaces)] if count else []
        return Palette(self, chosen)

    def load(self, file: Path) -> NDArray[np.uint8]:
        """The image as (h, w, 3) uint8 RGB, from the cache or the disk."""
        if file in self._cache:
            self._cache.move_to_end(file)
            return self._cache[file]
        image = _decode(file)
        self._cache[file] = image
        self._used += image.nbytes
        while self._used > self._budget and len(self._cache) > 1:
            self._used -= self._cache.popitem(last=False)[1].nbytes
        return image


class Palette:
    """The :class:`Textures` of one scene, restricted to a few images; ``photo`` still draws from all photographs."""

    def __init__(self, textures: Textures, files: Sequence[Path]) -> None:
        self._textures = textures
        self._files = tuple(files)

    def sample(self, rng: np.random.Generator, height: int, width: int) -> FloatImage:
        return sample_from(self._textures, self._files, rng, height, width)

    def photo(self, rng: np.random.Generator) -> FloatImage:
        return self._textures.photo(rng)


def sample_from(
    textures: Textures, files: Sequence[Path], rng: np.random.Generator, height: int, width: int
) -> FloatImage:
    """One texture of the mixture; images come from ``files``."""
    kinds = list(MIXTURE)
    kind = str(rng.choice(kinds, p=np.array(list(MIXTURE.values()))))
    if kind == "photo" and files:
        image = crop(rng, textures.load(files[int(rng.integers(len(files)))]), height, width)
    else:
        image = PATTERNS[kind if kind != "photo" else "noise"](rng, height, width)
    if rng.random() < 0.3:
        image = retouch(rng, image)
    return np.asarray(np.clip(image, 0, 255, out=image), np.float32)


def crop(rng: np.random.Generator, photo_HW3: NDArray[np.uint8], height: int, width: int) -> FloatImage:
    """A random window of a photograph, resized to (height, width), sometimes mirrored or turned upside down."""
    rows, columns = photo_HW3.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(0.35), np.log(2.2))))
    fit = max(1.0, height / scale / rows, width / scale / columns)
    ch = int(np.clip(height / scale / fit, 4, rows))
    cw = int(np.clip(width / scale / fit, 4, columns))
    y, x = int(rng.integers(0, rows - ch + 1)), int(rng.integers(0, columns - cw + 1))
    shrinking = ch > height
    window = cv2.resize(
        photo_HW3[y : y + ch, x : x + cw],
        (width, height),
        interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC,
    )
    if rng.random() < 0.4:
        window = cv2.flip(window, 1)
    if rng.random() < 0.1:
        window = cv2.flip(window, 0)
    return window.astype(np.float32)


def retouch(rng: np.random.Generator, image_HW3: FloatImage) -> FloatImage:
    """Another contrast, brightness and tint (may leave 0..255)."""
    mean = float(image_HW3.mean())
    contrast = np.float32(rng.uniform(0.3, 1.3))
    tint = rng.uniform(-30, 30, 3).astype(np.float32) * np.float32(rng.random())
    level = np.clip(mean + rng.uniform(-50, 50), 25, 230)
    return np.asarray((image_HW3 - np.float32(mean)) * contrast + np.float32(level) + tint, np.float32)


def _decode(file: Path) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise ImageError(f"cannot read texture {file}: {error.strerror or error}") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageError(f"texture {file} is not an image", expected="JPEG, PNG, WebP or BMP", hint="Remove the file")
    scale = MAX_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if min(image.shape[:2]) < MIN_SIDE:
        up = MIN_SIDE / min(image.shape[:2])
        image = cv2.resize(image, None, fx=up, fy=up, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"texture folder {folder} does not exist", expected="a folder of JPEG or PNG images")
    packages = _packages(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = [file for file in files if "motorcycle" not in f"{file.stem} {packages.get(file.name, '')}".lower()]
    if not files:
        raise InputError(f"texture folder {folder} holds no images", expected=", ".join(sorted(SUFFIXES)))
    return files


def _packages(folder: Path) -> dict[str, str]:
    """File name → package, from ``texture.csv`` when it is there."""
    table = folder / "texture.csv"
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8") as stream:
        return {row["file"]: row["package"] for row in csv.DictReader(stream) if row.get("file") and row.get("package")}


def _bundled() -> list[Path]:
    """scikit-image's photographs, located without importing it (the import takes a second)."""
    import importlib.util

    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    return [folder / name for name in SKIMAGE_PHOTOS if (folder / name).is_file()]
