"""What every task has: what is drawn at random for an image, and what is done to its pixels with that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faceae.corruption.masks import VALIDATION_EPOCH

if TYPE_CHECKING:
    from torch import Tensor

Fill = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]
"""A baseline: what is given of an image, (H, W, 3) uint8, and (H, W) bool, True where something is asked for -> the
image, (H, W, 3) uint8."""


class Damaged(NamedTuple):
    """Images as a network is given them, float32 in [0, 1].

    Attributes:
        given: (N, 3, S, S), the damaged images.
        mask: (N, 1, S, S), 1 where the network is asked for the image, and loss and metrics look; 0 elsewhere.
    """

    given: Tensor
    mask: Tensor


Damage = Callable[["Tensor", "Tensor"], Damaged]
"""(N, 3, S, S) float32 in [0, 1] and (N, B) uint8, what was drawn for each image -> the damaged images."""


class Task(ABC):
    """A task. It is pickled to the workers, and says the same on all of them.

    What is random about an image is drawn on the cluster by `draw`, from the seed, the epoch and the image's id alone,
    and travels to the trainer in place of the damaged pixels, which are far larger: `damage` makes them on the device.

    Attributes:
        image_size: side of an image in pixels.
    """

    image_size: int
    baselines: ClassVar[dict[str, Fill]] = {}
    """What does the task without a network, by name; those of inpainting are in `faceae.evaluation.baselines`."""

    @property
    @abstractmethod
    def row_bytes(self) -> int:
        """Bytes that are drawn for each image."""

    @abstractmethod
    def draw(self, image_ids: Sequence[str], seed: int, epoch: int) -> NDArray[np.uint8]:
        """Returns what is drawn for N images in an epoch: (N, row_bytes) uint8."""

    def draw_validation(self, image_ids: Sequence[str]) -> NDArray[np.uint8]:
        """Returns what is drawn for N images of validation, the same in every epoch and for every seed; see `draw`."""
        return self.draw(image_ids, seed=0, epoch=VALIDATION_EPOCH)

    @abstractmethod
    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """Damages images, see `Damage`."""


class WholeFrame(Task):
    """A task that asks for every pixel and draws nothing at random."""

    @property
    def row_bytes(self) -> int:
        """One byte: a column of none cannot be."""
        return 1

    def draw(self, image_ids: Sequence[str], seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Task.draw`; returns zeros."""
        return np.zeros((len(image_ids), 1), np.uint8)


def everywhere(images: Tensor) -> Tensor:
    """Returns the mask, (N, 1, S, S), that asks for every pixel of (N, 3, S, S)."""
    return images.new_ones((len(images), 1, *images.shape[2:]))


def as_bytes(images: Tensor) -> Tensor:
    """Rounds images in about [0, 1] to what the 8 bits of a file can hold."""
    return images.clamp(0, 1).mul(255).round_().div_(255)
