"""Brings batches to the device, where their bytes become floats; images that fit there are uploaded once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from faceae.data.batch import Batch

RESIDENT_SHARE = 0.25
"""Share of its part of a GPU's memory that a run may fill with images; the network and activations need the rest."""


class DeviceBatch(NamedTuple):
    """A batch on the device, all float32 in [0, 1].

    Attributes:
        given: (n, 3, S, S), the damaged image, such as one with a black hole.
        original: (n, 3, S, S).
        mask: (n, 1, S, S), 1 where the network is asked for the image, as inside the hole, and 0 elsewhere.
    """

    given: Tensor
    original: Tensor
    mask: Tensor


class ResidentImages:
    """Images that stay on the device from the first epoch on."""

    def __init__(self, images: int, image_size: int, device: torch.device) -> None:
        """Takes images * image_size * image_size * 3 bytes of the device's memory."""
        self._pixels = torch.empty((images, image_size, image_size, 3), dtype=torch.uint8, device=device)

    def keep(self, numbers: Tensor, pixels: Tensor) -> None:
        """Keeps n images, (n, S, S, 3) uint8, by their numbers, (n,) int64."""
        self._pixels[numbers] = pixels

    def take(self, numbers: Tensor) -> Tensor:
        """Returns n images that were kept, (n, S, S, 3) uint8, by their numbers, (n,) int64."""
        return self._pixels[numbers]


def fit(image_bytes: int, device: torch.device, share: float) -> bool:
    """Whether a run keeps its images on the device: if that is a GPU with room for them.

    Args:
        image_bytes: bytes of all images.
        device: the device.
        share: the part of the device that the run has, in (0, 1].
    """
    return device.type == "cuda" and image_bytes <= RESIDENT_SHARE * share * torch.cuda.mem_get_info(device)[1]


def to_device(batch: Batch, device: torch.device, resident: ResidentImages | None = None) -> DeviceBatch:
    """Uploads uint8 pixels and mask bits, and damages the images on the device: 52 kB per image, not 393 kB.

    Args:
        batch: the batch.
        device: the device.
        resident: keeps the batch's pixels, or has them already: then 2 kB per image are uploaded.
    """
    pixels = _pixels(batch, device, resident)
    if batch.mirrored is not None:
        mirrored = _upload(batch.mirrored, device)[:, None, None, None]
        pixels = torch.where(mirrored, pixels.flip(2), pixels)
    original = pixels.permute(0, 3, 1, 2).float().div_(255)  # channels_last, without a copy
    given, mask = batch.damage(original, _upload(batch.drawn, device))
    return DeviceBatch(given, original, mask)


def _pixels(batch: Batch, device: torch.device, resident: ResidentImages | None) -> Tensor:
    if resident is None or batch.numbers is None:
        return _upload(batch.pixels, device)
    numbers = _upload(batch.numbers, device)
    if not len(batch.pixels):
        return resident.take(numbers)
    pixels = _upload(batch.pixels, device)
    resident.keep(numbers, pixels)
    return pixels


def _upload(array: NDArray[Any], device: torch.device) -> Tensor:
    given = torch.from_numpy(array)
    if device.type != "cuda":
        return given
    pinned = torch.empty(array.shape, dtype=given.dtype, pin_memory=True)  # lets the copy overlap with compute
    return pinned.copy_(given).to(device, non_blocking=True)
