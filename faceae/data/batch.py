"""What passes from the data pipeline to the engine. Imports neither Ray nor torch: both sides pay for imports."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """One rank's share of a global batch, as it comes from the data pipeline.

    Attributes:
        pixels: (n, S, S, 3) uint8, the originals.
        mask: (n, S * S / 8) uint8, one bit a pixel, see `faceae.corruption.masks.pack`.
        global_rows: images of the global batch, over all ranks.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    global_rows: int
