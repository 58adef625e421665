"""Scene family (d): a real photograph as the left view, warped by an invented but plausible depth.

The idea is that of MfS (Watson et al., "Learning Stereo from Single Images", ECCV 2020: photos warped by disparity,
holes filled with other photos' texture), with the depth network replaced by a segmentation and a layout: ground rising
towards the bottom, sky far away, objects standing where they touch the ground, everything a slanted or swelling piece
whose edges follow the photo's colour edges, plus cut-outs of other photos floating in front. Truth is exact in both
views because every piece is a surface that continues behind the ones in front of it (`photo_layers`).

Shape legend: H, W view size; C width of the canvas, W plus what only the right camera sees; h, w a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError
from .photo_layers import Bump, Layer, Mask, Surface, grid, render
from .photo_regions import Segmentation, segment
from .scene import FloatImage, RenderedPair, TextureSource

MIN_DISPARITY = 0.3  # px; nothing is infinitely far, so that > 0 means "known" in both maps
STEEPEST = 0.3  # |∂d/∂x| of any surface, bump included: x - d stays monotone and no texture is stretched beyond 1.5×
BORDER = 2  # px on the far side of a step in depth that go to what is in front
STEP = 0.5  # px of disparity from which it is one
LEAST_PIECE = 12  # px; a cut-out smaller than this is dropped


def photowarp(
    rng: np.random.Generator, height: int, width: int, max_disp: float, textures: TextureSource
) -> RenderedPair:
    """A photo-warp pair (see the module's text).

    Args:
        rng: the only source of randomness.
        height: rows, at least 32.
        width: columns, at least 32.
        max_disp: upper bound of both disparity maps in px, at least 1.
        textures: gives the photos.

    Raises:
        InputError: the view is under 32 px, or ``max_disp`` under 1.
    """
    if min(height, width) < 32 or not max_disp >= 1:
        raise InputError(
            f"photo-warp of {height}x{width} px and {max_disp} px disparity", expected="at least 32x32 px, 1 px"
        )
    photo_HC3 = _fitted(rng, textures.photo(rng), height, width + math.ceil(max_disp) + 2)
    donor_HC3 = _fitted(rng, textures.photo(rng), *photo_HC3.shape[:2])
    segmentation = segment(photo_HC3, float(np.exp(rng.uniform(np.log(0.7), np.log(3.0)))))
    scene = Layout.draw(rng, height, max_disp)
    label_HC, surfaces = _surfaces(rng, scene, segmentation, photo_HC3)
    label_HC = _borders_in_front(label_HC, surfaces)
    disparity_HC = _disparity(label_HC, surfaces)
    layers = _cutouts(rng, scene, disparity_HC, donor_HC3)
    for label, surface in enumerate(surfaces):
        layer = _region_layer(rng, label_HC == label, surface, disparity_HC, photo_HC3, donor_HC3)
        layers += [layer] if layer else []
    layers.append(_backdrop(disparity_HC, donor_HC3))
    return render(layers, height, width)


def _fitted(rng: np.random.Generator, photo: FloatImage, height: int, width: int) -> FloatImage:
    """A random crop of the photo with the canvas' aspect, mirrored half the time, at canvas size."""
    h, w = photo.shape[:2]
    zoom = min(h / height, w / width) * rng.uniform(0.7, 1.0)
    ch, cw = max(2, int(height * zoom)), max(2, int(width * zoom))
    top, left = int(rng.integers(0, h - ch + 1)), int(rng.integers(0, w - cw + 1))
    crop = photo[top : top + ch, left : left + cw]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    how = cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC
    fitted = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=how)
    return np.asarray(np.clip(fitted, 0, 255), np.float32)


def ceiling(max_disp: float) -> float:
    """The largest disparity at pixel centres: the right camera sees surfaces up to half a pixel further."""
    return max_disp - STEEPEST / 2


@dataclass(frozen=True)
class Layout:
    """What the whole scene has in common: the range of disparities (px) and the ground."""

    height: int
    max_disp: float
    near: float  # the photo's own nearest; cut-outs may come nearer
    far: float
    horizon: float
    tilt: float  # ∂d/∂x of the ground
    style: str  # "ground": objects stand on it; "centre": the middle is near; "loose": anything anywhere

    @staticmethod
    def draw(rng: np.random.Generator, height: int, max_disp: float) -> Layout:
        near = ceiling(max_disp) * rng.uniform(0.45, 0.95)
        far = max(MIN_DISPARITY, near * float(np.exp(rng.uniform(np.log(0.01), np.log(0.5)))))
        style = str(rng.choice(["ground", "centre", "loose"], p=[0.65, 0.2, 0.15]))
        tilt = rng.uniform(-0.1, 0.1) * near / max_disp
        return Layout(height, max_disp, near, far, height * rng.uniform(-0.1, 0.55), tilt, style)

    @property
    def span(self) -> float:
        return self.near - self.far

    @property
    def ground(self) -> Surface:
        """Reaches ``far`` at the horizon and ``near`` at the bottom row."""
        slope = self.span / (self.height - 1 - self.horizon)
        return Surface(self.tilt, slope, self.far - slope * self.horizon)

    def stand(self, rng: np.random.Generator, shape: _Shape) -> float:
        """Disparity at the foot of an object."""
        if self.style == "ground":
            rise = max(0.0, (shape.bottom - self.horizon) / (self.height - 1 - self.horizon))
            return self.far + self.span * min(1.0, rise * rng.uniform(0.9, 1.25) + rng.uniform(0, 0.1))
        if self.style == "centre":
            return self.far + self.span * min(1.0, 1.2 * math.exp(-2.5 * shape.eccentricity**2) * rng.uniform(0.6, 1))
        return self.far + self.span * rng.uniform(0, 1)


@dataclass(frozen=True)
class _Shape:
    """Where a region lies (px, inclusive) and what it looks like."""

    top: int
    bottom: int
    left: int
    right: int
    eccentricity: float  # distance of its centre from the canvas' centre, 1 at the middle of an edge
    reaches_top: bool
    reaches_bottom: bool
    surrounds: bool  # reaches three sides of the canvas: background
    wide: bool
    sky: bool

    @staticmethod
    def of(mask_HC: Mask, photo_HC3: FloatImage) -> _Shape:
        H, C = mask_HC.shape
        rows, columns = np.flatnonzero(mask_HC.any(1)), np.flatnonzero(mask_HC.any(0))
        top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
        red, _, blue = (float(v) for v in photo_HC3[mask_HC].mean(axis=0))
        light = float(photo_HC3[mask_HC].mean())
        dx, dy = (left + right) / C - 1, (top + bottom) / H - 1
        reaches_top = top <= 2
        sky = reaches_top and bottom < 0.8 * H and (light > 170 or (blue > 1.1 * red and light > 60))
        wide = right - left > 0.35 * C
        sides = (reaches_top, bottom >= H - 3, left <= 2, right >= C - 3)
        return _Shape(top, bottom, left, right, math.hypot(dx, dy), reaches_top, sides[1], sum(sides) >= 3, wide, sky)


def _surfaces(
    rng: np.random.Generator, scene: Layout, segmentation: Segmentation, photo_HC3: FloatImage
) -> tuple[NDArray[np.int32], list[Surface]]:
    """A surface for every object, and for some parts a surface of their own near their object's.

    Returns the map of surface indices and the surfaces, each within far..near wherever it is seen.
    """
    label_HC = segmentation.object_map.copy()
    count = int(segmentation.object_of_part_N.max()) + 1
    surfaces = []
    for index in range(count):
        mask_HC = label_HC == index
        shape = _Shape.of(mask_HC, photo_HC3)
        surfaces.append(_fit(_object_surface(rng, scene, shape), mask_HC, scene))
    for part, owner in enumerate(segmentation.object_of_part_N.tolist()):
        if rng.random() < 0.6:
            continue
        mask_HC = segmentation.part_HW == part
        if not (~mask_HC & (segmentation.object_map == owner)).any():
            continue
        offset = scene.span * rng.uniform(-0.1, 0.2)
        label_HC[mask_HC] = len(surfaces)
        surfaces.append(_fit(surfaces[owner].scaled(1.0, offset), mask_HC, scene))
    return label_HC, surfaces


def _object_surface(rng: np.random.Generator, scene: Layout, shape: _Shape) -> Surface:
    """Sky, ground, or a piece that stands on its foot, slanted and perhaps swelling towards the viewer."""
    if shape.sky and scene.style != "loose":
        return Surface(0.0, 0.0, scene.far)
    low = shape.top > scene.horizon - 0.15 * scene.height
    flat = low and (rng.random() < 0.85 if shape.wide and shape.reaches_bottom else rng.random() < 0.25)
    if flat and scene.style != "loose":
        return scene.ground
    if shape.surrounds and scene.style != "loose":
        tilt = rng.uniform(-0.1, 0.1) * scene.span / scene.height
        return Surface(0.0, tilt, scene.far + 0.3 * scene.span * rng.uniform(0, 1))
    w, h = shape.right - shape.left + 1, shape.bottom - shape.top + 1
    x, y = (shape.left + shape.right) / 2, (shape.top + shape.bottom) / 2
    foot = scene.stand(rng, shape)
    a = float(np.clip(rng.normal(0, 0.15) * scene.span / w, -STEEPEST / 2, STEEPEST / 2))
    b = rng.normal(0.05, 0.1) * scene.span / max(h, 0.2 * scene.height)
    bump = None
    if rng.random() < 0.5:
        bump = _bump(rng, 0.3 * scene.span * rng.uniform(-0.1, 1), x, y, w, h)
    return Surface(a, b, foot - a * x - b * shape.bottom, bump)


def _bump(rng: np.random.Generator, lift: float, x: float, y: float, w: float, h: float) -> Bump:
    """A bump over a w×h piece, low enough that its slope (at most 0.61·height/sigma) stays below STEEPEST / 2."""
    sigma_x, sigma_y = max(w * rng.uniform(0.2, 0.4), 2.0), max(h * rng.uniform(0.2, 0.4), 2.0)
    limit = STEEPEST / 2 * sigma_x / 0.61
    return Bump(float(np.clip(lift, -limit, limit)), x, y, sigma_x, sigma_y)


def _fit(surface: Surface, mask_HC: Mask, scene: Layout) -> Surface:
    y, x = np.nonzero(mask_HC)
    values = surface.at(x.astype(np.float32), y.astype(np.float32))
    return surface.squeezed(values, scene.far * 0.9, scene.near)


def _borders_in_front(label_HC: NDArray[np.int32], surfaces: list[Surface]) -> NDArray[np.int32]:
    """The map with every region grown by :data:`BORDER` px over what lies behind it.

    The pixels along an edge of the photo mix both sides. Left with what is behind, they would draw the outline of what
    is in front a second time in the right view.
    """
    label_HC, disparity_HC = label_HC.copy(), _disparity(label_HC, surfaces)
    for _ in range(BORDER):
        grown_HC, front_HC = label_HC.copy(), disparity_HC.copy()
        for axis, by in ((0, 1), (0, -1), (1, 1), (1, -1)):
            here = (slice(None),) * axis + (slice(1, None) if by == 1 else slice(None, -1),)
            there = (slice(None),) * axis + (slice(None, -1) if by == 1 else slice(1, None),)
            nearer = disparity_HC[there] > np.maximum(front_HC[here], disparity_HC[here] + STEP)
            grown_HC[here] = np.where(nearer, label_HC[there], grown_HC[here])
            front_HC[here] = np.where(nearer, disparity_HC[there], front_HC[here])
        label_HC, disparity_HC = grown_HC, front_HC
    return label_HC


def _disparity(label_HC: NDArray[np.int32], surfaces: list[Surface]) -> FloatImage:
    """What the photo alone would have as its disparity."""
    disparity_HC = np.empty(label_HC.shape, np.float32)
    for label, surface in enumerate(surfaces):
        y, x = np.nonzero(label_HC == label)
        disparity_HC[y, x] = surface.at(x.astype(np.float32), y.astype(np.float32))
    return disparity_HC


def _region_layer(
    rng: np.random.Generator,
    mask_HC: Mask,
    surface: Surface,
    disparity_HC: FloatImage,
    photo_HC3: FloatImage,
    donor_HC3: FloatImage,
) -> Layer | None:
    """The region, continued to the left behind what stands in front of it: that is what the right camera uncovers."""
    if not mask_HC.any():
        return None
    rows, columns = np.flatnonzero(mask_HC.any(1)), np.flatnonzero(mask_HC.any(0))
    reach = math.ceil(float(disparity_HC.max()) - float(disparity_HC[mask_HC].min())) + 2
    top, bottom = max(0, int(rows[0]) - 2), min(mask_HC.shape[0], int(rows[-1]) + 3)
    left, right = max(0, int(columns[0]) - reach), min(mask_HC.shape[1], int(columns[-1]) + 3)
    window = np.s_[top:bottom, left:right]
    mask_hw = mask_HC[window]
    x, y = grid(left, top, right - left, bottom - top)
    own_hw = surface.at(x, y)
    near_by = cv2.dilate(mask_hw.astype(np.uint8), np.ones((1, reach + 1), np.uint8), anchor=(0, 0)) > 0
    hidden = near_by & ~mask_hw & (own_hw < disparity_HC[window]) & (own_hw > MIN_DISPARITY)
    texture = _continued(rng, photo_HC3[window], mask_hw, donor_HC3[window])
    return Layer(surface, left, top, mask_hw | hidden, texture)


def _continued(rng: np.random.Generator, photo_hw3: FloatImage, mask_hw: Mask, donor_hw3: FloatImage) -> FloatImage:
    """The photo where the mask is true; elsewhere its mirror image in the region's border, or the donor's texture.

    Never a smear: a stretched border colour is what a network would learn to recognise.
    """
    filled_hw3 = photo_hw3.copy()
    outside = ~mask_hw
    if not outside.any():
        return filled_hw3
    inside_N3, donor_M3 = photo_hw3[mask_hw], donor_hw3[outside]
    gain = np.clip(inside_N3.std() / (donor_M3.std() + 1), 0.3, 1.5)
    filled_hw3[outside] = np.clip((donor_M3 - donor_M3.mean(axis=0)) * gain + inside_N3.mean(axis=0), 0, 255)
    if rng.random() < 0.7:
        _mirror(photo_hw3, mask_hw, filled_hw3)
    return filled_hw3


def _mirror(photo_hw3: FloatImage, mask_hw: Mask, filled_hw3: FloatImage) -> None:
    """Overwrite pixels outside the mask with their reflection in the nearest border pixel, where that lies inside."""
    h, w = mask_hw.shape
    outside = ~mask_hw
    _, nearest_hw = cv2.distanceTransformWithLabels(
        outside.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixel_of_label = np.zeros(int(nearest_hw.max()) + 1, np.int64)
    pixel_of_label[nearest_hw[mask_hw]] = np.flatnonzero(mask_hw)
    y, x = np.nonzero(outside)
    border_y, border_x = np.divmod(pixel_of_label[nearest_hw[outside]], w)
    from_y, from_x = 2 * border_y - y, 2 * border_x - x
    good = (from_y >= 0) & (from_y < h) & (from_x >= 0) & (from_x < w)
    good[good] = mask_hw[from_y[good], from_x[good]]
    filled_hw3[y[good], x[good]] = photo_hw3[from_y[good], from_x[good]]


def _backdrop(disparity_HC: FloatImage, donor_HC3: FloatImage) -> Layer:
    """A plane behind everything, so that no pixel of the right view is empty."""
    H = disparity_HC.shape[0]
    least_H = disparity_HC.min(axis=1)
    y = np.arange(H, dtype=np.float32)
    slope = float(np.polyfit(y, least_H, 1)[0])
    level = float((least_H - slope * y).min()) * 0.98
    if min(level, level + slope * (H - 1)) < MIN_DISPARITY / 2:
        slope, level = 0.0, float(least_H.min()) * 0.95
    return Layer(Surface(0.0, slope, level), 0, 0, np.ones(disparity_HC.shape, np.bool_), donor_HC3)


def _cutouts(rng: np.random.Generator, scene: Layout, disparity_HC: FloatImage, donor_HC3: FloatImage) -> list[Layer]:
    """Pieces of the donor photo in front of the scene: its own objects, blobs, and thin sticks."""
    layers: list[Layer] = []
    count = int(rng.integers(0, 21))
    if not count:
        return layers
    H, C = disparity_HC.shape
    objects_HC = segment(donor_HC3, 1.5, cell=16).object_map
    for _ in range(count):
        mask_hw, texture_hw3 = _piece(rng, objects_HC, donor_HC3)
        h, w = mask_hw.shape
        if h >= H or w >= C or mask_hw.sum() < LEAST_PIECE:
            continue
        top, left = int(rng.integers(0, H - h + 1)), int(rng.integers(0, C - w + 1))
        behind = float(disparity_HC[top : top + h, left : left + w].max())
        surface = _floating_surface(rng, scene, behind, top, left, w, h)
        layers.append(Layer(surface, left, top, mask_hw, texture_hw3))
    return layers


def _floating_surface(
    rng: np.random.Generator, scene: Layout, behind: float, top: int, left: int, w: int, h: int
) -> Surface:
    """A slanted, perhaps swelling piece over a window, mostly nearer than ``behind`` px."""
    centre = behind + (ceiling(scene.max_disp) - behind) * rng.uniform(0.05, 0.95) ** 1.5
    x, y = left + w / 2, top + h / 2
    a = float(np.clip(rng.normal(0, 0.1) * scene.span / w, -STEEPEST / 2, STEEPEST / 2))
    b = float(np.clip(rng.normal(0, 0.1) * scene.span / h, -0.5, 0.5))
    bump = _bump(rng, 0.15 * scene.span, x, y, w, h) if rng.random() < 0.4 else None
    surface = Surface(a, b, centre - a * x - b * y, bump)
    return surface.squeezed(surface.at(*grid(left, top, w, h)), scene.far, ceiling(scene.max_disp))


def _piece(rng: np.random.Generator, objects_HC: NDArray[np.int32], donor_HC3: FloatImage) -> tuple[Mask, FloatImage]:
    """A mask and its texture, cut from the donor."""
    H, C = objects_HC.shape
    kind = rng.choice(["object", "blob", "stick"], p=[0.4, 0.35, 0.25])
    if kind == "object":
        mask_HC = objects_HC == int(rng.integers(0, objects_HC.max() + 1))
        rows, columns = np.flatnonzero(mask_HC.any(1)), np.flatnonzero(mask_HC.any(0))
        if rows.size < 0.7 * H and columns.size < 0.4 * C:
            window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            # One pixel in: the outermost still holds a mixture with its old neighbour.
            mask_hw = cv2.erode(mask_HC[window].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            return mask_hw, np.ascontiguousarray(donor_HC3[window])
    mask_hw = _stick(rng, H) if kind == "stick" else _blob(rng, H)
    h, w = mask_hw.shape
    top, left = int(rng.integers(0, max(1, H - h))), int(rng.integers(0, max(1, C - w)))
    crop = donor_HC3[top : top + h, left : left + w]
    if crop.shape[:2] != (h, w):
        crop = np.asarray(cv2.resize(donor_HC3, (w, h), interpolation=cv2.INTER_AREA), np.float32)
    return mask_hw, np.ascontiguousarray(crop)


def _blob(rng: np.random.Generator, height: int) -> Mask:
    """A closed wavy or angular outline, 6 to 45 % of the height across."""
    radius = height * float(np.exp(rng.uniform(np.log(0.03), np.log(0.22))))
    stretch = rng.uniform(0.5, 2.0)
    corners = int(rng.choice([3, 4, 5, 6, 40]))
    angle = (
        np.sort(rng.uniform(0, 2 * np.pi, corners)) if corners < 40 else np.linspace(0, 2 * np.pi, 40, endpoint=False)
    )
    wave = 1 + 0.25 * np.sin(angle * int(rng.integers(2, 6)) + rng.uniform(0, 6)) * (corners == 40)
    points = np.stack([np.cos(angle) * wave * radius * stretch, np.sin(angle) * wave * radius], axis=1)
    return _filled(points)


def _stick(rng: np.random.Generator, height: int) -> Mask:
    """A thin bar, 1.5 to 8 px across, at any angle but mostly upright."""
    length = height * rng.uniform(0.2, 0.9)
    thickness = float(np.exp(rng.uniform(np.log(1.5), np.log(8))))
    angle = np.pi / 2 + rng.normal(0, 0.5)
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * thickness / 2
    return _filled(np.stack([along + across, along - across, -along - across, -along + across]))


def _filled(points: NDArray[np.float64]) -> Mask:
    """The polygon's mask in its bounding box."""
    low = np.floor(points.min(axis=0)) - 1
    w, h = (np.ceil(points.max(axis=0) - low) + 2).astype(int)
    mask_hw = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask_hw, [np.round((points - low) * 16).astype(np.int32)], 1, shift=4)
    return mask_hw > 0
