"""Bounding boxes of a mask, and of its connected components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Box(NamedTuple):
    """A rectangle of pixels; bottom and right are one past its last row and column."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """The rows and columns of a picture that lie in the box."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, pixels: int) -> Box:
        """Returns the box, larger by `pixels` on each side but cut off at the upper and left border of the picture."""
        return Box(max(0, self.top - pixels), self.bottom + pixels, max(0, self.left - pixels), self.right + pixels)


def bounds(mask: Mask) -> Box | None:
    """Returns the bounding box of all that is True in a mask, or None if nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def components(mask: Mask) -> list[Box]:
    """Returns the bounding boxes of the 4-connected components of a mask, in time almost linear in its size."""
    wide = np.pad(mask, ((0, 0), (0, 1)))  # so that no run of pixels goes on in the next row
    width = wide.shape[1]
    starts, ends = np.flatnonzero(np.diff(wide.ravel(), prepend=False)).reshape(-1, 2).T
    # A run touches those runs of the row above that end after its start, and start before its end.
    first, last = np.searchsorted(ends, starts - width, "right"), np.searchsorted(starts, ends - width, "left")
    lower = np.repeat(np.arange(len(starts)), counts := last - first)
    upper = np.arange(len(lower)) - np.repeat(counts.cumsum() - counts, counts) + first[lower]
    of, number = _joined(len(starts), lower, upper)
    rows, lefts = np.divmod(starts, width)
    boxes = np.tile([len(mask), 0, width, 0], (number, 1))
    for side, extreme, values in (
        (0, np.minimum, rows),
        (1, np.maximum, rows + 1),
        (2, np.minimum, lefts),
        (3, np.maximum, ends - rows * width),
    ):
        extreme.at(boxes[:, side], of, values)
    return [Box(*box) for box in boxes.tolist()]


def _joined(nodes: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Returns the connected component of each node of a graph, (nodes,) int64 from 0, and how many there are.

    Args:
        nodes: number of nodes.
        one: one end of each edge.
        other: the other end of each edge.
    """
    root = np.arange(nodes)
    while (root[one] != root[other]).any():
        # A tree joins its neighbour with the lowest root. Within two rounds, each that has neighbours joins one.
        ends = root[one], root[other]
        np.minimum.at(root, np.maximum(*ends), np.minimum(*ends))
        while (root != (above := root[root])).any():
            root = above
    roots, of = np.unique(root, return_inverse=True)
    return of, len(roots)
