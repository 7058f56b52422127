"""What the parts of a service tell each other: uploads, restored pictures, and why there is none. Needs no torch."""

from __future__ import annotations

from typing import NamedTuple

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff"}
"""The types of the files that are sent back, by Pillow's name of the format."""


class Upload(NamedTuple):
    """What somebody wants restored.

    Attributes:
        image: the picture's file.
        name: its name, whose extension says the format of the result.
        mask: the file of its mask; None if its black boxes are its holes.
    """

    image: bytes
    name: str = ""
    mask: bytes | None = None


class Restored(NamedTuple):
    """A file to send back."""

    content: bytes
    media_type: str


class Refused(Exception):  # noqa: N818  (it is an answer)
    """An upload that is not answered with a picture; the message says why and what to do.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)  # both, for pickle
        self.status, self.message = status, message
