"""What fills holes in pictures of any size, called with a picture and its mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from faceae.corruption import edges, masks
from faceae.data.images import BadImage, to_rgb
from faceae.data.whole import open_picture, open_whole
from faceae.errors import InputError
from faceae.models.windows import Hole, Pixels


class PictureModel(nn.Module, ABC):
    """Restores pictures. Known pixels stay exactly as they are."""

    @abstractmethod
    def restore(self, pictures: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
        """Restores several pictures of any sizes.

        Args:
            pictures: (H, W, 3) uint8 arrays, RGB; they are not changed.
            holes: the mask of each picture, (H, W) bool, True inside the hole.

        Returns:
            A new array for each picture, restored inside the hole and unchanged outside it.

        Raises:
            InputError: a picture or a mask has another type or size than these, or the output is not finite.
        """

    def forward(self, image: Any, mask: Any = None, *, grow: int = 0, feather: int = 0) -> Any:  # noqa: ANN401
        """Restores one picture.

        Args:
            image: a picture of any size: the path of its file, (H, W, 3) uint8, or a PIL image (one that is not RGB is
                converted; EXIF orientation is applied to files only).
            mask: the path of a mask, which is scaled to the picture, or a mask of its size: (H, W) bool and True inside
                the hole, or a PIL image, white inside the hole. Without a mask, the black boxes of a picture in a file
                are its holes.
            grow: how many pixels the hole is larger than the mask to each side.
            feather: how many pixels inside the hole the fill is blended with what the picture has there.

        Returns:
            The picture restored inside the hole and unchanged outside it, as an array if it was given as one, otherwise
            as a PIL image.

        Raises:
            InputError: the picture or the mask is missing, cannot be used, or has another type or size than these.
        """
        if isinstance(image, str | Path):
            picture, hole = open_picture(str(image), None if mask is None else str(mask), grow)
            restored = Image.fromarray(self._restore_one(picture.pixels, hole, feather))
            restored.info |= picture.metadata.coloured().info
            return restored
        hole = _hole(mask)
        if grow:
            hole = edges.grown(hole, grow)
        if not isinstance(image, Image.Image):
            return self._restore_one(image, hole, feather)
        try:
            restored = (image if image.mode == "RGB" else to_rgb(image)).copy()
        except BadImage as error:
            raise InputError(f"the picture cannot be used: {error}") from None
        # Pasting into a copy of the PIL image keeps its metadata.
        restored.paste(Image.fromarray(self._restore_one(np.asarray(restored), hole, feather)))
        return restored

    def _restore_one(self, picture: Pixels, hole: Hole, feather: int) -> Pixels:
        (filled,) = self.restore([picture], [hole])
        edges.feather(filled, picture, hole, feather)
        return filled


def redone(image: Any, redo: Callable[[Pixels], Pixels]) -> Any:  # noqa: ANN401
    """Returns what is made of a picture as a whole, as `PictureModel.forward` returns pictures.

    Args:
        image: the path of its file, (H, W, 3) uint8, or a PIL image.
        redo: makes a picture of a picture.

    Raises:
        InputError: the picture is missing, cannot be used, or has another type than these.
    """
    if isinstance(image, str | Path):
        picture = open_whole(str(image))
        made = Image.fromarray(redo(picture.pixels))
        made.info |= picture.metadata.coloured().info
        return made
    if not isinstance(image, Image.Image):
        _check_picture(image)
        return redo(image)
    try:
        whole = image if image.mode == "RGB" else to_rgb(image)
    except BadImage as error:
        raise InputError(f"the picture cannot be used: {error}") from None
    made = Image.fromarray(redo(np.asarray(whole)))
    made.info |= whole.info
    return made


def copies(pictures: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
    """Returns copies of pictures to fill holes in.

    Raises:
        InputError: a picture or a mask has another type or size than `PictureModel.restore` takes.
    """
    for picture, hole in zip(pictures, holes, strict=True):
        _check(picture, hole)
    return [picture.copy() for picture in pictures]


def _hole(mask: Any) -> Hole:  # noqa: ANN401
    """Returns the hole of a mask that is no file; `_check` says what is wrong with that of an array."""
    if mask is None:
        raise InputError("no mask is given; give one of the picture's size, (H, W) bool or a PIL image")
    try:
        return masks.of_image(to_rgb(mask, "black")) if isinstance(mask, Image.Image) else mask
    except BadImage as error:
        raise InputError(f"the mask cannot be used: {error}") from None


def _check_picture(picture: Pixels) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"the picture is {picture.dtype} {picture.shape}; give (H, W, 3) uint8, or a PIL image")


def _check(picture: Pixels, hole: Hole) -> None:
    _check_picture(picture)
    if hole.dtype != np.bool_ or hole.shape != picture.shape[:2]:
        raise InputError(
            f"the mask is {hole.dtype} {hole.shape}; give (H, W) bool, True inside the hole, or a PIL image, of the "
            f"picture's size, {picture.shape[0]} rows of {picture.shape[1]} pixels"
        )
