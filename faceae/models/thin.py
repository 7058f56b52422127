"""Fills what is thin or small of the holes in pictures, with the network of `local`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from faceae.corruption.pieces import thin_pieces
from faceae.models.local import LocalUnet, load_local
from faceae.models.windows import Hole, Pixels, View, Window, around, paste

SHARE = 1 / 32
"""Thickness up to which a hole is filled by this network alone, as a share of the picture's shorter side."""

LARGEST = 1 / 8
"""Thickness up to which it has a part in what fills a hole."""

BATCH = 32
"""Number of windows that the network sees at a time."""

_SIDE = 128  # of a window as the network sees it, in pixels
_CELL = 64  # of which so many are filled, with known pixels around
_THICKNESS = 14  # of a hole in the window, up to which strokes were in training; 10 and 20 err more


def fill_thin(pictures: Sequence[Pixels], holes: Sequence[Hole], thin: Sequence[Hole], device: torch.device) -> None:
    """Fills the thin parts of holes in pictures of any size.

    Args:
        pictures: (H, W, 3) uint8 arrays, RGB; they are changed where `thin` is True.
        holes: all that is unknown of each picture, (H, W) bool.
        thin: what is to be filled of it, (H, W) bool.
        device: where the network runs.
    """
    windows = [window for number, hole in enumerate(thin) for window in _windows(number, hole)]
    seeing = [window for window in windows if not holes[window.number][window.seen.inside].all()]
    _fill(pictures, holes, thin, seeing or windows, device)  # where nothing of a picture is known, it is black
    if 0 < len(seeing) < len(windows):  # the others see what has been filled by now
        left = [part.copy() for part in thin]
        for window in seeing:
            left[window.number][window.piece.inside] = False
        unknown = [hole & ~part | rest for hole, part, rest in zip(holes, thin, left, strict=True)]
        fill_thin(pictures, unknown, left, device)


def _fill(
    pictures: Sequence[Pixels],
    holes: Sequence[Hole],
    thin: Sequence[Hole],
    windows: Sequence[Window],
    device: torch.device,
) -> None:
    network = load_local(device)
    for start in range(0, len(windows), BATCH):
        batch = windows[start : start + BATCH]
        views = [View(pictures[window.number], holes[window.number], window.seen) for window in batch]
        for window, view, drawn in zip(batch, views, _draw(network, views, device), strict=True):
            # At the picture's own scale there is nothing to join: the network returns what is known unchanged.
            filled = drawn if view.known.shape[-1] == _SIDE else view.joined(drawn)
            paste(filled, window, pictures[window.number], thin[window.number])


def _windows(number: int, thin: Hole) -> Iterator[Window]:
    frame = min(thin.shape)
    for piece, scale in thin_pieces(thin, _CELL, _THICKNESS, frame):
        yield around(number, piece, thin.shape, min(round(_SIDE * scale), frame))


def _draw(network: LocalUnet, views: Sequence[View], device: torch.device) -> Tensor:
    """Returns what the network draws in each window, (N, 3, size, size), on the CPU."""
    seen = zip(*(view.scaled(_SIDE) for view in views), strict=True)
    colours, known = (torch.stack(tensors).to(device) for tensors in seen)
    # Also as if they lay on their sides: scratches of 4 pixels have a hundredth less error.
    drawn = _both(network, colours, known) + _both(network, colours.mT.contiguous(), known.mT.contiguous()).mT
    return (drawn / 4).cpu()


def _both(network: LocalUnet, colours: Tensor, known: Tensor) -> Tensor:
    """Returns the sum of what the network draws in windows and in their mirror images."""
    drawn: Tensor = network(colours, known) + network(colours.flip(3), known.flip(3)).flip(3)
    return drawn
