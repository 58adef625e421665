"""A stereo refinement as a folder of files; ``result.json``, written last, says that it is whole.

Layout: what ``depthlight stereo --left-right`` writes (:mod:`depthlight.infer.folder`), of the refined disparity;
besides ``before.npy`` and ``after.npy`` (px, (H, W) float32), ``difference.png``, ``losses.png``, ``losses.csv`` and
``refined.png`` (photo, both maps and the difference). While a run is under way its state is in ``state/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.rig import StereoRig
from ..infer.folder import save_prediction
from ..infer.metres import Metres
from ..infer.owned import BESIDE_REFINED_PAIR
from ..io.atomic import atomic_path, atomic_write_bytes
from ..io.colour import robust_range
from ..io.pictures import map_panel, panel, write_image
from .files import loss_pictures, side_by_side, table
from .keeping import forget
from .stereo_result import StereoRefineResult

STATE = "state"


def save_stereo_refinement(
    folder: Path,
    result: StereoRefineResult,
    left_HW3: NDArray[np.uint8],
    *,
    rig: StereoRig | None = None,
    metres: Metres | None = None,
    request: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write everything about one stereo refinement; returns what ``result.json`` holds.

    Files of an earlier result (:mod:`depthlight.infer.owned`) are removed first, and the state of the run last.

    Args:
        folder: made if it is missing.
        result: what to write.
        left_HW3: the left image, RGB uint8.
        rig: adds what is in metres; ``metres`` says what that is.
        request: what was asked for (see :func:`depthlight.infer.folder.is_complete`).

    Raises:
        InputError: the rig is for images of another size, or no pixel has a depth; nothing is touched then.
        LimitError: the voxels are too fine for the cloud; nothing is touched then either.
        OutputError: a file cannot be removed or written.
    """

    def more() -> tuple[list[str], dict[str, Any]]:
        _write_beside(folder, result, left_HW3)
        return [name for name in BESIDE_REFINED_PAIR if (folder / name).is_file()], result.summary()

    # one that ended early answers no request, so that it is done again
    answered = None if result.stopped else request
    facts = save_prediction(folder, result.after, left_HW3, rig=rig, metres=metres, request=answered, more=more)
    forget(folder / STATE)
    return facts


def _write_beside(folder: Path, result: StereoRefineResult, left_HW3: NDArray[np.uint8]) -> None:
    """What a refinement has more than a prediction."""
    for name, values_HW in (("before.npy", result.before.disparity), ("after.npy", result.after.disparity)):
        with atomic_path(folder / name) as temporary:
            np.save(temporary, values_HW, allow_pickle=False)
    for name, picture in _pictures(result, left_HW3).items():
        write_image(folder / name, picture)
    if result.history:
        atomic_write_bytes(folder / "losses.csv", table(result.history))


def _pictures(result: StereoRefineResult, left_HW3: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    span = robust_range(result.before.disparity)
    before, after = (
        map_panel(values_HW, f"Disparity {name}", span=span)
        for name, values_HW in (("before", result.before.disparity), ("after", result.after.disparity))
    )
    change_HW = result.after.disparity - result.before.disparity
    reach = max(float(np.percentile(np.abs(change_HW), 99)), 1e-2)
    difference = map_panel(change_HW, "After minus before", span=(-reach, reach))
    pictures = {
        "difference.png": difference,
        "refined.png": side_by_side([panel(left_HW3, "Left image"), before, after, difference]),
    }
    return pictures | loss_pictures(result.history)
