"""Does a task that asks for every pixel on a picture of any size, with a U-Net that was trained on squares of one size.

The picture is divided into squares of that size that overlap, and what the network makes of them is blended. Of each
square the network is told where in the frame it lies, the frame being the centre square of the picture, where the face
is expected. A picture of the size of training is one square.

Colours need no detail, but the whole face: a picture is coloured at the size of training, and keeps its own luminance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from faceae.config import Settings
from faceae.models.frame import FrameUnet, coloured
from faceae.models.windows import Pixels
from faceae.tasks.base import as_bytes
from faceae.tasks.colorize import luminance

BATCH = 16
"""Number of squares that the network sees at a time."""

OVERLAP = 1 / 4
"""Least overlap of neighbouring squares, as a share of their side."""


@torch.inference_mode()
def redo(network: FrameUnet, settings: Settings, picture: Pixels) -> Pixels:
    """Returns a picture without its damage: (H, W, 3) uint8, of --task upscale as many times larger as in training.

    Args:
        network: the network, in evaluation mode.
        settings: the settings of its training.
        picture: (H, W, 3) uint8; for --task colorize its luminance counts.
    """
    device, side = next(network.parameters()).device, settings.data.image_size
    given = torch.tensor(picture, device=device).permute(2, 0, 1)[None].float() / 255
    match settings.task_name:
        case "colorize":
            made = _coloured(network, given, side)
        case "upscale":
            size = [settings.upscale.factor * length for length in picture.shape[:2]]
            made = _in_squares(network, as_bytes(F.interpolate(given, size, mode="bicubic")), side)
        case _:
            made = _in_squares(network, given, side)
    return (255 * made[0]).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def _coloured(network: FrameUnet, given: Tensor, side: int) -> Tensor:
    grey = as_bytes(luminance(given)).expand_as(given)
    height, width = given.shape[2:]
    scale = side / min(height, width)
    size = [max(side, round(scale * length)) for length in (height, width)]
    small = as_bytes(F.interpolate(grey, size, mode="bicubic", antialias=True))
    chroma = _in_squares(network, small, side) - small
    return coloured(grey, F.interpolate(chroma, (height, width), mode="bicubic"))


def _in_squares(network: FrameUnet, given: Tensor, side: int) -> Tensor:
    """Runs the network on an image, (1, 3, H, W) in [0, 1]; one that is smaller than a square is continued."""
    height, width = given.shape[2:]
    beyond = [max(0, side - length) for length in (height, width)]
    given = F.pad(given, (0, beyond[1], 0, beyond[0]), mode="replicate")
    ramp = (torch.arange(side, device=given.device) + 0.5).minimum(torch.arange(side, 0, -1, device=given.device) - 0.5)
    ramp = ramp.clamp_max(OVERLAP * side)
    weight, total = ramp[:, None] * ramp, torch.zeros_like(given[:, :1])
    made = torch.zeros_like(given)
    squares = list(_squares(given.shape[2:], side))
    for start in range(0, len(squares), BATCH):
        places = squares[start : start + BATCH]
        parts = torch.cat([given[..., top : top + side, left : left + side] for top, left in places])
        centre, scale = _in_frame(places, (height, width), side)
        redrawn = network.redraw(parts, torch.ones_like(parts[:, :1]), centre.to(given), scale.to(given))
        for (top, left), drawn in zip(places, redrawn, strict=True):
            made[..., top : top + side, left : left + side] += weight * drawn
            total[..., top : top + side, left : left + side] += weight
    return (made / total)[..., :height, :width]


def _squares(shape: torch.Size, side: int) -> Iterator[tuple[int, int]]:
    """Yields the top and left of squares that cover an image and overlap."""
    for top in _starts(shape[0], side):
        for left in _starts(shape[1], side):
            yield top, left


def _starts(length: int, side: int) -> list[int]:
    steps = max(0, -(-(length - side) // (side - round(OVERLAP * side))))
    return [round(number * (length - side) / steps) if steps else 0 for number in range(steps + 1)]


def _in_frame(places: Sequence[tuple[int, int]], shape: tuple[int, int], side: int) -> tuple[Tensor, Tensor]:
    """Returns the centres, x and y, and the scales of squares where the frame extends from -1 to 1."""
    frame = min(shape)
    corner = [(length - frame) / 2 for length in shape]
    scale = side / frame
    centres = [
        (2 * (left - corner[1]) / frame + scale - 1, 2 * (top - corner[0]) / frame + scale - 1) for top, left in places
    ]
    return torch.tensor(centres), torch.full((len(places),), scale)
