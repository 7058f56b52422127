"""Inpainting: holes are blackened, and what was in them is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceae.config import Mask
from faceae.corruption import masks
from faceae.tasks.base import Damaged, Task

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 64
"""Masks drawn at once: a byte per pixel, they stay in the processor's cache until they are packed."""


def blacken(original: Tensor, bits: Tensor) -> Damaged:
    """Blackens the holes of images, a `faceae.tasks.base.Damage`.

    Args:
        original: (N, 3, S, S) float32 in [0, 1].
        bits: (N, S * S / 8) uint8, a bit per pixel, see `faceae.corruption.masks.pack`.
    """
    import torch

    bits = bits[..., None] >> torch.arange(8, device=bits.device, dtype=torch.uint8)
    mask = bits.bitwise_and_(1).reshape(len(original), 1, *original.shape[2:]).float()
    return Damaged(original * (1 - mask), mask)


@dataclass(frozen=True)
class Inpaint(Task):
    """Draws the masks that the settings describe.

    Attributes:
        mask: the mask settings.
        image_size: side of an image in pixels.
        library: returns the user's own masks, (M, image_size * image_size / 8) uint8.
    """

    mask: Mask
    image_size: int
    library: Callable[[], NDArray[np.uint8]] | None = None

    @property
    def row_bytes(self) -> int:
        """A bit per pixel."""
        return self.image_size**2 // 8

    def draw(self, image_ids: Sequence[str], seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Task.draw`; returns masks, packed by `faceae.corruption.masks.pack`."""
        library = self.library() if self.library else None
        packed = np.empty((len(image_ids), self.row_bytes), np.uint8)
        for start in range(0, len(image_ids), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            packed[part] = masks.pack(
                masks.draw(
                    image_ids[part], self.mask, seed=seed, epoch=epoch, image_size=self.image_size, library=library
                )
            )
        return packed

    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """See `blacken`."""
        return blacken(original, drawn)
