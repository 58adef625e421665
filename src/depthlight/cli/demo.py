"""``depthlight demo``: the main job on a real pair, from a fresh installation, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ..core.extras import require
from ..geometry.rig import StereoRig
from ..infer.folder import save_prediction
from ..infer.load import load
from .common import (
    BackendOption,
    DeviceOption,
    JsonFlag,
    ModelOption,
    PrecisionOption,
    QuietFlag,
    ThreadsOption,
    WeightsOption,
    emit_json,
    say,
)

# Middlebury 2014 "Motorcycle" as scikit-image ships it (a quarter of the size), calibration from the data set's page:
# https://vision.middlebury.edu/stereo/data/scenes2014/
MOTORCYCLE_RIG = StereoRig(
    fx=994.978, fy=994.978, cx=311.193, cy=254.877, baseline=0.193001, doffs=31.086, width=741, height=500
)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("depthlight-demo"),
    model: ModelOption = None,
    weights: WeightsOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Run the bundled weights on a real pair: disparity, confidence, depth in metres, picture, point cloud."""
    left, right, truth = motorcycle()
    matcher = load(model, weights=weights, backend=backend, device=device, precision=precision, threads=threads)
    prediction = matcher.predict(left, right)
    result = save_prediction(
        out,
        prediction,
        left,
        rig=MOTORCYCLE_RIG,
        truth_HW=np.where(np.isfinite(truth), truth, 0),
        truth_valid_HW=np.isfinite(truth),
    )
    if as_json:
        emit_json(result)
    depth = prediction.to_depth(MOTORCYCLE_RIG)
    near, far = np.percentile(depth.depth[depth.valid], [2, 98])
    error = np.abs(prediction.disparity - truth)[np.isfinite(truth)]
    low, high = result["disparity_min"], result["disparity_max"]
    for line in (
        f"Motorcycle (Middlebury 2014, 741x500), {result['model']} on {result['backend']}: {prediction.seconds:.2f} s.",
        f"Disparity {low:.1f} to {high:.1f} px; depth {near:.2f} to {far:.2f} m.",
        f"Against the truth: mean error {error.mean():.2f} px, {100 * (error > 2).mean():.1f} % more than 2 px off.",
        f"Look at {out / 'preview.png'}; open {out / 'cloud.ply'} in any 3-D viewer.",
    ):
        say(line, quiet=quiet, as_json=as_json)


def motorcycle() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[Any]]:
    """Left, right (500, 741, 3) uint8 RGB and the true disparity (500, 741) px, infinite where unknown."""
    data = require("skimage.data", extra="demo", purpose="it brings the sample pair")
    left, right, truth = data.stereo_motorcycle()
    return left, right, truth
