"""The docs' pictures: pairs of our own engine, with scikit-image's photographs and patterns as textures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bench.report import ROOT
from numpy.typing import NDArray

from depthlight.core.errors import DepthlightError
from depthlight.data.samples import StereoSample
from depthlight.data.synth.camera import CameraConfig
from depthlight.data.synth.engine import Engine, SynthConfig
from depthlight.infer.load import load
from depthlight.io.colour import colour_map
from depthlight.io.pictures import error_panel, map_panel, panel, sheet, write_image

FOLDER = ROOT / "docs" / "pictures"
README_PAIR = ("rooms", 1, 6)  # family, seed, index: chosen by eye, among those about as hard as real scenes on average
SIZE = (384, 832)
SHEET = {  # family: seed and index of two scenes
    "layered": ((0, 0), (1, 3)),
    "meshes": ((0, 2), (1, 1)),
    "photowarp": ((0, 0), (1, 0)),
    "rooms": ((1, 3), (1, 6)),
}
SHEET_WIDTH = 220
LARGEST_BYTES = 500_000
Image = NDArray[np.uint8]


def run() -> None:
    """Write both pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    family, seed, index = README_PAIR
    _write(FOLDER / "readme.png", readme(pair(family, seed, index, SIZE)))
    _write(FOLDER / "sheet.png", families())


def pair(family: str, seed: int, index: int, size: tuple[int, int]) -> StereoSample:
    """An engine pair as the docs show it: camera effects off."""
    config = SynthConfig(
        seed=seed,
        height=size[0],
        width=size[1],
        families={family: 1.0},
        min_max_disp=30.0,
        max_max_disp=100.0,
        camera=CameraConfig(strength=0.0),
    )
    return Engine(config).sample(index)


def readme(sample: StereoSample, width: int = 500) -> Image:
    """Left view, predicted disparity, confidence and error of the bundled default, two by two."""
    found = load().predict(sample.left_HW3, sample.right_HW3)
    truth_HW = sample.disparity_HW
    if truth_HW is None:
        raise DepthlightError(f"{sample.name} has no truth")
    span = (0.0, float(np.percentile(truth_HW, 99.5)))
    cells = [
        panel(sample.left_HW3, "Left view"),
        map_panel(found.disparity, f"Disparity ({found.model.name})", span=span),
        map_panel(found.confidence, "Confidence", unit="", span=(0.0, 1.0), name="viridis"),
        error_panel(found.disparity, truth_HW),
    ]
    widest = max(cell.shape[1] for cell in cells)  # the left view has no scale bar
    even = [np.pad(cell, ((0, 0), (0, widest - cell.shape[1]), (0, 0)), constant_values=255) for cell in cells]
    return sheet(even, columns=2, width=width)


def families() -> Image:
    """Left view and true disparity of two scenes of every family."""
    images: list[Image] = []
    labels: list[str] = []
    for family, scenes in SHEET.items():
        for seed, index in scenes:
            sample = pair(family, seed, index, SIZE)
            images += [sample.left_HW3, _coloured(sample)]
            labels += [family, f"disparity up to {sample.extra['max_disp']:.0f} px"]
    return sheet(images, columns=4, labels=labels, width=SHEET_WIDTH)


def _coloured(sample: StereoSample) -> Image:
    assert sample.disparity_HW is not None  # the engine always has it
    return colour_map(sample.disparity_HW, 0.0, float(sample.disparity_HW.max()), name="turbo")


def _write(target: Path, image: Image) -> None:
    write_image(target, image)
    size = target.stat().st_size
    print(f"pictures: {target.name} {image.shape[1]}×{image.shape[0]}, {size / 1000:.0f} kB", flush=True)
    if size > LARGEST_BYTES:
        raise DepthlightError(f"{target.name} has {size} bytes", expected=f"at most {LARGEST_BYTES}")
