"""From placed meshes, materials and lights to a rectified pair with exact truth.

Shape legend: F triangles, H, W pixels, M materials. World space: x right, y up, z ahead, metres.
Truth is taken at pixel centres, one triangle per pixel, never blended. A pane (opacity < 1) is looked through: the
truth is the opaque surface behind it. Sky and whatever else is nearly at infinity has at least 1/256 px.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from . import raster, shading
from .scene import FloatImage, RenderedPair
from .solids import Mesh, quad, rotation

MIN_DISPARITY = 1.0 / 256.0
SHADOW_SIZE = 1024
SKY_DISTANCE = 1e5
REACH = 1.6
WHITE = 9.0  # square of the linear value that becomes full white
Floats = raster.Floats
Doubles = raster.Doubles


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    ``colour`` is display RGB 0..1 and multiplies the texture, one repeat of which covers ``metres``. ``f0`` is the
    reflectance seen head-on (0: purely diffuse), ``blur`` 0..2 how blurred its reflections are, ``emission`` > 0 makes
    it shine by itself, ``opacity`` < 1 makes a pane, ``cut`` drops what the texture's alpha leaves out.
    """

    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: int = -1
    metres: float = 1.0
    shininess: float = 20.0
    f0: float = 0.0
    metal: float = 0.0
    blur: float = 2.0
    emission: float = 0.0
    opacity: float = 1.0
    cut: bool = False

    def row(self) -> list[float]:
        """Its line of the shader's table."""
        numbers = (self.texture, self.shininess, self.f0, self.metal, self.blur, self.emission, self.opacity)
        return [*self.colour, *numbers]


@dataclass(frozen=True)
class Camera:
    """A pinhole in the world; focal length in px, angles in radians; nothing is drawn nearer than ``near`` metres."""

    focal: float
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    near: float = 0.2
    horizon: float = 0.5

    def matrix(self) -> Doubles:
        """World directions to camera directions (y down): 3 × 3."""
        turn = rotation(self.yaw) @ rotation(pitch=self.pitch) @ rotation(roll=self.roll)
        return np.asarray(np.diag([1.0, -1.0, 1.0]) @ turn.T)


@dataclass(frozen=True)
class Lighting:
    """Lights in the world; colours are linear. ``key_direction`` points towards the key light."""

    key_direction: tuple[float, float, float]
    key_colour: tuple[float, float, float]
    sky: tuple[float, float, float]
    ground: tuple[float, float, float]
    panorama_HW3: FloatImage
    points: tuple[tuple[float, float, float], ...] = ()
    point_colours: tuple[tuple[float, float, float], ...] = ()
    brightness: float = 0.3
    shadow_reach: float = 60.0


@dataclass
class Stage:
    """Everything that is in a scene; filled by a family, emptied by nobody."""

    meshes: list[Mesh] = field(default_factory=list)
    casts: list[bool] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)
    images: list[NDArray[np.uint8]] = field(default_factory=list)

    def texture(self, image_HWC: NDArray[np.uint8] | FloatImage) -> int:
        """Take in an RGB or RGBA picture, 0..255; returns its number for :class:`Material`."""
        self.images.append(np.clip(image_HWC, 0, 255).astype(np.uint8))
        return len(self.images) - 1

    def add(self, mesh: Mesh, *materials: Material, casts: bool = True) -> None:
        """Place a mesh (world space) with one material per slot; ``casts`` says whether it throws shadows."""
        first = len(self.materials)
        self.materials += materials
        repeats_M = np.array([1.0 / material.metres for material in materials], np.float32)
        slot_F = np.minimum(mesh.slot_F, len(materials) - 1)
        uvs_F32 = mesh.uvs_F32 * repeats_M[slot_F][:, None, None]
        self.meshes.append(replace(mesh, uvs_F32=uvs_F32, slot_F=slot_F + np.int32(first)))
        self.casts.append(casts)

    def triangles(self) -> int:
        """How many triangles are on the stage."""
        return sum(len(mesh) for mesh in self.meshes)


@dataclass(frozen=True)
class _Soup:
    """The stage in the left camera's space."""

    corners_F33: Floats
    surfaces: shading.Surfaces
    pane_F: NDArray[np.bool_]
    casts_F: NDArray[np.bool_]
    level_F: raster.Ints


def render_pair(
    stage: Stage, camera: Camera, lighting: Lighting, height: int, width: int, max_disp: float
) -> RenderedPair:
    """Render both views with the baseline that gives the nearest visible thing ``max_disp`` px.

    The nearest thing is that of the left view, or what only the right view sees at its border if that is nearer, but no
    more than ``REACH`` times nearer: beyond, and 5 % above ``max_disp`` in any case, it is cut off. The caller places
    something behind every pixel (walls, or a backdrop from :func:`backdrop`).
    """
    soup = _assemble(stage, camera)
    pinhole = np.array([camera.focal, (width - 1) / 2, (height - 1) * camera.horizon])
    left = _View(soup, pinhole, 0.0, camera.near)
    inverse_depth_HW = left.truth(height, width)
    baseline, nearest = _baseline(soup, camera, pinhole, inverse_depth_HW, max_disp)
    light = _light(lighting, camera, soup, _visible_points(inverse_depth_HW, pinhole, lighting.shadow_reach))
    left_HW3 = left.picture(height, width, light)
    right = _View(soup, pinhole, baseline, camera.near, nearest / 1.05)
    right_inverse_HW = right.truth(height, width)
    right_HW3 = right.picture(height, width, light)
    gain = lighting.brightness / max(float(np.median(left_HW3) + left_HW3.mean()) / 2, 1e-6)
    scale = camera.focal * baseline
    return RenderedPair(
        _develop(left_HW3, gain),
        _develop(right_HW3, gain),
        np.maximum(scale * inverse_depth_HW, MIN_DISPARITY).astype(np.float32),
        np.maximum(scale * right_inverse_HW, MIN_DISPARITY).astype(np.float32),
        (camera.focal, float(pinhole[2]), baseline),
    )


def _baseline(
    soup: _Soup, camera: Camera, pinhole: Doubles, inverse_depth_HW: Doubles, max_disp: float
) -> tuple[float, float]:
    """The baseline in metres, and the depth that gets ``max_disp`` px."""
    height, width = inverse_depth_HW.shape
    nearest = float(inverse_depth_HW.max())
    trial = _View(soup, pinhole, max_disp / (camera.focal * nearest), camera.near)
    nearest = max(nearest, min(float(trial.truth(height, width).max()), REACH * nearest))
    return max_disp / (camera.focal * nearest), 1.0 / nearest


def backdrop(
    stage: Stage, camera: Camera, height: int, width: int, image_HW3: FloatImage, emission: float = 1.0
) -> None:
    """Hang a picture (RGB 0..255, shining with ``emission``) behind everything, facing the camera."""
    half_x = SKY_DISTANCE * width / camera.focal
    half_y = SKY_DISTANCE * height / camera.focal
    mesh = quad((-half_x, half_y, SKY_DISTANCE), (2 * half_x, 0, 0), (0, -2 * half_y, 0))
    to_world_33 = camera.matrix().T @ np.diag([1.0, -1.0, 1.0])
    placed = mesh.transformed(to_world_33).moved(*camera.position)
    uvs_F32 = (placed.uvs_F32 / [2 * half_x, 2 * half_y]).astype(np.float32)
    material = Material(texture=stage.texture(image_HW3), emission=emission)
    stage.add(replace(placed, uvs_F32=uvs_F32), material, casts=False)


class _View:
    """One eye: the prepared triangles and its buffers."""

    def __init__(self, soup: _Soup, pinhole: Doubles, eye_x: float, near: float, cut: float = 0.0) -> None:
        """Nothing nearer than ``near`` is drawn, nothing opaque nearer than ``cut``."""
        self.soup, self.pinhole, self.eye_x, self.near, self.cut = soup, pinhole, eye_x, near, max(near, cut)
        corners_F33 = soup.corners_F33 - np.array([eye_x, 0, 0], np.float32) if eye_x else soup.corners_F33
        focal, cx, cy = (float(value) for value in pinhole)
        self.prepared = raster.perspective(corners_F33, focal, cx, cy, near)

    def _fill(self, grid: raster.Grid, part_F: NDArray[np.bool_]) -> tuple[Doubles, raster.Ints]:
        key_HW, triangle_HW = raster.buffers(grid)
        self._fill_into(grid, part_F, self.cut, key_HW, triangle_HW)
        return key_HW, triangle_HW

    def _fill_into(
        self, grid: raster.Grid, part_F: NDArray[np.bool_], near: float, key_HW: Doubles, triangle_HW: raster.Ints
    ) -> None:
        box_F4 = self.prepared.box_F4.copy()
        box_F4[~part_F] = (1.0, 1.0, -1.0, -1.0)
        raster.fill(replace(self.prepared, box_F4=box_F4), grid, key_HW, triangle_HW, 1.0 / near, _cutout(self.soup))

    def truth(self, height: int, width: int) -> Doubles:
        """1/z of the nearest opaque surface at every pixel centre."""
        return self._fill(raster.Grid.centres(width, height), ~self.soup.pane_F)[0]

    def picture(self, height: int, width: int, light: shading.Light) -> Floats:
        """The view in linear light."""
        grid = raster.Grid.quarters(width, height)
        key_HW, triangle_HW = self._fill(grid, ~self.soup.pane_F)
        panes_HW = np.full_like(triangle_HW, -1)
        if self.soup.pane_F.any():
            self._fill_into(grid, self.soup.pane_F, self.near, key_HW, panes_HW)
        return shading.shade(self.prepared, triangle_HW, panes_HW, self.soup.surfaces, light, self.pinhole, self.eye_x)


def _cutout(soup: _Soup) -> raster.Cutout:
    atlas = soup.surfaces.atlas
    return raster.Cutout(soup.level_F, soup.surfaces.uvs_F32, atlas.table_L3, atlas.texels)


def _assemble(stage: Stage, camera: Camera) -> _Soup:
    turn_33 = camera.matrix().astype(np.float32)
    position_3 = np.array(camera.position, np.float32)
    corners_F33 = (np.concatenate([mesh.positions_F33 for mesh in stage.meshes]) - position_3) @ turn_33.T
    normals_F33 = np.concatenate([mesh.normals_F33 for mesh in stage.meshes]) @ turn_33.T
    uvs_F32 = np.concatenate([mesh.uvs_F32 for mesh in stage.meshes])
    material_F = np.concatenate([mesh.slot_F for mesh in stage.meshes])
    materials_MC = np.array([material.row() for material in stage.materials], np.float32)
    casts_F = np.repeat(stage.casts, [len(mesh) for mesh in stage.meshes])
    pane_F = (materials_MC[:, shading.OPACITY] < 1.0)[material_F]
    atlas = shading.build_atlas(stage.images)
    cut_F = np.array([material.cut for material in stage.materials])[material_F]
    level_F = np.full(len(corners_F33), -1, np.int32)
    chosen = np.flatnonzero(cut_F)
    if len(chosen):
        texture_F = materials_MC[material_F[chosen], shading.TEXTURE].astype(int)
        level_F[chosen] = _cut_levels(corners_F33[chosen], uvs_F32[chosen], texture_F, atlas, camera.focal)
    surfaces = shading.Surfaces(normals_F33, uvs_F32, material_F, materials_MC, atlas)
    return _Soup(corners_F33, surfaces, pane_F, casts_F & ~pane_F, level_F)


def _cut_levels(
    corners_F33: Floats, uvs_F32: Floats, texture_F: NDArray[np.int_], atlas: shading.Atlas, focal: float
) -> NDArray[np.int32]:
    """The texture level whose texel is about a pixel where the triangle is, so that cut edges do not alias."""
    first_F = atlas.first_T[texture_F]
    size_F = np.sqrt(atlas.table_L3[first_F, 1] * atlas.table_L3[first_F, 2])
    edge_F3, other_F3 = corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0]
    area_F = np.linalg.norm(np.cross(edge_F3, other_F3), axis=-1)
    d1, d2 = uvs_F32[:, 1] - uvs_F32[:, 0], uvs_F32[:, 2] - uvs_F32[:, 0]
    uv_area_F = np.abs(d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])
    texels_per_metre = size_F * np.sqrt(uv_area_F / np.maximum(area_F, 1e-12))
    per_pixel = texels_per_metre * np.maximum(corners_F33[..., 2].mean(axis=1), 1e-3) / focal
    level_F = np.clip(np.round(np.log2(np.maximum(per_pixel, 1e-6))), 0, 3)
    return np.asarray(first_F + np.minimum(level_F, atlas.count_T[texture_F] - 1), np.int32)


def _visible_points(inverse_depth_HW: Doubles, pinhole: Doubles, reach: float) -> Doubles:
    """Every eighth visible point within reach, camera space (P, 3): what the shadow map has to cover."""
    height, width = inverse_depth_HW.shape
    rows, columns = (axis.ravel() for axis in np.mgrid[0:height:8, 0:width:8])
    depth = np.minimum(1.0 / inverse_depth_HW[::8, ::8].ravel(), reach)
    x, y = (columns - pinhole[1]) / pinhole[0] * depth, (rows - pinhole[2]) / pinhole[0] * depth
    return np.stack([x, y, depth], axis=-1)


def _light(lighting: Lighting, camera: Camera, soup: _Soup, points_P3: Doubles) -> shading.Light:
    """Lights in camera space, with the shadow map of the key light drawn over what is visible."""
    turn_33 = camera.matrix()
    key_3, up_3 = turn_33 @ np.asarray(lighting.key_direction, np.float64), turn_33[:, 1]
    key_3 = key_3 / np.linalg.norm(key_3)
    shadow_34, shadow_HW, texel = _shadow(key_3, soup, points_P3)
    lamps_P3 = (np.asarray(lighting.points, np.float64).reshape(-1, 3) - camera.position) @ turn_33.T
    return shading.Light(
        key_3=np.ascontiguousarray(key_3, np.float32),
        key_colour_3=np.asarray(lighting.key_colour, np.float32),
        up_3=np.ascontiguousarray(up_3, np.float32),
        sky_3=np.asarray(lighting.sky, np.float32),
        ground_3=np.asarray(lighting.ground, np.float32),
        points_P3=np.ascontiguousarray(lamps_P3, np.float32),
        point_colours_P3=np.asarray(lighting.point_colours, np.float32).reshape(-1, 3),
        shadow_34=shadow_34,
        shadow_HW=shadow_HW,
        texel=texel,
        environment_LHW3=shading.build_environment(_seen_from(lighting.panorama_HW3, camera.yaw)),
    )


def _shadow(key_3: Doubles, soup: _Soup, points_P3: Doubles) -> tuple[Doubles, Doubles, float]:
    """The shadow map over the given points: its matrix (3, 4), minus the depths of its casters, its pixel in metres."""
    side_3 = np.cross(key_3, np.eye(3)[int(np.argmin(np.abs(key_3)))])
    side_3 /= np.linalg.norm(side_3)
    axes_33 = np.stack([side_3, np.cross(key_3, side_3), -key_3])
    flat_P2 = points_P3 @ axes_33[:2].T
    low_2 = flat_P2.min(axis=0)
    extent_2 = flat_P2.max(axis=0) - low_2
    texel = float(extent_2.max() / (SHADOW_SIZE - 8))
    offset_3 = np.append(4 - low_2 / texel, 0.0)
    shadow_34 = np.concatenate([axes_33 / np.array([[texel], [texel], [1.0]]), offset_3[:, None]], axis=1)
    columns, rows = (int(np.ceil(length / texel)) + 8 for length in extent_2)
    grid = raster.Grid(columns, rows)
    shadow_HW, triangle_HW = raster.buffers(grid, -np.inf)
    matrix_34 = shadow_34.astype(np.float32)
    casters_F33 = soup.corners_F33[soup.casts_F] @ matrix_34[:, :3].T + matrix_34[:, 3]
    cutout = _cutout(soup)
    part = replace(cutout, level_F=cutout.level_F[soup.casts_F], uvs_F32=cutout.uvs_F32[soup.casts_F])
    raster.fill(raster.orthographic(casters_F33), grid, shadow_HW, triangle_HW, np.inf, part)
    return shadow_34, shadow_HW, texel


def _seen_from(panorama_HW3: FloatImage, yaw: float) -> FloatImage:
    """The panorama turned with the camera."""
    return np.roll(panorama_HW3, round(-yaw / (2 * np.pi) * panorama_HW3.shape[1]), axis=1)


def _develop(linear_HW3: Floats, gain: float) -> FloatImage:
    """Linear light to display values 0..255: Reinhard's curve with a white point, then a square root."""
    x = linear_HW3 * np.float32(gain)
    return np.asarray(np.sqrt(np.clip(x * (1 + x / WHITE) / (1 + x), 0.0, 1.0)) * np.float32(255.0), np.float32)
