"""The batch that passes from the data pipeline to the engine.

This module imports neither Ray nor torch: each side would pay for the import that only the other needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """One rank's share of a global batch, as the data pipeline delivers it.

    Attributes:
        pixels: (n, S, S, 3) uint8, the original images; (0, S, S, 3) if they are on the device already.
        mask: (n, S * S / 8) uint8, one bit per pixel, see `faceae.corruption.masks.pack`.
        global_rows: number of images in the global batch, over all ranks.
        mirrored: (n,) bool, the images to mirror left to right before they are masked; None if there are none.
        numbers: (n,) int64, the numbers by which the device keeps the images; None if it does not.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    global_rows: int
    mirrored: NDArray[np.bool_] | None = None
    numbers: NDArray[np.int64] | None = None
