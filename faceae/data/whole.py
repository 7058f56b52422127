"""A picture at its own size and its hole, from what is stored of them: the same for `restore` and `reconstruct`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyarrow import ArrowException

from faceae import storage
from faceae.corruption.detection import SIDE, Doubtful, TooManyAreas, detect_holes
from faceae.corruption.edges import grown
from faceae.data.images import BadImage, Picture, Stored, decode_whole
from faceae.data.mask_files import read_mask
from faceae.errors import InputError

Hole = NDArray[np.bool_]
"""A mask: (H, W), True inside the hole."""

_GIVE = "give it a mask that is white where the hole is"
_MASK = "its mask "


def open_picture(uri: str, mask: str | None, grow: int = 0) -> tuple[Picture, Hole]:
    """Reads one picture and its hole from files.

    Args:
        uri: the picture, a local path or a URI.
        mask: its mask; None if its black boxes are to be detected.
        grow: how many pixels the hole is larger to each side.

    Raises:
        InputError: a file is missing, or cannot be used.
    """
    picture = open_whole(uri)
    try:
        return picture, read_hole(picture, None if mask is None else _read(mask), grow)
    except BadImage as error:
        raise InputError(f"{mask or uri}: {str(error).removeprefix(_MASK)}") from None


def open_whole(uri: str) -> Picture:
    """Reads one picture from a file, a local path or a URI.

    Raises:
        InputError: the file is missing, or cannot be used.
    """
    try:
        return read_picture(_read(uri))
    except BadImage as error:
        raise InputError(f"{uri}: {error}") from None


def _read(uri: str) -> bytes:
    try:
        return storage.read(storage.absolute(uri))
    except FileNotFoundError:
        raise InputError(f"{uri}: it does not exist; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{uri}: is a folder; name one picture (`faceae reconstruct` restores folders)") from None
    except (OSError, ArrowException) as error:
        raise storage.explain(error, uri) from None


def read_picture(stored: Stored) -> Picture:
    """Returns a picture of what is stored for it.

    Raises:
        BadImage: it cannot be used.
    """
    if isinstance(stored, BadImage):
        raise stored
    return decode_whole(stored) if isinstance(stored, bytes) else Picture(stored, lossy=False)


def read_hole(picture: Picture, mask: Stored | None, grow: int = 0, *, same_shape: bool = False) -> Hole:
    """Returns the hole of a picture.

    Args:
        picture: the picture.
        mask: what is stored for its mask; None if its black boxes are to be detected.
        grow: how many pixels the hole is larger than that to each side.
        same_shape: whether the mask must have the picture's aspect ratio.

    Returns:
        (H, W) bool, True in at least one and not in all pixels.

    Raises:
        BadImage: the picture has no hole, nothing but a hole, or a mask that cannot be used.
    """
    hole = _detected(picture) if mask is None else _of_mask(mask, picture, same_shape)
    if grow and (hole := grown(hole, grow)).all():
        raise BadImage(f"grown by {grow} pixels, the hole is the whole picture, so nothing of it is known")
    return hole


def _detected(picture: Picture) -> Hole:
    try:
        hole = detect_holes(picture.pixels, picture.lossy)
    except TooManyAreas as error:
        raise BadImage(f"it has {error}, too many to look for boxes among them; {_GIVE}") from None
    except Doubtful as error:
        raise BadImage(f"{error} may belong to the picture, so it is left alone; if it is a hole, {_GIVE}") from None
    if not hole.any():
        raise BadImage(f"there is no solid black box of {SIDE}x{SIDE} pixels or more in it; {_GIVE}")
    if hole.all():
        raise BadImage("all of it is black, so nothing of it is known")
    return hole


def _of_mask(mask: Stored, picture: Picture, same_shape: bool) -> Hole:
    height, width = picture.pixels.shape[:2]
    try:
        return read_mask(mask, width, height, same_shape=same_shape)
    except BadImage as error:
        raise BadImage(f"{_MASK}{error}") from None
