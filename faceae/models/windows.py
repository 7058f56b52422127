"""The windows of a picture in which a network sees the pieces of a hole, each at the scale that it needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from faceae.corruption.components import Box
from faceae.models.membrane import extend

Pixels = NDArray[np.uint8]
"""A picture: (H, W, 3), RGB."""

Hole = NDArray[np.bool_]
"""A mask: (H, W), True inside the hole."""

_LARGE = 512
"""A part of a picture is first reduced by the largest whole number that leaves so many pixels a side: saves memory."""


class Square(NamedTuple):
    """A square part of a picture, in pixels."""

    top: int
    left: int
    side: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


class Window(NamedTuple):
    """What a network sees to fill a piece of a hole.

    Attributes:
        number: which picture.
        piece: the rectangle of the picture to fill.
        seen: the part of the picture that the network sees.
        frame: the part of the picture that is the network's frame, in which faces are where those of its training were.
    """

    number: int
    piece: Box
    seen: Square
    frame: Square


def around(number: int, piece: Box, shape: tuple[int, int], side: int) -> Window:
    """Places a window around a piece of a picture, and a frame around the window.

    The frame's side is the picture's shorter side. It lies as near to the picture's middle as possible, because that is
    where the faces of the training images were.

    Args:
        number: which picture.
        piece: the piece.
        shape: rows and columns of the picture.
        side: side of the window in pixels, at most that of the frame.
    """
    spans = ((piece.top, piece.bottom), (piece.left, piece.right))
    top, left = (
        min(max(0, (start + end - side) // 2), length - side) for (start, end), length in zip(spans, shape, strict=True)
    )
    frame = min(shape)
    frame_top, frame_left = (
        min(max((length - frame) // 2, start + side - frame), start)
        for start, length in zip((top, left), shape, strict=True)
    )
    return Window(number, piece, Square(top, left, side), Square(frame_top, frame_left, frame))


def in_frame(window: Window) -> tuple[float, float, float]:
    """Returns the window's centre, x and y, and its scale in units in which the frame extends from -1 to 1."""
    (top, left, side), (frame_top, frame_left, frame) = window.seen, window.frame
    scale = side / frame
    return 2 * (left - frame_left) / frame + scale - 1, 2 * (top - frame_top) / frame + scale - 1, scale


class View:
    """A square part of a picture as tensors, reduced if it is very large.

    Attributes:
        colours: (3, s, s) float in [0, 1], 0 where unknown.
        known: (1, s, s) float, 1 or 0.
    """

    def __init__(self, picture: Pixels, unknown: Hole, square: Square) -> None:
        """Copies a square part of a picture."""
        pixels, hole = picture[square.inside].copy(), unknown[square.inside]
        pixels[hole] = 0
        factor = max(1, square.side // _LARGE)
        colours = Image.fromarray(pixels).reduce(factor)
        known = Image.fromarray(np.uint8(255) * ~hole).reduce(factor)
        share = torch.from_numpy(np.array(known)).float()[None] / 255
        self.known = (share >= 0.5).float()
        self.colours = torch.from_numpy(np.array(colours)).permute(2, 0, 1) / 255 / share.clamp_min(0.5) * self.known

    def scaled(self, size: int) -> tuple[Tensor, Tensor]:
        """Returns the part at another size: (3, size, size) in [0, 1], 0 where unknown, and (1, size, size), 1 or 0.

        A pixel gets the mean colour of its known share, and is known if at least half of it is.
        """
        if self.known.shape[-1] == size:
            return self.colours, self.known
        scaled = _resized(torch.cat([self.colours, self.known]), size)
        known = (scaled[3:] >= 0.5).float()
        if known.all():  # the hole is too small to show at this size: hide the pixel with most of it
            known = (scaled[3:] > scaled[3:].amin()).float()
        return (scaled[:3] / scaled[3:].clamp_min(0.5)).clamp(0, 1) * known, known

    def joined(self, drawn: Tensor) -> Tensor:
        """Returns what a network drew of the part, without a step at the hole's edge.

        What it drew differs a little from what is known. The difference is continued into the hole and added, as in the
        seamless cloning of Perez et al. (Poisson Image Editing, 2003).

        Args:
            drawn: (3, size, size) in [0, 1].

        Returns:
            (3, s, s), about in [0, 1].
        """
        drawn = _resized(drawn, self.known.shape[-1])
        return drawn + extend((self.colours - drawn)[None], self.known[None])[0]


def paste(drawn: Tensor, window: Window, picture: Pixels, hole: Hole) -> None:
    """Pastes what was drawn of a window into its piece of the hole.

    Args:
        drawn: (3, s, s), about in [0, 1], of the whole window.
        window: the window.
        picture: the picture; is changed.
        hole: what is left of its hole.
    """
    pixels = (255 * drawn).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    piece, (top, left, side) = window.piece, window.seen
    scale = len(pixels) / side
    size = piece.right - piece.left, piece.bottom - piece.top
    x, y = scale * (piece.left - left), scale * (piece.top - top)
    box = x, y, x + scale * size[0], y + scale * size[1]
    filled = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box))
    empty = hole[piece.inside]
    picture[piece.inside][empty] = filled[empty]


def _resized(image: Tensor, size: int) -> Tensor:
    """Resizes (C, s, s) to (C, size, size), bicubic; returns an image that has this size unchanged."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image[None], (size, size), mode="bicubic", antialias=True)[0]
