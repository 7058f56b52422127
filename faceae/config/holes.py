"""The holes of an evaluation at the pictures' own size, which `--mask.holes` names: KIND:SIZE or box:SIZE:COUNT."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

NOTATION = r"(box|strokes):[1-9][0-9]{0,4}|box:[1-9][0-9]{0,4}:[1-9][0-9]{0,2}"

LARGEST = {"box": 2, "strokes": 8}
"""A picture gets a hole only if its shorter side is at least this many times the hole's size: enough of it is known."""


class PictureHole(NamedTuple):
    """A hole, the same in pixels for pictures of any size.

    Attributes:
        kind: box, or strokes.
        size: side of a box, or width of the strokes, in pixels.
        boxes: number of boxes.
    """

    kind: Literal["box", "strokes"]
    size: int
    boxes: int = 1

    @property
    def name(self) -> str:
        """What it is, as the kind of a mask: box, 3 boxes, strokes."""
        return self.kind if self.boxes == 1 else f"{self.boxes} boxes"

    def fits(self, height: int, width: int) -> bool:
        """Whether a picture of this size in pixels is large enough for it, see `LARGEST`."""
        return min(height, width) >= LARGEST[self.kind] * self.size


def parse(text: str) -> PictureHole:
    """Returns the hole that a text of `NOTATION` names; raises ValueError for another text."""
    if not re.fullmatch(NOTATION, text):
        raise ValueError("write box:SIZE, box:SIZE:COUNT or strokes:SIZE, as in box:60 or strokes:10")
    kind, size, *count = text.split(":")
    return PictureHole("box" if kind == "box" else "strokes", int(size), *map(int, count))
