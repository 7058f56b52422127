"""What a service does with one upload: from the bytes of a picture and its mask to those of the restored picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceae.data.images import BadImage, Picture, dimensions
from faceae.data.metadata import FORMATS, encode
from faceae.data.whole import Hole, read_hole, read_picture
from faceae.errors import InputError
from faceae.models import Restorer, SurroundingsModel
from faceae.serving.answers import MEDIA_TYPES, Refused, Restored, Upload


class Work(NamedTuple):
    """A picture to restore.

    Attributes:
        picture: the picture.
        hole: its hole; None if the model changes the whole picture.
        extension: the format of the result, a key of `FORMATS`.
    """

    picture: Picture
    hole: Hole | None
    extension: str


def read(upload: Upload, *, whole: bool, megapixels: float) -> Work:
    """Decodes an upload.

    Args:
        upload: the files.
        whole: whether the model changes the whole picture.
        megapixels: the largest picture, in millions of pixels.

    Raises:
        Refused: it cannot be used.
    """
    if whole and upload.mask is not None:
        raise Refused(422, "mask: the model changes the whole picture and fills no holes; leave it out")
    picture = _picture(upload.image, megapixels)
    extension = PurePosixPath(upload.name.lower()).suffix
    try:
        hole = None if whole else read_hole(picture, upload.mask)
    except BadImage as error:
        raise Refused(422, f"{'image' if upload.mask is None else 'mask'}: {error}") from None
    return Work(picture, hole, extension if extension in FORMATS else ".png")


def holes(image: bytes, megapixels: float) -> Restored | None:
    """Returns the mask of a picture's black boxes, a PNG that is white where they are; None if it certainly has none.

    Raises:
        Refused: the picture cannot be used.
    """
    picture = _picture(image, megapixels)
    try:
        hole = read_hole(picture, None)
    except BadImage:
        return None
    encoded = io.BytesIO()
    Image.fromarray(hole).save(encoded, "PNG")
    return Restored(encoded.getvalue(), MEDIA_TYPES["PNG"])


def _picture(image: bytes, megapixels: float) -> Picture:
    try:
        width, height = dimensions(image)
    except BadImage as error:
        raise Refused(415, f"image: {error}") from None
    if width * height > megapixels * 1e6:
        raise Refused(413, f"image: it has {width}x{height} pixels; up to {megapixels:g} million are taken")
    try:
        return read_picture(image)
    except BadImage as error:
        raise Refused(422, f"image: {error}") from None


def restore(model: Restorer | SurroundingsModel, works: Sequence[Work]) -> list[Restored | Refused]:
    """Restores pictures, those with holes together, and encodes them.

    Returns:
        For each the file to send back, or why there is none.
    """
    holed = [work for work in works if work.hole is not None]
    filled = iter(_filled(model, holed))
    return [_made(model, work, next(filled) if work.hole is not None else None) for work in works]


def _filled(model: Restorer | SurroundingsModel, works: Sequence[Work]) -> list[NDArray[np.uint8]]:
    pictures = [work.picture.pixels for work in works]
    return model.restore(pictures, [work.hole for work in works if work.hole is not None]) if works else []


def _made(model: Restorer | SurroundingsModel, work: Work, filled: NDArray[np.uint8] | None) -> Restored | Refused:
    metadata = work.picture.metadata
    try:
        if filled is None:
            assert isinstance(model, Restorer)
            filled = model.redo(work.picture.pixels)
            metadata = metadata.coloured() if model.gives_colours else metadata
    except InputError as error:
        return Refused(422, str(error))
    content = bytes(encode(filled, metadata, work.extension))
    return Restored(content, MEDIA_TYPES[FORMATS[work.extension]])
