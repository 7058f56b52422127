"""Reads mask files: one set of rules for the masks of training and for those of `faceae reconstruct --masks`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceae.corruption import masks
from faceae.data.images import BadImage, decode_whole
from faceae.data.reader import Stored


def read_mask(stored: Stored, width: int, height: int) -> NDArray[np.bool_]:
    """Returns the hole that a mask file shows, scaled to a picture's size (nearest neighbour).

    A mask is decoded as a picture is, with the same limits: see `faceae.data.images.decode`. Only transparency counts
    otherwise: what is transparent is no hole. The hole is what is white then, at least 128 in greyscale.

    Args:
        stored: the file's content, or pixels, (S, S, 3) uint8, or why it cannot be read.
        width: the picture's width in pixels.
        height: the picture's height in pixels.

    Returns:
        (height, width) bool, True in at least one and not in all pixels.

    Raises:
        BadImage: the mask cannot be used; the message continues a sentence that begins with the mask's name.
    """
    try:
        if isinstance(stored, BadImage):
            raise stored
        pixels = decode_whole(stored, "black").pixels if isinstance(stored, bytes) else stored
    except BadImage as error:
        raise BadImage(f"cannot be used: {error}") from None
    hole = masks.of_image(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
    if not hole.any():
        raise BadImage("hides nothing; a hole must be white")
    if hole.all():
        raise BadImage("covers the whole picture, so nothing of it is known; only the hole must be white")
    return hole
