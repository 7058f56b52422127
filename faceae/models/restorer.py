"""Restores pictures of any size with a network that works on squares of one size.

A square whose side is the picture's shorter side is scaled to the network's size, restored, scaled back and pasted
inside the hole only: the known pixels stay exactly as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from faceae.config import Settings
from faceae.corruption import edges, masks
from faceae.data.images import BadImage, to_rgb
from faceae.data.whole import open_picture
from faceae.errors import InputError
from faceae.metrics import composite

Pixels = NDArray[np.uint8]
"""A picture: (H, W, 3), RGB."""

Hole = NDArray[np.bool_]
"""A mask: (H, W), True inside the hole."""

BATCH = 64
"""Number of squares that the network restores at a time."""


class Restorer(nn.Module):
    """A trained network for use. Called with tensors it runs the network, called with a picture it restores it.

    Attributes:
        network: the trained network.
        settings: the settings of its training.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings

    def forward(self, image: Any, mask: Any = None, *, grow: int = 0, feather: int = 0) -> Any:  # noqa: ANN401
        """Restores a batch of images given as tensors, or one picture.

        Args:
            image: a batch, (N, 3, S, S) float in [0, 1] and black inside the hole; or a picture of any size: the path
                of its file, (H, W, 3) uint8, or a PIL image (one that is not RGB is converted; EXIF orientation is
                applied to files only).
            mask: for a batch, (N, 1, S, S) float, 1 inside the hole; for a picture, the path of a mask, which is scaled
                to the picture, or a mask of its size: (H, W) bool and True inside the hole, or a PIL image, white
                inside the hole. Without a mask, the black boxes of a picture in a file are its holes.
            grow: for a picture, how many pixels the hole is larger than the mask to each side.
            feather: for a picture, how many pixels inside the hole the fill is blended with what the picture has there.

        Returns:
            For a batch, the network's output, (N, 3, S, S) float32 in [0, 1]; for a picture, the picture restored
            inside the hole and unchanged outside it, as an array if it was given as one, otherwise as a PIL image.

        Raises:
            InputError: the picture or the mask is missing, cannot be used, or has another type or size than these.
        """
        if isinstance(image, Tensor):
            return self.network(image, mask)
        if isinstance(image, str | Path):
            picture, hole = open_picture(str(image), None if mask is None else str(mask), grow)
            restored = Image.fromarray(self._restore_one(picture.pixels, hole, feather))
            restored.info |= picture.metadata.info
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

    @torch.inference_mode()
    def restore(self, pictures: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
        """Restores several pictures of any sizes; the network sees squares of different pictures in one batch.

        Args:
            pictures: (H, W, 3) uint8 arrays, RGB; they are not changed.
            holes: the mask of each picture, (H, W) bool, True inside the hole.

        Returns:
            A new array for each picture, restored inside the hole and unchanged outside it.

        Raises:
            InputError: a picture or a mask has another type or size than these, or the output is not finite.
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
                part[hole] = filled[hole]  # part and hole are views of the arrays in restored and left
                hole[...] = False
        return restored

    def _fill(self, parts: Sequence[Pixels], holes: Sequence[Hole]) -> list[Pixels]:
        """Returns square parts with their holes filled by the network, each part at its own size."""
        size, device = self.settings.data.image_size, next(self.parameters()).device
        seen = [_scaled(part, hole, size) for part, hole in zip(parts, holes, strict=True)]
        given, mask = (torch.stack(tensors).to(device) for tensors in zip(*seen, strict=True))
        output = composite(self.network(given, mask), given, mask).cpu()
        if not output.isfinite().all():  # as bytes they would be black
            raise InputError("the model's output is not finite: its weights are damaged, or its training diverged")
        return [
            (255 * _resized(square[None], len(part))[0]).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            for square, part in zip(output, parts, strict=True)
        ]


def _hole(mask: Any) -> Hole:  # noqa: ANN401
    """Returns the hole of a mask that is no file; `_check` says what is wrong with that of an array."""
    if mask is None:
        raise InputError("no mask is given; give one of the picture's size, (H, W) bool or a PIL image")
    try:
        return masks.of_image(to_rgb(mask, "black")) if isinstance(mask, Image.Image) else mask
    except BadImage as error:
        raise InputError(f"the mask cannot be used: {error}") from None


def next_square(hole: Hole) -> tuple[slice, slice]:
    """Returns the square of a picture to restore next.

    The square's side is the picture's shorter side. It contains the hole and lies as near to the picture's middle as
    possible, because that is where the faces of the training images were. If the hole is longer than the square, the
    square contains the beginning of the hole; the first quarter of the square then lies before the hole and is already
    known or restored.

    Args:
        hole: (H, W) bool, with at least one True.

    Returns:
        The square's rows and columns.
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
            f"picture's size, {picture.shape[0]} rows of {picture.shape[1]} pixels"
        )


def _scaled(part: Pixels, hole: Hole, size: int) -> tuple[Tensor, Tensor]:
    """Returns a square part as the network takes it: (3, size, size), black inside the hole, and (1, size, size).

    If the part is scaled, a pixel gets the mean colour of its known share, and belongs to the hole if less than half of
    it is known.
    """
    known = torch.from_numpy(~hole)[None].float()
    colours = torch.tensor(part).permute(2, 0, 1) / 255 * known
    if len(part) != size:
        scaled = _resized(torch.cat([colours, known])[None], size)[0]
        known = (scaled[3:] >= 0.5).float()
        colours = (scaled[:3] / scaled[3:].clamp_min(0.5)).clamp(0, 1) * known
        if known.all():  # the hole is too small to show at this size: hide the pixel with most of it
            known = (scaled[3:] > scaled[3:].amin()).float()
            colours = colours * known
    return colours, 1 - known


def _resized(images: Tensor, size: int) -> Tensor:
    """Resizes (N, C, s, s) to (N, C, size, size), bicubic; returns images that have this size unchanged."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True)
