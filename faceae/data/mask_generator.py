"""Draws the masks of a run's images, in Ray Data tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import ray
from numpy.typing import NDArray
from pyarrow import ArrowException

from faceae import storage
from faceae.config import Mask
from faceae.corruption import masks
from faceae.data.images import BadImage
from faceae.data.mask_files import read_mask
from faceae.data.reader import fetch
from faceae.data.sources import Entry, list_sources
from faceae.errors import InputError

_AT_ONCE = 64
"""Masks drawn at once: a byte per pixel, they stay in the processor's cache until they are packed."""


class Library(NamedTuple):
    """The user's own masks.

    Attributes:
        entries: where they are.
        packed: the masks, (M, image_size * image_size / 8) uint8, see `faceae.corruption.masks.pack`.
    """

    entries: list[Entry]
    packed: NDArray[np.uint8]


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
    def create(mask: Mask, image_size: int, library: Library | None) -> MaskGenerator:
        """Creates a generator; `library` is what `read_masks` returned."""
        return MaskGenerator(mask, image_size, None if library is None else ray.put(library.packed))

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


def read_masks(uri: str | None, image_size: int) -> Library | None:
    """Reads the user's own masks, which are white in the hole.

    Needs no Ray, so that a wrong `--mask.images` is said before Ray starts; returns None if there is none.

    Raises:
        InputError: one of them cannot be read, or hides nothing or everything.
    """
    if uri is None:
        return None
    entries = list_sources([uri], "--mask.images").entries
    packed = np.empty((len(entries), image_size**2 // 8), np.uint8)
    try:
        for number, (entry, stored) in enumerate(zip(entries, fetch(entries, image_size), strict=True)):
            try:
                packed[number] = masks.pack(read_mask(stored, image_size, image_size)[None])[0]
            except BadImage as error:
                raise InputError(f"--mask.images {uri}: {entry.image_id} {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"--mask.images {storage.explain(error, uri)}") from None
    return Library(entries, packed)
