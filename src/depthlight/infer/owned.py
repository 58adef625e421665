"""The names of the files of every kind of result, so that a new one can remove all of an old one, whatever it was.

In each list the one that vouches for the others comes first.
"""

from __future__ import annotations

from .metres import METRIC_FILES

RESULT = "result.json"
STEREO = (
    RESULT,
    *(f"disparity.{suffix}" for suffix in ("json", "png", "npy", "pfm", "tiff")),
    "disparity_right.png",
    "disparity_right.json",
    "valid.png",
    "confidence.png",
    "preview.png",
    *METRIC_FILES,
)
MONO = (
    RESULT,
    *(f"{stem}.{suffix}" for stem in ("inverse_depth", "depth") for suffix in ("json", "png", "npy")),
    "normals.png",
    "preview.png",
    "side_by_side.jpg",
    "cloud.ply",
)
REFINED_PHOTO = (
    RESULT,
    "before.npy",
    "after.npy",
    "inverse_depth.png",
    "inverse_depth.json",
    "depth.npy",
    "depth.png",
    "depth.json",
    "normals_before.png",
    "normals_after.png",
    "relit.png",
    "difference.png",
    "losses.png",
    "losses.csv",
    "preview.png",
)
BESIDE_REFINED_PAIR = ("before.npy", "after.npy", "difference.png", "losses.png", "losses.csv", "refined.png")
EVERY = tuple(dict.fromkeys((*STEREO, *MONO, *REFINED_PHOTO, *BESIDE_REFINED_PAIR)))
