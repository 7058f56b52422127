"""The settings of the masks: what is hidden by --task inpaint."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Literal

from pydantic import Field

from faceae.config.base import Strict, Uri
from faceae.errors import InputError

Kind = Literal["box", "strokes", "half", "border", "image"]
BoxCount = Annotated[int, Field(gt=0, le=1000)]

RANGE = r"[1-9]\d{0,8}(:[1-9]\d{0,8})?"
"""The form of a setting that is a whole number or MIN:MAX."""


def least_and_most(text: int | str) -> tuple[int, int]:
    """Returns the smallest and the largest value of a setting that is a number or MIN:MAX."""
    least, _, most = str(text).partition(":")
    return int(least), int(most or least)


@dataclasses.dataclass(frozen=True)
class Mask(Strict):
    """What --task inpaint hides from the network."""

    kind: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("box",)
    """What to hide. With several kinds, each image gets one of them at random.
    box: black squares. strokes: brush strokes. half: the left, right, upper or lower half.
    border: everything but the middle (outpainting). image: your own masks, from mask.images.
    Every image gets a new random mask in every epoch."""
    size: int | str = 28
    """Size in pixels: the side of a box or the width of a border; brush strokes are a quarter to half as wide.
    MIN:MAX (such as 16:48) draws a size in this range for each mask.
    For the same task at data.image-size 256 as at 128, give twice the size."""
    count: BoxCount = 1
    """Number of boxes in an image, 1000 at most."""
    images: Uri | None = None
    """For the kind image: a folder, zip, tar or Parquet file of mask images, white inside the hole."""

    @property
    def sizes(self) -> tuple[int, int]:
        """The smallest and the largest size in pixels."""
        return least_and_most(self.size)


def check_mask(mask: Mask, image_size: int) -> None:
    """Raises InputError if these masks cannot be drawn on images of this side (pixels)."""
    if not re.fullmatch(RANGE, str(mask.size)):
        raise InputError(f"--mask.size {mask.size}: write a number of pixels, or MIN:MAX as in 16:48")
    least, most = mask.sizes
    if least > most:
        raise InputError(f"--mask.size {mask.size}: write the smaller number first, as in {most}:{least}")
    for kind, room in (("box", image_size), ("strokes", image_size), ("border", image_size // 2 - 1)):
        if kind in mask.kind and most > room:
            raise InputError(
                f"--mask.size {mask.size}: a {kind.removesuffix('s')} of {most} pixels is too large for the "
                f"{image_size}x{image_size} image; use {room} or less, or larger images"
            )
    if ("image" in mask.kind) != (mask.images is not None):
        raise InputError("--mask.images: give the masks together with --mask.kind image, and only with it")
