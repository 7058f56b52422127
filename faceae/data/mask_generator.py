"""Draws the masks of a run's images, in Ray Data tasks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray
from numpy.typing import NDArray
from PIL import Image

from faceae.config import Mask
from faceae.corruption import masks
from faceae.data.images import BadImage
from faceae.data.reader import read_encoded
from faceae.data.sources import list_sources
from faceae.errors import InputError

_AT_ONCE = 64
"""Masks drawn at once: a byte per pixel, they stay in the processor's cache until they are packed."""


@dataclass(frozen=True)
class MaskGenerator:
    """Draws the masks that the settings describe, for images of one size.

    Attributes:
        mask: the mask settings.
        image_size: side of an image in pixels.
        library: the user's own masks, in the object store: (M, image_size * image_size / 8) uint8.
    """

    mask: Mask
    image_size: int
    library: ray.ObjectRef | None = None

    @staticmethod
    def create(mask: Mask, image_size: int, library: NDArray[np.uint8] | None) -> MaskGenerator:
        """Creates a generator; `library` is what `read_masks` returned."""
        return MaskGenerator(mask, image_size, None if library is None else ray.put(library))

    def draw(self, image_ids: Sequence[str], seed: int, epoch: int) -> NDArray[np.uint8]:
        """Returns the masks of N images: (N, image_size * image_size / 8) uint8, see `faceae.corruption.masks.pack`."""
        library = ray.get(self.library) if self.library else None
        packed = np.empty((len(image_ids), self.image_size**2 // 8), np.uint8)
        for start in range(0, len(image_ids), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            packed[part] = masks.pack(
                masks.draw(
                    image_ids[part], self.mask, seed=seed, epoch=epoch, image_size=self.image_size, library=library
                )
            )
        return packed

    def draw_validation(self, image_ids: Sequence[str]) -> NDArray[np.uint8]:
        """Returns the validation masks of N images, the same in every epoch and for every seed; see `draw`."""
        return self.draw(image_ids, seed=0, epoch=masks.VALIDATION_EPOCH)


def read_masks(uri: str | None, image_size: int) -> NDArray[np.uint8] | None:
    """Reads the user's own masks, which are white in the hole, as (M, image_size * image_size / 8) uint8.

    Needs no Ray, so that a wrong `--mask.images` is said before Ray starts; returns None if there is none.

    Raises:
        InputError: one of them cannot be read, or hides nothing.
    """
    if uri is None:
        return None
    entries = list_sources([uri], "--mask.images").entries
    holes = np.zeros((len(entries), image_size, image_size), np.bool_)
    for hole, entry in zip(holes, entries, strict=True):
        try:
            with Image.open(io.BytesIO(read_encoded(entry))) as image:
                hole[...] = masks.of_image(image.resize((image_size, image_size), Image.Resampling.NEAREST))
        except (BadImage, OSError, ValueError) as error:
            raise InputError(f"--mask.images {uri}: {entry.image_id} cannot be used: {error}") from None
        if not hole.any():
            raise InputError(f"--mask.images {uri}: {entry.image_id} hides nothing; a hole must be white")
    return masks.pack(holes)
