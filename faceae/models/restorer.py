"""Restores pictures of any size with a network that works on squares of one size.

A square of the picture's shorter side, scaled to the network's and back, is pasted inside the hole only: what is known
stays as it is, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from faceae.config import Settings
from faceae.corruption import masks
from faceae.data.images import BadImage, to_rgb
from faceae.errors import InputError
from faceae.metrics import composite

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""

Hole = NDArray[np.bool_]
"""(H, W), True inside the hole."""

BATCH = 64
"""Squares that the network gets at a time."""


class Restorer(nn.Module):
    """A trained network for use: called with tensors it is the network, called with a picture it restores that.

    Attributes:
        network: which was trained.
        settings: of its training.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings

    def forward(self, image: Any, mask: Any) -> Any:  # noqa: ANN401  (what comes out is of the kind that goes in)
        """Restores a batch of tensors, or one picture.

        Args:
            image: (N, 3, S, S) float in [0, 1], black inside the hole; or a picture of any size, (H, W, 3) uint8 or a
                PIL image (one that is not RGB is converted; EXIF orientation is left as it is).
            mask: (N, 1, S, S) float, 1 inside the hole; or of the picture's size, (H, W) bool, True inside the hole,
                or a PIL image, white inside the hole.

        Returns:
            The network's output, (N, 3, S, S) float32 in [0, 1]; or the picture, restored inside the hole and equal
            outside it, as an array or a PIL image as it was given.

        Raises:
            InputError: picture and mask are of other kinds or sizes than these.
        """
        if isinstance(image, Tensor):
            return self.network(image, mask)
        hole = masks.of_image(mask) if isinstance(mask, Image.Image) else mask
        if not isinstance(image, Image.Image):
            return self.restore([image], [hole])[0]
        try:
            restored = (image if image.mode == "RGB" else to_rgb(image)).copy()
        except BadImage as error:
            raise InputError(f"the picture cannot be used: {error}") from None
        # Pasted into a copy, which keeps what the picture knows of itself.
        restored.paste(Image.fromarray(self.restore([np.asarray(restored)], [hole])[0]))
        return restored

    @torch.inference_mode()
    def restore(self, pictures: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
        """Restores pictures of any sizes, together: the network sees their squares in batches.

        Raises:
            InputError: a picture or a mask is of another kind or size than it should be.
        """
        for picture, hole in zip(pictures, holes, strict=True):
            _check(picture, hole)
        restored = [picture.copy() for picture in pictures]
        left = [hole.copy() for hole in holes]
        while numbers := [number for number, hole in enumerate(left) if hole.any()][:BATCH]:
            squares = [next_square(left[number]) for number in numbers]
            parts = [restored[number][square] for number, square in zip(numbers, squares, strict=True)]
            empty = [left[number][square] for number, square in zip(numbers, squares, strict=True)]
            for part, hole, filled in zip(parts, empty, self._fill(parts, empty), strict=True):
                part[hole] = filled[hole]  # both are views of the picture's and the hole's arrays
                hole[...] = False
        return restored

    def _fill(self, parts: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
        """What the network makes of some square parts, each at its own size."""
        size, device = self.settings.data.image_size, next(self.parameters()).device
        seen = [_scaled(part, hole, size) for part, hole in zip(parts, holes, strict=True)]
        given, mask = (torch.stack(tensors).to(device) for tensors in zip(*seen, strict=True))
        output = composite(self.network(given, mask), given, mask).cpu()
        return [
            (255 * _resized(square[None], len(part))[0]).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            for square, part in zip(output, parts, strict=True)
        ]


def next_square(hole: Hole) -> tuple[slice, slice]:
    """The square of a picture to restore next.

    Its side is the picture's shorter one. It holds the hole and is as near to the middle as it can be, where the faces
    of the training were. Of a hole that is longer than the square it holds the beginning, and a quarter of itself
    before that, which is known or has been restored.

    Args:
        hole: (H, W) bool, some of it True.

    Returns:
        Rows and columns.
    """
    side, axis = min(hole.shape), int(np.argmax(hole.shape))
    along = np.flatnonzero(hole.any(1 - axis))
    first, end = int(along[0]), int(along[-1]) + 1
    middle, last = (hole.shape[axis] - side) // 2, hole.shape[axis] - side
    start = min(max(middle, end - side), first) if end - first <= side else min(first - side // 4, last)
    square = slice(max(0, start), max(0, start) + side)
    return (square, slice(0, side)) if axis == 0 else (slice(0, side), square)


def _check(picture: Pixels, hole: Hole) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"the picture is {picture.dtype} {picture.shape}; give (H, W, 3) uint8, or a PIL image")
    if hole.dtype != np.bool_ or hole.shape != picture.shape[:2]:
        raise InputError(
            f"the mask is {hole.dtype} {hole.shape}; give (H, W) bool, True inside the hole, or a PIL image, of the "
            f"picture's size, {picture.shape[0]} rows of {picture.shape[1]}"
        )


def _scaled(part: Pixels, hole: Hole, size: int) -> tuple[Tensor, Tensor]:
    """A square part as the network takes it: (3, size, size), black inside the hole, and (1, size, size).

    Where it is scaled a pixel has the mean colour of what is known of it, and is in the hole if that is less than half.
    """
    known = torch.from_numpy(~hole)[None].float()
    colours = torch.tensor(part).permute(2, 0, 1) / 255 * known
    if len(part) != size:
        scaled = _resized(torch.cat([colours, known])[None], size)[0]
        known = (scaled[3:] >= 0.5).float()
        colours = (scaled[:3] / scaled[3:].clamp_min(0.5)).clamp(0, 1) * known
        if known.all():  # a hole too small to be seen at this size: the pixel that has most of it stands for it
            known = (scaled[3:] > scaled[3:].amin()).float()
            colours = colours * known
    return colours, 1 - known


def _resized(images: Tensor, size: int) -> Tensor:
    """(N, C, s, s) -> (N, C, size, size), bicubic; as it is where the size is the same."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True)
