"""Any size in, the same size out.

Networks want height and width in multiples of 32. The images are extended to the next multiple at the bottom and at
the right by repeating their last row and column; the result is cut back to the exact input size. The left edge stays
where it is, so disparities near it see no invented pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MULTIPLE = 32  # px: what networks want their sides, and the range they search, in multiples of


def up(px: int) -> int:
    """The next multiple of :data:`MULTIPLE`."""
    return -(-px // MULTIPLE) * MULTIPLE


def pad_to_multiple(image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Extend an (H, W, 3) image by edge replication so that both sides are multiples of :data:`MULTIPLE`."""
    height, width = image_HW3.shape[:2]
    bottom, right = up(height) - height, up(width) - width
    if not bottom and not right:
        return image_HW3
    return np.pad(image_HW3, ((0, bottom), (0, right), (0, 0)), mode="edge")


def crop(map_HW: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Undo :func:`pad_to_multiple` on a map of the padded size."""
    return np.ascontiguousarray(map_HW[:height, :width])
