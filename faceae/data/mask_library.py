"""The user's own masks, which `--mask.images` names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import ray
from numpy.typing import NDArray
from pyarrow import ArrowException

from faceae import storage
from faceae.corruption import masks
from faceae.data.images import BadImage
from faceae.data.mask_files import read_mask
from faceae.data.reader import fetch
from faceae.data.sources import Entry, list_sources
from faceae.errors import InputError


class Library(NamedTuple):
    """The user's own masks.

    Attributes:
        entries: where they are.
        packed: the masks, (M, image_size * image_size / 8) uint8, see `faceae.corruption.masks.pack`.
    """

    entries: list[Entry]
    packed: NDArray[np.uint8]

    def shared(self) -> SharedMasks:
        """Puts the masks into the object store, from where every task that draws gets them."""
        return SharedMasks(ray.put(self.packed))


@dataclass(frozen=True)
class SharedMasks:
    """The user's own masks in the object store; called, it returns them."""

    ref: ray.ObjectRef

    def __call__(self) -> NDArray[np.uint8]:
        """Returns (M, image_size * image_size / 8) uint8; what is on this node is not copied."""
        packed: NDArray[np.uint8] = ray.get(self.ref)
        return packed


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
