"""Reads mask files: one set of rules for the masks of training and for those of `faceae reconstruct --masks`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceae.corruption import masks
from faceae.data.images import BadImage, Stored, decode_grey


def read_mask(stored: Stored, width: int, height: int, *, same_shape: bool = False) -> NDArray[np.bool_]:
    """Returns the hole that a mask file shows, scaled to a picture's size (nearest neighbour).

    A mask is decoded as a picture is, with the same limits: see `faceae.data.images.decode`. Only transparency counts
    otherwise: what is transparent is no hole. The hole is what is white then, at least 128 in greyscale.

    Args:
        stored: the file's content, or pixels, (S, S, 3) uint8, or why it cannot be read.
        width: the picture's width in pixels.
        height: the picture's height in pixels.
        same_shape: whether the mask must have the picture's aspect ratio, to a pixel.

    Returns:
        (height, width) bool, True in at least one and not in all pixels.

    Raises:
        BadImage: the mask cannot be used; the message continues a sentence that begins with the mask's name.
    """
    try:
        if isinstance(stored, BadImage):
            raise stored
        grey = decode_grey(stored) if isinstance(stored, bytes) else Image.fromarray(stored).convert("L")
    except BadImage as error:
        raise BadImage(f"cannot be used: {error}") from None
    if same_shape and abs(grey.width * height - grey.height * width) > max(width, grey.width):
        raise BadImage(f"has {grey.width}x{grey.height} pixels, another shape than the picture's {width}x{height}")
    hole = masks.of_image(grey.resize((width, height), Image.Resampling.NEAREST))
    if not hole.any():
        raise BadImage("hides nothing; a hole must be white (128 of 255 or more), and all else black")
    if hole.all():
        raise BadImage("covers the whole picture, so nothing of it is known; only the hole must be white")
    return hole
