"""The edge of a hole: makes holes larger, and blends what fills them with what was there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceae.corruption.components import Mask, bounds

Pixels = NDArray[np.uint8]


def grown(hole: Mask, pixels: int) -> Mask:
    """Returns a hole, larger by a number of pixels to each side (dilation by a square).

    Args:
        hole: (H, W) bool, True inside the hole.
        pixels: how far the hole grows.
    """
    larger = hole.copy()
    box = _around(hole, pixels)
    for part in (larger[box], larger[box].T):
        reach = 0
        while reach < pixels:
            step = min(reach + 1, pixels - reach)  # so that nothing is reached by way of what is beyond the border
            before = part.copy()
            part[step:] |= before[:-step]
            part[:-step] |= before[step:]
            reach += step
    return larger


def thick_parts(hole: Mask, pixels: int) -> Mask:
    """Returns all squares of 2 * pixels + 1 that lie in a hole, and what of the hole is up to `pixels` away from them.

    The squares alone are the hole's morphological opening, which leaves out the rim of what is round.

    Args:
        hole: (H, W) bool, True inside the hole.
        pixels: half the side of the squares; 0 returns all of the hole.
    """
    thick = np.zeros_like(hole)
    box = _around(hole, 0)
    known = np.pad(~hole[box], 1, constant_values=True)  # what is around it wears it away, the picture's border too
    thick[box] = grown(~grown(known, pixels), 2 * pixels)[1:-1, 1:-1] & hole[box]
    return thick


def feather(filled: Pixels, picture: Pixels, hole: Mask, pixels: int) -> None:
    """Blends the outer pixels of a filled hole with what the picture has there.

    The share of the fill rises linearly with the distance from the known pixels (the larger of the horizontal and the
    vertical one): 1 of pixels + 1 parts in the outermost pixels of the hole, all of it beyond `pixels`.

    Args:
        filled: the picture with its hole filled, (H, W, 3) uint8; changed inside the hole only.
        picture: the picture before, (H, W, 3) uint8.
        hole: (H, W) bool, True inside the hole.
        pixels: how far the blend reaches into the hole.
    """
    box = _around(hole, 1)
    known, picture, filled = ~hole[box], picture[box], filled[box]
    for distance in range(1, pixels + 1):
        wider = grown(known, 1)
        ring = wider & ~known
        share = distance / (pixels + 1)
        filled[ring] = (picture[ring] * (1 - share) + filled[ring] * share).round().astype(np.uint8)
        known = wider


def _around(hole: Mask, pixels: int) -> tuple[slice, slice]:
    """Returns the smallest box around a hole, larger by a number of pixels to each side; empty if there is no hole."""
    box = bounds(hole)
    return box.grown(pixels).inside if box else (slice(0, 0), slice(0, 0))
