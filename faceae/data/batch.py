"""The batch that passes from the data pipeline to the engine.

This module imports neither Ray nor torch: each side would pay for the import that only the other needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from faceae.tasks.base import Damage
from faceae.tasks.inpaint import blacken


class Batch(NamedTuple):
    """One rank's share of a global batch, as the data pipeline delivers it.

    Attributes:
        pixels: (n, S, S, 3) uint8, the original images; (0, S, S, 3) if they are on the device already.
        drawn: (n, B) uint8, what was drawn at random for each image, such as its mask; see `faceae.tasks`.
        global_rows: number of images in the global batch, over all ranks.
        mirrored: (n,) bool, the images to mirror left to right before they are damaged; None if there are none.
        numbers: (n,) int64, the numbers by which the device keeps the images; None if it does not.
        damage: what to do to the images with that.
    """

    pixels: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    global_rows: int
    mirrored: NDArray[np.bool_] | None = None
    numbers: NDArray[np.int64] | None = None
    damage: Damage = blacken
