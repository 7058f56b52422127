"""Denoising: Gaussian noise is added, as in the literature, and then rounded to 8 bits and clipped as in a file."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from faceae.config import Noise
from faceae.corruption import masks
from faceae.tasks.base import Damaged, Fill, Task, as_bytes, everywhere

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TRAINING, _VALIDATION = 2**22, 2**21
"""Numbers in the bank of noise for training, and behind them in that for validation, besides those of one image."""


def nonlocal_means(given: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Denoises with OpenCV's non-local means (Buades et al., 2011), as strongly as the noise is found to be."""
    import cv2

    # Patches of 3 pixels and this strength are best on LFW at 128 pixels for a deviation of 25 and 50, and nearly so
    # for 10: 0.7 to 1.2 dB better than OpenCV's default, patches of 7.
    strength = 0.8 * sigma_of(given)
    blue_first = np.ascontiguousarray(given[..., ::-1])
    return cv2.fastNlMeansDenoisingColored(blue_first, None, strength, strength, 3)[..., ::-1]


def sigma_of(given: NDArray[np.uint8]) -> float:
    """Estimates the standard deviation of the noise in an image, (H, W, 3), in levels of 255 (Immerkaer, 1996)."""
    pixels = given.astype(np.float32)
    rough = pixels[:-2] - 2 * pixels[1:-1] + pixels[2:]
    rough = rough[:, :-2] - 2 * rough[:, 1:-1] + rough[:, 2:]
    return float(math.sqrt(math.pi / 2) / 6 * np.abs(rough).mean())


@functools.cache
def bank(values: int, device: torch.device) -> Tensor:
    """Returns normal numbers from which an image takes `values` in a row from anywhere, so that its noise is 8 bytes.

    The numbers themselves would be four times the bytes of the image; drawn on the devices, they would differ.
    """
    import torch

    numbers = np.random.default_rng(0).standard_normal(_TRAINING + _VALIDATION + 2 * values, np.float32)
    return torch.from_numpy(numbers).to(device).unfold(0, values, 1)


@dataclass(frozen=True)
class Denoise(Task):
    """Adds noise.

    Attributes:
        noise: its settings.
        image_size: side of an image in pixels.
    """

    noise: Noise
    image_size: int
    baselines: ClassVar[dict[str, Fill]] = {"noisy": lambda given, mask: given, "nonlocal_means": nonlocal_means}

    @property
    def row_bytes(self) -> int:
        """Where in the bank the noise begins (int32), and its standard deviation (float32)."""
        return 8

    def draw(self, image_ids: Sequence[str], seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Task.draw`. Validation has noise of its own, which no training image gets."""
        place, level = masks.uniform(image_ids, seed=seed, epoch=epoch, count=2).T
        first, count = (self._values + _TRAINING, _VALIDATION) if epoch == masks.VALIDATION_EPOCH else (0, _TRAINING)
        least, most = self.noise.sigmas
        rows = np.empty((len(image_ids), 2), np.int32)
        rows[:, 0] = first + place * count
        rows[:, 1] = (least + level * (most - least)).astype(np.float32).view(np.int32)
        return rows.view(np.uint8)

    @property
    def _values(self) -> int:
        return 3 * self.image_size**2

    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """See `Task.damage`."""
        import torch

        rows = drawn.contiguous().view(torch.int32)
        sigma = rows[:, 1].contiguous().view(torch.float32)[:, None, None, None] / 255
        noise = bank(self._values, original.device)[rows[:, 0].long()].reshape(original.shape)
        return Damaged(as_bytes(original + sigma * noise), everywhere(original))
