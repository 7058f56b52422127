"""The page of before and after that `faceae reconstruct` leaves beside the restored pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceae import storage
from faceae.reporting.pages import render

FILE = "before-after.html"

PICTURES = 12
"""Largest number of pictures on the page."""

_SIDES = 128, 320  # of a crop, in pixels of the picture


class Shown(NamedTuple):
    """A crop of a restored picture, around its hole, as PNG in base64.

    Attributes:
        image_id: the picture's id.
        place: where the crop lies in the picture, for people to read.
        before: the crop of the picture.
        mask: the crop of its mask.
        after: the crop of the restored picture.
    """

    image_id: str
    place: str
    before: str
    mask: str
    after: str


def shown(image_id: str, before: NDArray[np.uint8], hole: NDArray[np.bool_], after: NDArray[np.uint8]) -> Shown:
    """Returns a square crop of a picture in which much of its hole lies.

    Args:
        image_id: the picture's id.
        before: the picture, (H, W, 3) uint8.
        hole: its mask, (H, W) bool, True inside the hole.
        after: the restored picture, (H, W, 3) uint8; one that is larger is compared with the picture scaled up.
    """
    if before.shape != after.shape:
        hole = np.ones(after.shape[:2], np.bool_)
        before = np.asarray(Image.fromarray(before).resize(after.shape[1::-1], Image.Resampling.BICUBIC))
    row = len(hole) // 2 if hole.all() else int(hole.sum(1).argmax())
    column = int(np.median(np.flatnonzero(hole[row])))
    extent = min(np.ptp(np.flatnonzero(hole.any(axis))) + 1 for axis in (0, 1))
    side = int(np.clip(2 * extent, *_SIDES))
    top, left = (
        max(0, min(at - side // 2, length - side)) for at, length in zip((row, column), hole.shape, strict=True)
    )
    crop = slice(top, top + side), slice(left, left + side)
    height, width = hole[crop].shape
    place = f"{width}x{height} of {hole.shape[1]}x{hole.shape[0]} pixels, from column {left} and row {top} on"
    return Shown(image_id, place, *(_png(Image.fromarray(pixels[crop])) for pixels in (before, hole, after)))


def _png(image: Image.Image) -> str:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return base64.b64encode(encoded.getvalue()).decode()


def write(folder: str, pictures: Sequence[Shown], summary: dict[str, Any], *, whole: bool) -> None:
    """Writes the page.

    Args:
        folder: URI of the folder of restored pictures.
        pictures: the pictures to show.
        summary: the content of summary.json.
        whole: whether the whole of each picture was changed.
    """
    storage.write(storage.join(folder, FILE), render("restored.html", pictures=pictures, summary=summary, whole=whole))
