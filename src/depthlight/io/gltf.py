"""GLB (glTF 2.0): coloured points and textured meshes in one file that browsers and Blender open. Needs trimesh.

Camera axes (x right, y down, z forward) become glTF's (x right, y up, z backward); glTF's unit is the metre.

Shape legend: N points, M triangles, H, W texture size.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TO_GLTF = np.array([1, -1, -1], np.float32)
_ABOUT = {"unit": "metre", "axes": "x right, y up, z backward; origin at the left camera", "generator": "depthlight"}


def points_glb(points_N3: NDArray[np.float32], colours_N3: NDArray[np.uint8] | None) -> bytes:
    """Points in camera axes, metres, as GLB. Colours are sRGB; glTF stores them linear, so 8 bits of that."""
    colours = None if colours_N3 is None else _LINEAR[colours_N3]
    return _export(_trimesh().PointCloud(points_N3 * TO_GLTF, colors=colours))


def mesh_glb(
    vertices_N3: NDArray[np.float32],
    faces_M3: NDArray[np.int32],
    uv_N2: NDArray[np.float32],
    texture_HW3: NDArray[np.uint8],
) -> bytes:
    """A mesh in camera axes, metres, as GLB with its texture inside (PNG), drawn as it is, without lights.

    ``uv_N2`` is in 0..1 from the upper left corner of the image; triangles are counter-clockwise seen from the camera.
    """
    trimesh = _trimesh()
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(texture_HW3), metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
    )
    uv_N2 = np.stack([uv_N2[:, 0], 1 - uv_N2[:, 1]], axis=1)  # trimesh counts v from the bottom
    visual = trimesh.visual.TextureVisuals(uv=uv_N2, material=material)
    return _export(trimesh.Trimesh(vertices_N3 * TO_GLTF, faces_M3, visual=visual, process=False))


def _export(geometry: Any) -> bytes:
    scene = _trimesh().Scene(geometry, metadata=dict(_ABOUT))
    return bytes(scene.export(file_type="glb", tree_postprocessor=_unlit))


def _trimesh() -> Any:
    """Takes half a second to import: only where a GLB is asked for."""
    return import_module("trimesh")


def _unlit(tree: dict[str, Any]) -> None:
    """A photograph has its light in it already."""
    for material in tree.get("materials", []):
        material.setdefault("extensions", {})["KHR_materials_unlit"] = {}
    tree["extensionsUsed"] = sorted({*tree.get("extensionsUsed", []), "KHR_materials_unlit"})


def _srgb_to_linear() -> NDArray[np.uint8]:
    """IEC 61966-2-1, 8 bits to 8 bits."""
    share = np.arange(256) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    levels: NDArray[np.uint8] = np.rint(linear * 255).astype(np.uint8)
    return levels


_LINEAR = _srgb_to_linear()
