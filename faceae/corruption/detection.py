"""Detects the holes of a picture that comes without a mask: solid black, axis-aligned boxes.

Three things distinguish a drawn box from hair and shadows: its shape (straight sides, nothing inside); where a lossy
format has blurred the sides, the lighter pixels around it; and sides that are one step, along a straight line. An area
without such sides is doubtful: it is reported, not taken for a hole. Counted on 322 pictures without a box of their own
(100 FFHQ thumbnails and 150 LFW faces of 128x128, 12 London portraits of 1350x1350, 60 drawn portraits of 256x256), as
they are and with one box drawn at random:

    file               no box: painted, doubtful   box of 8 found   16 to 60     120 to 240
    PNG                0, 2 of 322                 318 of 322       961 of 966   84 of 84
    JPEG, quality 95   1, 4                        171              881          83
    JPEG, quality 75   1, 4                        39               849          82

The one face in JPEG has a black bar across its top. Boxes that are not found lie in dark hair or clothes, or are small
and blurred; up to 9 in a row of this table are doubtful, the others are missed.

A mask, where there is one, is more reliable.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from faceae.corruption.components import Box, Mask, components

SIDE = 8
"""Minimum side of a box in pixels; smaller boxes are ignored."""

MAX_AREAS = 100_000
"""Maximum number of separate black areas in a picture: each is looked at, which takes some 50 us."""

_BLURRED_RIM = 2  # width in pixels of the rim around a box that JPEG blurs


class TooManyAreas(Exception):  # noqa: N818  (it describes the picture)
    """A picture has more than `MAX_AREAS` black areas; the message says how many."""


class Doubtful(Exception):  # noqa: N818
    """A picture has black areas, but none that is certainly a box; the message names one of them."""


class _BlackRule(NamedTuple):
    """The rule for what counts as a black box. A pixel's brightness is its largest channel.

    Attributes:
        max_black: maximum brightness of a black pixel.
        max_mean: maximum mean brightness of a box.
        min_share: minimum share of black pixels in a box.
        certain_mean: a box of at most this mean brightness counts whatever is around it.
        near: how many pixels from the side of a box its step may lie.
        min_straight: minimum straightness of the sides of a box that is not doubtful.
    """

    max_black: int
    max_mean: float
    min_share: float
    certain_mean: float
    near: int
    min_straight: float


_LOSSLESS = _BlackRule(max_black=0, max_mean=5, min_share=0.98, certain_mean=5, near=1, min_straight=0.25)
_LOSSY = _BlackRule(max_black=20, max_mean=8, min_share=0.95, certain_mean=2.5, near=4, min_straight=0.65)

_DIM = 40  # maximum brightness of a dim pixel, against which the side of a box cannot be seen
_DARKEST_SIDE, _NEXT_SIDE = 0.7, 0.4  # maximum share of dim pixels beyond the darkest and second darkest side of a box

_STEP = 16  # minimum difference in brightness of a step


def detect_holes(pixels: NDArray[np.uint8], lossy: bool) -> Mask:
    """Finds the black boxes of a picture.

    Args:
        pixels: the picture, (H, W, 3) uint8.
        lossy: whether the picture was stored in a lossy format such as JPEG. Black is then not quite black, and the
            boxes are grown by 2 pixels on each side, because such formats blur that rim.

    Returns:
        (H, W) bool, True inside the boxes; all False if there is no box of at least 8x8 pixels.

    Raises:
        Doubtful: there is no box, but a black area that could be one.
        TooManyAreas: the picture has more than `MAX_AREAS` black areas of that size.
    """
    brightest = pixels.max(2)
    rule = _LOSSY if lossy else _LOSSLESS
    black = brightest <= rule.max_black
    found = np.zeros(black.shape, np.bool_)
    blurred = _BLURRED_RIM if lossy else 0
    doubtful = list[Box]()
    for part in _areas(_opened(black)):
        box = _trimmed(black, part, 2 * blurred)
        if box and _is_solid(brightest, box, rule) and _stands_out(brightest, box, rule):
            if _straightness(brightest, box, rule.near) >= rule.min_straight:
                found[box.grown(blurred).inside] = True
            else:
                doubtful.append(box)
    if doubtful and not found.any():
        top, bottom, left, right = doubtful[0]
        raise Doubtful(f"the black area of {right - left}x{bottom - top} pixels at column {left}, row {top}")
    return found


def _areas(black: Mask) -> list[Box]:
    areas = components(black)
    if len(areas) > MAX_AREAS:
        raise TooManyAreas(f"{len(areas)} black areas")
    return areas


def _is_solid(brightest: NDArray[np.uint8], box: Box, rule: _BlackRule) -> bool:
    inside = brightest[box.inside]
    return bool((inside <= rule.max_black).mean() >= rule.min_share and inside.mean() <= rule.max_mean)


def _stands_out(brightest: NDArray[np.uint8], box: Box, rule: _BlackRule) -> bool:
    """Whether a box is too black to be a shadow, or the picture is lighter beyond its sides.

    Beyond a side are the fourth and fifth row or column from it: those nearer may be blurred.
    """
    if brightest[box.inside].mean() <= rule.certain_mean:
        return True
    outer, inner = box.grown(5), box.grown(3)
    across, along = slice(box.left, box.right), slice(box.top, box.bottom)
    sides = (
        brightest[outer.top : inner.top, across],
        brightest[inner.bottom : outer.bottom, across],
        brightest[along, outer.left : inner.left],
        brightest[along, inner.right : outer.right],
    )
    dim = sorted(((side <= _DIM).mean() for side in sides if side.size), reverse=True)
    return all(share <= limit for share, limit in zip(dim, (_DARKEST_SIDE, _NEXT_SIDE), strict=False))


def _straightness(brightest: NDArray[np.uint8], box: Box, near: int) -> float:
    """Returns how far the sides of a box are steps along a line, from 0 to 1.

    For each pixel along a side, its step is where the brightness falls most from outside to inside. The straightness
    of a side is the share of its pixels that have a step at the same place; sides at the picture's border do not count.
    """
    height, width = brightest.shape
    straight = []
    for lines, start, end, length in (
        (brightest[:, box.left : box.right], box.top, box.bottom, height),
        (brightest[box.top : box.bottom].T, box.left, box.right, width),
    ):
        for at, inwards in ((start, 1), (end, -1)):
            if at < near or at + near > length:
                continue
            across = lines[at - near : at + near][::inwards].astype(np.int16)
            falls = across[:-1] - across[1:]
            largest = falls.max(0)
            steps = (falls == largest) & (largest >= _STEP)
            straight.append(int(steps.sum(1).max()) / falls.shape[1])
    return sum(straight) / len(straight) if straight else 1.0


def _opened(black: Mask) -> Mask:
    """Returns the pixels that lie in a black square of SIDE x SIDE (morphological opening)."""
    if min(black.shape) < SIDE:
        return np.zeros_like(black)
    sums = np.pad(black.astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    squares = sums[SIDE:, SIDE:] - sums[:-SIDE, SIDE:] - sums[SIDE:, :-SIDE] + sums[:-SIDE, :-SIDE] == SIDE * SIDE
    wide = np.zeros((squares.shape[0], black.shape[1]), np.bool_)
    for shift in range(SIDE):
        wide[:, shift : shift + squares.shape[1]] |= squares
    opened = np.zeros_like(black)
    for shift in range(SIDE):
        opened[shift : shift + squares.shape[0]] |= wide
    return opened


def _trimmed(black: Mask, part: Box, max_trim: int) -> Box | None:
    """Cuts rows and columns that are less than 75 % black off the sides of a box.

    Returns:
        The box without at most `max_trim` of them on each side; None if nothing or less than SIDE x SIDE is left.
    """
    inside = black[part.inside]
    rows, columns = np.flatnonzero(inside.mean(1) >= 0.75), np.flatnonzero(inside.mean(0) >= 0.75)
    if not rows.size or not columns.size:
        return None
    box = Box(
        part.top + min(int(rows[0]), max_trim),
        max(part.top + int(rows[-1]) + 1, part.bottom - max_trim),
        part.left + min(int(columns[0]), max_trim),
        max(part.left + int(columns[-1]) + 1, part.right - max_trim),
    )
    return box if min(box.bottom - box.top, box.right - box.left) >= SIDE else None
