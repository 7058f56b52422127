"""A U-Net that fills a hole from a square window around it.

Pixels far from a hole say little about its content, but cost as much to process as near ones. So the network sees only
a window around the hole, the position of each of the window's pixels in the frame (faces are aligned, so the position
tells which part of a face is there), and a latent vector of the whole face. A hole that is too large for the window is
seen scaled down.

The U-Net (see `layers`) has no normalisation; instead, the window's mean colour is subtracted from its input. What it
draws is added to that colour, or to a membrane that continues the known pixels into the hole at the image's full
resolution: then thin holes are nearly filled before it draws, also where the window is scaled down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceae.metrics import bounds
from faceae.models.layers import SHUFFLE, Unet
from faceae.models.membrane import extend

MARGIN = 18
"""Known pixels that the window shows at least on each side of the hole: 28 + 2 * 18 = 64."""

_ITERATIONS = 2  # of the membrane: what is wrong with it, the network learns

_FACE = 32  # side in pixels to which the whole face is scaled down for the latent's encoder


class WindowUnet(Unet):
    """Cuts a window around the hole, runs the U-Net on it and pastes the result into the given image."""

    def __init__(
        self,
        window: int,
        width: int,
        latent_dim: int,
        levels: int = 3,
        blocks: int = 1,
        *,
        from_membrane: bool = False,
        average_mirrored: bool = True,
    ) -> None:
        """Builds the layers.

        Args:
            window: side of the window in pixels, a multiple of 2**levels.
            width: channels of the finest level; each coarser level has twice as many.
            latent_dim: length of the latent vector of the whole face.
            levels: number of levels, at least 2; each has half the resolution of the one before.
            blocks: residual blocks at each level, on the way down and on the way up.
            from_membrane: whether it adds to a membrane what it draws, instead of to the window's mean colour.
            average_mirrored: whether, in evaluation mode, the output is the mean of those for the image and for its
                mirror image (mirrored back): it errs less, and is less sharp.
        """
        super().__init__()
        self.window, self.from_membrane, self.average_mirrored = window, from_membrane, average_mirrored
        widths = [width * 2**level for level in range(levels)]
        face = widths[-1] // 4, widths[-1] // 2
        self.latent = nn.Sequential(
            nn.PixelUnshuffle(SHUFFLE),
            *_half(4 * SHUFFLE**2, face[0]),
            *_half(face[0], face[1]),
            nn.Flatten(),
            nn.Linear(face[1] * (_FACE // 4 // SHUFFLE) ** 2, latent_dim),
            nn.SiLU(inplace=True),
            nn.Linear(latent_dim, widths[-1]),
        )
        self._build(6, 3, widths, blocks)

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:
        """Maps (N, 3, S, S) in [0, 1] and (N, 1, S, S) to (N, 3, S, S) float32 in [0, 1].

        Outside the window the output is the given image.
        """
        if self.training or not self.average_mirrored:
            return self._restore(given, mask)
        mirrored = self._restore(given.flip(3), mask.flip(3)).flip(3)
        return (self._restore(given, mask) + mirrored) / 2

    def _restore(self, given: Tensor, mask: Tensor) -> Tensor:
        centre, scale = window_around(mask, self.window)
        grid = place(centre, scale, self.window)
        inverse = place(-centre / scale[:, None], 1 / scale, given.shape[-1])  # where in the window each pixel is
        start = extend(given, 1 - mask, _ITERATIONS) if self.from_membrane else given
        seen = F.grid_sample(torch.cat([start, 1 - mask], 1), grid, align_corners=False)
        colours, known = seen[:, :3], (seen[:, 3:] > 0.5).float()
        if self.from_membrane:
            added = self._added(_centred(colours), known, grid, self.face(given, mask))
            back = F.grid_sample(added, inverse, padding_mode="border", align_corners=False)
            back = (start + back).clamp(0, 1)
        else:
            # A pixel of a scaled-down window that lies partly in the hole gets the colour of its known part.
            drawn = self.draw(colours / seen[:, 3:].clamp_min(1e-3) * known, known, grid, self.face(given, mask))
            back = F.grid_sample(drawn, inverse, padding_mode="border", align_corners=False)
        return torch.where((inverse.abs() < 1).all(3)[:, None], back, given)

    def draw(self, colours: Tensor, known: Tensor, grid: Tensor, face: Tensor) -> Tensor:
        """Runs the U-Net on windows.

        Args:
            colours: (N, 3, w, w) in [0, 1], 0 where unknown.
            known: (N, 1, w, w), 1 where the picture is known and 0 in the hole.
            grid: (N, w, w, 2), where in the frame each pixel of a window is, see `place`.
            face: (N, widths[-1], 1, 1), what `face` returned for the frames.

        Returns:
            (N, 3, w, w) float32 in [0, 1].
        """
        if self.from_membrane:
            start = extend(colours, known, _ITERATIONS)
            return (start + self._added(_centred(start), known, grid, face)).clamp(0, 1)
        mean = (colours * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp_min(1)
        return (mean + self._added((colours - mean) * known, known, grid, face)).clamp(0, 1)

    def _added(self, colours: Tensor, known: Tensor, grid: Tensor, face: Tensor) -> Tensor:
        """Draws what to add to windows; see `draw`, but the colours are around 0."""
        return self._unet(torch.cat([colours, known, grid.permute(0, 3, 1, 2)], 1), face).float()

    def face(self, given: Tensor, mask: Tensor) -> Tensor:
        """Encodes the whole face: returns (N, widths[-1], 1, 1), to be added at the coarsest level."""
        added: Tensor = self.latent[-2:](self.encode(given, mask))
        return added[:, :, None, None]

    def encode(self, given: Tensor, mask: Tensor) -> Tensor:
        """Returns the latent vectors of whole faces, (N, latent_dim); see `forward` for what is given."""
        colours, hidden = (F.adaptive_avg_pool2d(frame, _FACE) for frame in (given, mask))
        latent: Tensor = self.latent[:-2](torch.cat([colours - 0.5 * (1 - hidden), hidden], 1))
        return latent


def _centred(colours: Tensor) -> Tensor:
    return colours - colours.mean((2, 3), keepdim=True)


def _half(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.SiLU(inplace=True)


def window_around(mask: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Places a window around each hole: large enough for the hole with `MARGIN` on each side, inside the frame.

    Args:
        mask: (N, 1, S, S), 1 inside the hole.
        window: smallest side of the window in pixels.

    Returns:
        The window's centre (N, 2), x and y, and its scale (N,), half its side; both in units in which the frame extends
        from -1 to 1.
    """
    size = mask.shape[-1]
    top, bottom, left, right = bounds(mask)
    longest = torch.maximum(right - left, bottom - top) + 2 * MARGIN
    side = longest.clamp(min=min(window, size), max=size)
    corner = torch.stack([left + right - side, top + bottom - side], 1) // 2
    corner = torch.minimum(corner.clamp_min(0), (size - side)[:, None])
    scale = side / size
    return corner * 2 / size + scale[:, None] - 1, scale


def place(centre: Tensor, scale: Tensor, side: int) -> Tensor:
    """Where in the frame each pixel of the window is: (N, side, side, 2), x and y, for `F.grid_sample`.

    Not by `F.affine_grid`: under autocast that computes in bfloat16, which is off by up to an eighth of a pixel, and on
    a CPU it takes 8 times as long (measured with torch 2.13: 7.3 ms against 0.9 for 64 grids of 128x128).
    """
    steps = (2 * torch.arange(side, device=scale.device, dtype=scale.dtype) + 1) / side - 1  # pixel centres
    x = (centre[:, :1] + steps * scale[:, None])[:, None, :].expand(-1, side, -1)
    y = (centre[:, 1:] + steps * scale[:, None])[:, :, None].expand(-1, -1, side)
    return torch.stack([x, y], 3)
