"""Reconstruction: nothing is done to images, and they are asked for again, through a latent vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from faceae.tasks.base import Damaged, Fill, WholeFrame, everywhere

if TYPE_CHECKING:
    from torch import Tensor


def mean_colour(given: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Keeps only the mean colour of an image."""
    return np.broadcast_to(given.mean((0, 1)).round().astype(np.uint8), given.shape)


@dataclass(frozen=True)
class Reconstruct(WholeFrame):
    """Does nothing to images.

    Attributes:
        image_size: side of an image in pixels.
        latent_dim: length of the latent vector; the baseline has as many numbers.
    """

    image_size: int
    latent_dim: int
    baselines: ClassVar[dict[str, Fill]] = {"mean": mean_colour}

    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """See `Task.damage`."""
        return Damaged(original, everywhere(original))
