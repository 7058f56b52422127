"""A U-Net that sees a whole image, for tasks that ask for all of it: denoising, upscaling and colouring.

It draws what is to be added to the image that it is given, so that it begins with that image. Beside the colours of
each pixel it sees where in the frame the pixel is: faces are aligned, so the position tells which part of a face it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from faceae.models.layers import Unet
from faceae.models.unet import place
from faceae.tasks.colorize import luminance


class FrameUnet(Unet):
    """Adds what the U-Net draws to the given image."""

    _drawn = 3  # channels that the U-Net draws

    def __init__(
        self,
        width: int,
        levels: int,
        blocks: int,
        *,
        sees_holes: bool = False,
        keeps_luminance: bool = False,
        average_mirrored: bool = True,
    ) -> None:
        """Builds the layers.

        Args:
            width: channels of the finest level; each coarser level has twice as many.
            levels: number of levels, at least 2; each has half the resolution of the one before.
            blocks: residual blocks at each level, on the way down and on the way up.
            sees_holes: whether it sees the mask, too: for one network that also fills holes.
            keeps_luminance: whether grey images that are asked for as a whole are coloured: the output has exactly
                their luminance.
            average_mirrored: see `faceae.models.unet.WindowUnet`.
        """
        super().__init__()
        self.sees_holes, self.keeps_luminance, self.average_mirrored = sees_holes, keeps_luminance, average_mirrored
        self._build(5 + sees_holes, self._drawn, [width * 2**level for level in range(levels)], blocks)

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:
        """Maps (N, 3, S, S) in [0, 1] and (N, 1, S, S), 1 where it is asked, to (N, 3, S, S) float32 in [0, 1]."""
        return self.redraw(given, mask, *whole(given))

    def redraw(self, given: Tensor, mask: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        """Does the same with squares of an image.

        Args:
            given: (N, 3, S, S) in [0, 1].
            mask: (N, 1, S, S).
            centre: (N, 2), where in the frame the squares lie, see `faceae.models.unet.place`.
            scale: (N,), half their sides; whole frames lie at 0 and have a scale of 1.
        """
        if self.training or not self.average_mirrored:
            return self._draw(given, mask, centre, scale)
        mirrored = self._draw(given.flip(3), mask.flip(3), centre * centre.new_tensor([-1, 1]), scale).flip(3)
        return (self._draw(given, mask, centre, scale) + mirrored) / 2

    def _draw(self, given: Tensor, mask: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        drawn = self._seen(given, mask, centre, scale)
        changed = (given + drawn).clamp(0, 1)
        if not self.keeps_luminance:
            return changed
        grey = (given == given[:, :1]).all(1, keepdim=True).all(2, keepdim=True).all(3, keepdim=True)
        asked = (mask > 0).all(2, keepdim=True).all(3, keepdim=True)
        return torch.where(grey & asked, coloured(given, drawn), changed)

    def _seen(self, given: Tensor, mask: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
        """Returns what the U-Net draws of squares of an image, (N, `_drawn`, S, S) float32; see `redraw`."""
        seen = [given - 0.5, place(centre, scale, given.shape[-1]).permute(0, 3, 1, 2)]
        return self._unet(torch.cat([*seen, mask] if self.sees_holes else seen, 1)).float()


def whole(given: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the centres and the scales of images that are whole frames, see `FrameUnet.redraw`."""
    count = given.shape[0]  # not len(), which the export to ONNX takes for a constant
    return given.new_zeros(count, 2), given.new_ones(count)


def coloured(grey: Tensor, colours: Tensor) -> Tensor:
    """Colours images without changing their luminance.

    A colour that cannot be had at its pixel's luminance is made paler until it can.

    Args:
        grey: (N, 3, S, S), the luminance in each channel, in [0, 1].
        colours: (N, 3, S, S), any numbers; of a pixel's, what counts is how they differ from their own luminance.

    Returns:
        (N, 3, S, S) in [0, 1].
    """
    chroma = colours - luminance(colours)
    room = torch.where(chroma > 0, 1 - grey, grey)
    share = (room / chroma.abs().clamp_min(1e-6)).amin(1, keepdim=True).clamp_max(1)
    return grey + share * chroma
