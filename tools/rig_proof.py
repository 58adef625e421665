"""From raw cameras to metres, measured: random rigs, rendered ray by ray, through the whole command line.

Usage: python tools/rig_proof.py [--rigs 20] [--first 0] [--seed 0] [--rows FILE] [--page FILE] [--work FOLDER]

Each rig has its own lenses, rotation and baseline, known exactly. It sees 16 pictures of a chessboard and one scene.
The verbs calibrate, rectify and stereo get the pictures and the board's square, nothing else. The depth they arrive at
is compared with that of the ray through the same raw pixel. The page gets a table between its markers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import skimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for bench/

from bench.rigs import Eyes, board_views, random_rig, scene, true_depth

from depthlight import StereoRig
from depthlight.cli import main as cli
from depthlight.data.synth.textures import SKIMAGE_PHOTOS
from depthlight.geometry.calibration import read_calibration
from depthlight.geometry.rectify import rectification
from depthlight.io.images import read_image
from depthlight.io.native import write_native

BAR = 1.0  # per cent: the median depth error every rig is held to
VIEWS = 16
START, END = "<!-- rig_proof -->", "<!-- /rig_proof -->"
COLUMNS = (
    "rig",
    "lens",
    "baseline",
    "reprojection px",
    "baseline error %",
    "rows px",
    "disparity px",
    "median depth error %",
)


def run_verb(*words: object) -> dict[str, Any]:
    """One command line with ``--json``; its result."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.run([str(word) for word in (*words, "--json")])
    if status:
        raise SystemExit(f"{words[0]} ended with status {status}: {err.getvalue()}")
    return json.loads(out.getvalue())  # type: ignore[no-any-return]


def photographs() -> list[np.ndarray]:
    """scikit-image's pictures, (H, W, 3) uint8."""
    folder = Path(skimage.__file__).parent / "data"
    return [read_image(folder / name) for name in SKIMAGE_PHOTOS if (folder / name).is_file()]


def prove(index: int, seed: int, folder: Path) -> dict[str, Any]:
    """One rig, from nothing to its row of the table."""
    rng = np.random.default_rng([seed, index])
    lens = "fisheye" if index % 4 == 3 else "pinhole"
    rig = random_rig(rng, lens)
    eyes = Eyes(rig)
    square, views = board_views(rng, eyes, VIEWS)
    for number, view in enumerate(views):
        for side, image in zip(("left", "right"), view, strict=True):
            write_native(folder / f"board/{side}/{number:02d}.png", image)
    patches = scene(rng, rig, rectification(rig).rig.fx, photographs())
    for side, image in zip(("left", "right"), eyes.look(patches, rng), strict=True):
        write_native(folder / f"{side}.png", image)
    board = ("--board", "chessboard", "9x6", "--square", f"{1000 * square!r}mm", "--lens", lens)
    calibrated = run_verb("calibrate", folder / "board/left", folder / "board/right", *board, "-o", folder / "calib")
    raw = ("--calib", folder / "calib/calibration.json", "-o", folder / "rect")
    rectified = run_verb("rectify", folder / "left.png", folder / "right.png", *raw)
    pair = (folder / "rect/left.png", folder / "rect/right.png", "--calib", folder / "rect/rig.json")
    run_verb("stereo", *pair, "-o", folder / "out", "--format", "npy")
    error, disparity = depth_error(folder, rig, patches)
    low, high = np.percentile(disparity, [1, 99])
    return {
        "rig": index,
        "lens": lens,
        "baseline": f"{1000 * rig.baseline:.0f} mm",
        "reprojection px": calibrated["rms_px"],
        "baseline error %": 100 * abs(calibrated["baseline_m"] / rig.baseline - 1),
        "rows px": rectified["vertical_error_px"],
        "disparity px": f"{low:.0f}–{high:.0f}",
        "median depth error %": 100 * float(np.median(error)),
        "below 2 %": float((error < 0.02).mean()),
        "pixels": len(error),
    }


def depth_error(folder: Path, rig: Any, patches: Any) -> tuple[np.ndarray, np.ndarray]:
    """Relative depth error and disparity of every pixel whose match lies inside the right view.

    The truth is that of the ray through the raw pixel which the rectified one shows, along the rectified axis.
    """
    used = rectification(read_calibration(folder / "calib/calibration.json").need_cameras())
    made = StereoRig.from_file(folder / "rect/rig.json")
    disparity = np.load(folder / "out/disparity.npy").astype(np.float64)
    columns, rows = used.left.maps
    pixels = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float64)
    truth = true_depth(patches, rig.left, pixels, used.left.rotation[2]).reshape(disparity.shape)
    true_disparity = made.fx * made.baseline / truth - made.doffs
    inside = np.arange(disparity.shape[1]) - true_disparity >= 0
    keep = np.isfinite(truth) & inside & used.left.mask
    depth = made.fx * made.baseline / np.maximum(disparity + made.doffs, 1e-6)
    return np.abs(depth / truth - 1)[keep], true_disparity[keep]


def table(rows: list[dict[str, Any]], seed: int) -> str:
    """The rows as markdown, with a line about all of them."""
    shown = [[f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS] for row in rows]
    lines = [" | ".join(COLUMNS), " | ".join(["---"] * len(COLUMNS)), *(" | ".join(row) for row in shown)]
    errors = [row["median depth error %"] for row in rows]
    held = sum(error <= BAR for error in errors)
    share = 100 * np.mean([row["below 2 %"] for row in rows])
    words = (
        f"{held} of {len(rows)} rigs have a median depth error of at most {BAR:g} %. The median of the medians is "
        f"{np.median(errors):.2f} %, the largest {max(errors):.2f} %. On average {share:.0f} % of the pixels are "
        f"within 2 %. Seed {seed}; made by `tools/rig_proof.py`."
    )
    return "\n".join(f"| {line} |" for line in lines) + f"\n\n{words}\n"


def main() -> None:
    """Run all rigs and write the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rigs", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="number of the first rig")
    options.add_argument("--rows", type=Path, help="rows done before are read from here, new ones added")
    options.add_argument("--page", type=Path)
    options.add_argument("--work", type=Path, help="keep the files of every rig here")
    chosen = options.parse_args()
    done = chosen.rows.read_text().splitlines() if chosen.rows and chosen.rows.is_file() else []
    rows = [json.loads(line) for line in done]
    missing = set(range(chosen.first, chosen.first + chosen.rigs)) - {row["rig"] for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        for index in sorted(missing):
            began = time.perf_counter()
            row = prove(index, chosen.seed, (chosen.work or Path(temporary)) / f"{index:02d}")
            rows.append(row)
            print(json.dumps({**row, "seconds": round(time.perf_counter() - began, 1)}), flush=True)
            if chosen.rows:
                with chosen.rows.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    rows.sort(key=lambda row: int(row["rig"]))
    print(table(rows, chosen.seed))
    if chosen.page:
        text = chosen.page.read_text()
        head, tail = text.split(START)[0], text.split(END)[1]
        chosen.page.write_text(f"{head}{START}\n\n{table(rows, chosen.seed)}\n{END}{tail}")


if __name__ == "__main__":
    main()
