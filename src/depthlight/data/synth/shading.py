"""Colour of what the rasteriser saw: filtered textures, light, shadow, gloss, panes (numba).

Every pixel is made of four samples; samples that see the same triangle are shaded once, at their centroid, with the
texture filtered over the pixel's footprint (trilinear, up to four probes along the longer axis). Textures therefore do
not alias, which would break matching. Diffuse light and shadow depend on the surface point alone and agree between
the views; highlights and reflections are computed for each view's own eye.

Shape legend: F triangles, H, W pixels, M materials, T textures, L levels, P point lights. Everything is in the left
camera's space (x right, y down, z forward); colours are linear light (display value squared).
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# (numba infers the types of the functions it compiles)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .raster import Doubles, Floats, Ints, Prepared, jit, jit_fast

# Columns of the material table.
COLOUR, TEXTURE, SHININESS, F0, METAL, BLUR, EMISSION, OPACITY, COLUMNS = 0, 3, 4, 5, 6, 7, 8, 9, 10
PROBES = 4
ENVIRONMENT_BLURS = (0.6, 2.0, 6.0)


@dataclass(frozen=True)
class Atlas:
    """All textures with their halved levels: RGBA bytes one after the other.

    ``table_L3`` holds (offset, height, width) per level, ``first_T`` and ``count_T`` where a texture's levels are.
    """

    texels: NDArray[np.uint8]
    table_L3: NDArray[np.int64]
    first_T: Ints
    count_T: Ints


def build_atlas(images: list[NDArray[np.uint8]]) -> Atlas:
    """Pack (h, w, 3 or 4) uint8 images; sizes are free, alpha is kept at every level."""
    parts: list[NDArray[np.uint8]] = []
    rows: list[tuple[int, int, int]] = []
    first, count, offset = [], [], 0
    for image in images or [np.full((1, 1, 3), 255, np.uint8)]:
        level: NDArray[Any] = image if image.shape[2] == 4 else cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
        first.append(len(rows))
        while True:
            height, width = level.shape[:2]
            rows.append((offset, height, width))
            parts.append(np.ascontiguousarray(level).reshape(-1))
            offset += level.size
            if max(height, width) == 1:
                break
            size = (max(width // 2, 1), max(height // 2, 1))
            level = cv2.resize(level, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 4)
        count.append(len(rows) - first[-1])
    return Atlas(np.concatenate(parts), np.array(rows, np.int64), np.array(first, np.int32), np.array(count, np.int32))


def build_environment(panorama_HW3: Floats) -> Floats:
    """Blurred levels (3, 32, 64, 3) of an equirectangular picture in linear light, for reflections."""
    small_HW3 = cv2.resize(panorama_HW3, (64, 32), interpolation=cv2.INTER_AREA)
    ring_HW3 = np.concatenate([small_HW3] * 3, axis=1)  # a blur must not see the seam
    levels = [cv2.GaussianBlur(ring_HW3, (0, 0), sigma)[:, 64:128] for sigma in ENVIRONMENT_BLURS]
    return np.ascontiguousarray(np.stack(levels), np.float32)


@dataclass(frozen=True)
class Light:
    """A key light with a shadow map, light from above and below, point lights, and what mirrors see.

    ``key_3`` is the unit direction towards the key light; ``shadow_34`` maps a point to (column, row, depth) of
    ``shadow_HW`` whose values are minus the depth of the first caster; ``texel`` is the size of its pixel.
    """

    key_3: Floats
    key_colour_3: Floats
    up_3: Floats
    sky_3: Floats
    ground_3: Floats
    points_P3: Floats
    point_colours_P3: Floats
    shadow_34: Doubles
    shadow_HW: Doubles
    texel: float
    environment_LHW3: Floats


@dataclass(frozen=True)
class Surfaces:
    """What the triangles look like: corner normals, corner texture coordinates (in repeats), material index."""

    normals_F33: Floats
    uvs_F32: Floats
    material_F: Ints
    materials_MC: Floats
    atlas: Atlas


def shade(
    seen: Prepared, triangle_HW: Ints, panes_HW: Ints, surfaces: Surfaces, light: Light, pinhole: Doubles, eye_x: float
) -> Floats:
    """The picture (H, W, 3) float32, linear light, of buffers of (2H, 2W) triangle indices (quarters of pixels).

    Args:
        seen: the triangles as prepared for this view.
        triangle_HW: the nearest opaque triangle, ≥ 0 everywhere. panes_HW: the nearest pane before it, or -1.
        pinhole: focal length, cx, cy of the full-size image, px. eye_x: the view's x in the left camera's space.
    """
    height, width = triangle_HW.shape[0] // 2, triangle_HW.shape[1] // 2
    pixel_N, triangle_N, place_N3, behind_N = _gather(triangle_HW, panes_HW)
    colour_N4 = np.empty((len(pixel_N), 4), np.float32)
    atlas = surfaces.atlas
    _shade(
        triangle_N, place_N3, seen.edges_F33, surfaces.normals_F33, surfaces.uvs_F32, surfaces.material_F,
        surfaces.materials_MC, (atlas.texels, atlas.table_L3, atlas.first_T, atlas.count_T),
        (light.key_3, light.key_colour_3, light.up_3, light.sky_3, light.ground_3, light.points_P3,
         light.point_colours_P3), (light.shadow_34, light.shadow_HW, light.texel), light.environment_LHW3,
        pinhole, eye_x, colour_N4,
    )  # fmt: skip
    image_P3 = np.zeros((height * width, 3), np.float32)
    _compose(pixel_N, place_N3, behind_N, colour_N4, image_P3)
    return image_P3.reshape(height, width, 3)


@jit_fast
def _fetch(texels, offset, rows, columns, u, v):
    """Bilinear texel with mirrored repeat; 0..1."""
    u, v = abs(u), abs(v)
    u, v = u - 2.0 * math.floor(0.5 * u), v - 2.0 * math.floor(0.5 * v)
    x = min(max(min(u, 2.0 - u) * columns - 0.5, 0.0), columns - 1.0)
    y = min(max(min(v, 2.0 - v) * rows - 0.5, 0.0), rows - 1.0)
    j, i = int(x), int(y)
    fx, fy = x - j, y - i
    here = offset + 4 * (i * columns + j)
    right = 4 if j + 1 < columns else 0
    down = 4 * columns if i + 1 < rows else 0
    w00, w01, w10, w11 = (1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy
    p, q, s, t = here, here + right, here + down, here + right + down
    red = w00 * texels[p] + w01 * texels[q] + w10 * texels[s] + w11 * texels[t]
    green = w00 * texels[p + 1] + w01 * texels[q + 1] + w10 * texels[s + 1] + w11 * texels[t + 1]
    blue = w00 * texels[p + 2] + w01 * texels[q + 2] + w10 * texels[s + 2] + w11 * texels[t + 2]
    return red / 255.0, green / 255.0, blue / 255.0


@jit_fast
def _filtered(atlas, texture, u, v, ux, vx, uy, vy):
    """The texture averaged over a pixel's footprint; (ux, vx), (uy, vy) are the steps of one pixel right and down."""
    texels, table, first_T, count_T = atlas
    first, top = first_T[texture], count_T[texture] - 1
    width, height = table[first, 2], table[first, 1]
    along_x, along_y = math.hypot(ux * width, vx * height), math.hypot(uy * width, vy * height)
    du, dv, longer, shorter = ux, vx, along_x, along_y
    if along_y > along_x:
        du, dv, longer, shorter = uy, vy, along_y, along_x
    probes = min(max(math.ceil(longer / max(shorter, 1.0) - 0.2), 1), PROBES)
    level = min(max(math.log2(max(longer / probes, 1e-6)), 0.0), np.float64(top))
    low = int(level)
    blend, row = level - low, first + low
    red, green, blue = 0.0, 0.0, 0.0
    for n in range(probes):
        t = (n + 0.5) / probes - 0.5
        r, g, b = _fetch(texels, table[row, 0], table[row, 1], table[row, 2], u + t * du, v + t * dv)
        if blend > 0.0:
            r2, g2, b2 = _fetch(texels, table[row + 1, 0], table[row + 1, 1], table[row + 1, 2], u + t * du, v + t * dv)
            r, g, b = r + blend * (r2 - r), g + blend * (g2 - g), b + blend * (b2 - b)
        red, green, blue = red + r, green + g, blue + b
    return red / probes, green / probes, blue / probes


@jit_fast
def _lit(shadow, px, py, pz, nx, ny, nz):
    """The share of key light that reaches a point: four bilinear comparisons with the shadow map."""
    matrix, depth, texel = shadow
    px, py, pz = px + 1.5 * texel * nx, py + 1.5 * texel * ny, pz + 1.5 * texel * nz
    column = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3]
    line = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3]
    key = -(matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3]) + texel
    height, width = depth.shape
    total = 0.0
    for tap in range(4):
        x = column + (0.9 if tap & 1 else -0.9)
        y = line + (0.9 if tap & 2 else -0.9)
        if x < 0.0 or y < 0.0 or x >= width - 1 or y >= height - 1:
            total += 1.0
            continue
        j, i = int(x), int(y)
        fx, fy = x - j, y - i
        total += (1 - fx) * (1 - fy) * (depth[i, j] <= key) + fx * (1 - fy) * (depth[i, j + 1] <= key)
        total += (1 - fx) * fy * (depth[i + 1, j] <= key) + fx * fy * (depth[i + 1, j + 1] <= key)
    return total / 4.0


@jit_fast
def _mirror(environment, blur, x, y, z):
    """What a reflection sees in direction (x, y, z): bilinear over the panorama, nearest blur level."""
    level, height, width = int(blur + 0.5), environment.shape[1], environment.shape[2]
    column = (math.atan2(x, z) / (2.0 * math.pi) + 0.5) * width - 0.5
    line = min(max((0.5 + math.asin(min(max(y, -1.0), 1.0)) / math.pi) * height - 0.5, 0.0), height - 1.001)
    j, i = math.floor(column), int(line)
    fx, fy = column - j, line - i
    red, green, blue = 0.0, 0.0, 0.0
    for n in range(4):
        weight = (fx if n & 1 else 1.0 - fx) * (fy if n & 2 else 1.0 - fy)
        row, col = i + (n >> 1), (j + (n & 1)) % width
        red += weight * environment[level, row, col, 0]
        green += weight * environment[level, row, col, 1]
        blue += weight * environment[level, row, col, 2]
    return red, green, blue


@jit_fast
def _diffuse(lights, px, py, pz, nx, ny, nz, key):
    """Light arriving at a point with this normal; ``key`` is cosine times visibility of the key light."""
    _, key_colour, up, sky, ground, points, colours = lights
    above = 0.5 + 0.5 * (nx * up[0] + ny * up[1] + nz * up[2])
    red = key * key_colour[0] + above * sky[0] + (1.0 - above) * ground[0]
    green = key * key_colour[1] + above * sky[1] + (1.0 - above) * ground[1]
    blue = key * key_colour[2] + above * sky[2] + (1.0 - above) * ground[2]
    for p in range(points.shape[0]):
        dx, dy, dz = points[p, 0] - px, points[p, 1] - py, points[p, 2] - pz
        square = dx * dx + dy * dy + dz * dz + 1e-3
        gain = max(nx * dx + ny * dy + nz * dz, 0.0) / (math.sqrt(square) * (square + 0.05))
        red, green, blue = red + gain * colours[p, 0], green + gain * colours[p, 1], blue + gain * colours[p, 2]
    return red, green, blue


@jit
def _gather(triangle_HW, panes_HW):
    """One fragment for each different surface (and pane before it) in each pixel.

    Returns pixel number, triangle, (x, y, share of the pixel), and for a pane's fragment the number of the fragment
    behind it (else -1).
    """
    height, width = triangle_HW.shape[0] // 2, triangle_HW.shape[1] // 2
    limit = 8 * height * width
    pixel_N, triangle_N = np.empty(limit, np.int32), np.empty(limit, np.int32)
    place_N3, behind_N = np.empty((limit, 3), np.float64), np.empty(limit, np.int32)
    n = 0
    for i in range(height):
        for j in range(width):
            done = 0
            for s in range(4):
                if done & (1 << s):
                    continue
                f, pane = triangle_HW[2 * i + (s >> 1), 2 * j + (s & 1)], panes_HW[2 * i + (s >> 1), 2 * j + (s & 1)]
                count, x, y = 0, 0.0, 0.0
                for t in range(s, 4):
                    row, column = 2 * i + (t >> 1), 2 * j + (t & 1)
                    if triangle_HW[row, column] == f and panes_HW[row, column] == pane:
                        done |= 1 << t
                        count, x, y = count + 1, x + 0.5 * (t & 1) - 0.25, y + 0.5 * (t >> 1) - 0.25
                for layer in range(2 if pane >= 0 else 1):
                    pixel_N[n], triangle_N[n] = i * width + j, f if layer == 0 else pane
                    place_N3[n, 0], place_N3[n, 1], place_N3[n, 2] = j + x / count, i + y / count, count / 4.0
                    behind_N[n] = -1 if layer == 0 else n - 1
                    n += 1
    return pixel_N[:n].copy(), triangle_N[:n].copy(), place_N3[:n].copy(), behind_N[:n].copy()


@jit_fast
def _compose(pixel_N, place_N3, behind_N, colour_N4, image_P3):
    """Add up the fragments of every pixel by their share; a pane is mixed with what is behind it."""
    for n in range(len(pixel_N)):
        share, b = place_N3[n, 2], behind_N[n]
        for k in range(3):
            if b < 0:
                image_P3[pixel_N[n], k] += share * colour_N4[n, k]
            else:
                image_P3[pixel_N[n], k] += share * colour_N4[n, 3] * (colour_N4[n, k] - colour_N4[b, k])


@jit_fast
def _fragment(
    f,
    edges_F33,
    uvs_F32,
    normals_F33,
    material_F,
    materials_MC,
    atlas,
    lights,
    shadow,
    environment,
    pinhole,
    eye_x,
    x,
    y,
):
    """Colour and opacity of triangle ``f`` at image position (x, y)."""
    m = material_F[f]
    e = (
        edges_F33[f, 0, 0] * x + edges_F33[f, 0, 1] * y + edges_F33[f, 0, 2],
        edges_F33[f, 1, 0] * x + edges_F33[f, 1, 1] * y + edges_F33[f, 1, 2],
        edges_F33[f, 2, 0] * x + edges_F33[f, 2, 1] * y + edges_F33[f, 2, 2],
    )
    ka, kb = (
        edges_F33[f, 0, 0] + edges_F33[f, 1, 0] + edges_F33[f, 2, 0],
        edges_F33[f, 0, 1] + edges_F33[f, 1, 1] + edges_F33[f, 2, 1],
    )
    depth = 1.0 / (e[0] + e[1] + e[2])
    u, v, ux, vx, uy, vy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    nx, ny, nz = 0.0, 0.0, 0.0
    for i in range(3):
        weight = e[i] * depth
        u, v = u + weight * uvs_F32[f, i, 0], v + weight * uvs_F32[f, i, 1]
        ux, vx = ux + edges_F33[f, i, 0] * uvs_F32[f, i, 0], vx + edges_F33[f, i, 0] * uvs_F32[f, i, 1]
        uy, vy = uy + edges_F33[f, i, 1] * uvs_F32[f, i, 0], vy + edges_F33[f, i, 1] * uvs_F32[f, i, 1]
        nx, ny, nz = (
            nx + weight * normals_F33[f, i, 0],
            ny + weight * normals_F33[f, i, 1],
            nz + weight * normals_F33[f, i, 2],
        )
    red, green, blue = materials_MC[m, COLOUR], materials_MC[m, COLOUR + 1], materials_MC[m, COLOUR + 2]
    if materials_MC[m, TEXTURE] >= 0.0:
        ux, vx, uy, vy = (ux - u * ka) * depth, (vx - v * ka) * depth, (uy - u * kb) * depth, (vy - v * kb) * depth
        r, g, b = _filtered(atlas, int(materials_MC[m, TEXTURE]), u, v, ux, vx, uy, vy)
        red, green, blue = red * r, green * g, blue * b
    red, green, blue = red * red, green * green, blue * blue
    if materials_MC[m, EMISSION] > 0.0:
        return red * materials_MC[m, EMISSION], green * materials_MC[m, EMISSION], blue * materials_MC[m, EMISSION], 1.0

    rx, ry = (x - pinhole[1]) / pinhole[0], (y - pinhole[2]) / pinhole[0]
    px, py, pz = rx * depth + eye_x, ry * depth, depth
    size = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    nx, ny, nz = nx / size, ny / size, nz / size
    ray = math.sqrt(rx * rx + ry * ry + 1.0)
    vx, vy, vz = -rx / ray, -ry / ray, -1.0 / ray
    facing = nx * vx + ny * vy + nz * vz
    if facing < 0.0:
        nx, ny, nz, facing = -nx, -ny, -nz, -facing
    key_direction, key_colour = lights[0], lights[1]
    key = max(nx * key_direction[0] + ny * key_direction[1] + nz * key_direction[2], 0.0)
    if key > 0.0:
        key *= _lit(shadow, px, py, pz, nx, ny, nz)
    dr, dg, db = _diffuse(lights, px, py, pz, nx, ny, nz, key)
    f0, metal = materials_MC[m, F0], materials_MC[m, METAL]
    if f0 <= 0.0:
        return red * dr, green * dg, blue * db, materials_MC[m, OPACITY]

    fresnel = f0 + (1.0 - f0) * 0.6 * (1.0 - facing) ** 5
    mr, mg, mb = _mirror(
        environment, materials_MC[m, BLUR], 2 * facing * nx - vx, 2 * facing * ny - vy, 2 * facing * nz - vz
    )
    hx, hy, hz = key_direction[0] + vx, key_direction[1] + vy, key_direction[2] + vz
    half = max((nx * hx + ny * hy + nz * hz) / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9), 0.0)
    shine = min(key * (materials_MC[m, SHININESS] + 8.0) / 25.0 * half ** materials_MC[m, SHININESS], 12.0)
    mr, mg, mb = mr + shine * key_colour[0], mg + shine * key_colour[1], mb + shine * key_colour[2]
    # A metal tints its reflection and has no diffuse light of its own.
    tr, tg, tb = 1.0 - metal + metal * red, 1.0 - metal + metal * green, 1.0 - metal + metal * blue
    base = (1.0 - metal) * (1.0 - fresnel)
    strength = metal + (1.0 - metal) * fresnel
    opacity = materials_MC[m, OPACITY] + (1.0 - materials_MC[m, OPACITY]) * fresnel
    return (
        base * red * dr + strength * tr * mr,
        base * green * dg + strength * tg * mg,
        base * blue * db + strength * tb * mb,
        opacity,
    )


@jit_fast
def _shade(
    triangle_N,
    place_N3,
    edges_F33,
    normals_F33,
    uvs_F32,
    material_F,
    materials_MC,
    atlas,
    lights,
    shadow,
    environment,
    pinhole,
    eye_x,
    colour_N4,
):
    """Colour and opacity of every fragment."""
    for n in range(len(triangle_N)):
        colour_N4[n, 0], colour_N4[n, 1], colour_N4[n, 2], colour_N4[n, 3] = _fragment(
            triangle_N[n], edges_F33, uvs_F32, normals_F33, material_F, materials_MC,
            atlas, lights, shadow, environment, pinhole, eye_x, place_N3[n, 0], place_N3[n, 1],
        )  # fmt: skip
