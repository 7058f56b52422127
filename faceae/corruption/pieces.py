"""Divides holes into pieces, each of which a network can fill in one look.

What is thin is filled from what is near, by a network for that (see `faceae.models.thin`). The rest is for the network
that knows faces. It was trained on holes that are nearly square, with as much of the picture around them. A box is such
a hole and stays whole, whatever its size. A band is long and thin: if all of it were scaled down to the network's size,
nothing of it would be left to see. So it is cut into cells that are about twice as large as it is thick.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from faceae.corruption.components import Box, Mask, bounds, components

_BLOCK = 8  # holes less than 8 to 16 pixels apart form one group

_COMPACT = 2  # a group is one piece if it is at most so many times longer than it is thick


def pieces(hole: Mask, unit: int, largest: int) -> list[list[Box]]:
    """Divides a hole into rectangles that cover it.

    Args:
        hole: (H, W) bool, True inside the hole.
        unit: side in pixels up to which a group of holes is not cut, however thin it is.
        largest: side in pixels from which on a group is cut, however thick it is.

    Returns:
        Up to four lists of rectangles. Those of a list do not touch each other where a group was cut, and may be filled
        at the same time; those of the next lists are filled after them.
    """
    turns: list[list[Box]] = [[], [], [], []]
    for group in _groups(hole):
        inside = hole[group.inside]
        longest, thick = max(inside.shape), _thickness(inside)
        side = max(unit, _COMPACT * thick)
        if longest <= min(side, largest):
            turns[0].append(group)
            continue
        side = min(side, _largest_cell(largest))
        for row, column, cell in _cells(hole, group, side):
            turns[2 * (row % 2) + column % 2].append(cell)
    return [turn for turn in turns if turn]


def thin_pieces(hole: Mask, cell: int, thickness: int, largest: int) -> list[tuple[Box, float]]:
    """Divides thin holes into rectangles that cover them, each with the scale at which it is to be seen.

    Args:
        hole: (H, W) bool, True inside the hole.
        cell: largest side of a rectangle, in pixels of its scale.
        thickness: largest thickness of a hole, in pixels of its scale.
        largest: side in pixels of the largest square that a network can look at.

    Returns:
        Rectangles, and for each the number of the picture's pixels that are one pixel of its scale, at least 1.
    """
    found = []
    for group in _groups(hole):
        scale = max(1.0, _thickness(hole[group.inside]) / thickness)
        side = min(round(cell * scale), _largest_cell(largest))
        found += [(piece, scale) for _, _, piece in _cells(hole, group, side)]
    return found


def _largest_cell(largest: int) -> int:
    """Returns the side of the largest cell in a square, so that something around it may be known."""
    return max(1, 3 * largest // 4)


def _cells(hole: Mask, group: Box, side: int) -> Iterator[tuple[int, int, Box]]:
    """Divides the bounding box of a group of holes; yields row, column and what of it has a hole."""
    for row, top in enumerate(range(group.top, group.bottom, side)):
        for column, left in enumerate(range(group.left, group.right, side)):
            cell = Box(top, min(top + side, group.bottom), left, min(left + side, group.right))
            if trimmed := _trimmed(hole, cell):
                yield row, column, trimmed


def _groups(hole: Mask) -> list[Box]:
    """Returns the bounding boxes of groups of holes; found on blocks of pixels, which is cheap."""
    height, width = hole.shape
    padded = np.pad(hole, ((0, -height % _BLOCK), (0, -width % _BLOCK)))
    blocks: Mask = np.any(padded.reshape(padded.shape[0] // _BLOCK, _BLOCK, -1, _BLOCK), axis=(1, 3))
    found = (Box(*(_BLOCK * edge for edge in box)) for box in components(blocks))
    return [box for group in found if (box := _trimmed(hole, group))]


def _trimmed(hole: Mask, box: Box) -> Box | None:
    """Returns the smallest box with all of the hole in this one; None if there is nothing of the hole in it."""
    if (found := bounds(hole[box.inside])) is None:
        return None
    return Box(box.top + found.top, box.top + found.bottom, box.left + found.left, box.left + found.right)


def _thickness(hole: Mask) -> int:
    """Returns the side in pixels of the largest square that lies in a hole; of a large hole, a little less or more."""
    step = -(-max(hole.shape) // 1024)  # bounds the memory: a sum takes four bytes for each pixel
    part = hole[::step, ::step]
    sums = np.pad(part.astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    low, high = 1, min(part.shape)
    while low < high:
        side = (low + high + 1) // 2
        full = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side] == side * side
        low, high = (side, high) if full.any() else (low, side - 1)
    return low * step
