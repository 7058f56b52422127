"""A U-Net that fills a hole from a square window around it.

What is known far from a hole says little about what is in it, and costs as much to look at: the network sees a window
around the hole, the position of each of its pixels in the frame (faces are aligned: an eye is where eyes are), and
a latent vector of the whole face. A hole that is too large for the window is seen scaled down.

The U-Net is that of Ronneberger et al. (2015) with residual blocks (He et al., 2016) and without normalisation: the
window is centred on its mean colour instead, to which the network adds what it draws. Between pixels and features
stands a pixel shuffle (Shi et al., 2016): convolutions at full resolution took most of the time and gave little.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceae.metrics import bounds

MARGIN = 18
"""Pixels of the window, at least, that are known on each side of the hole: 28 + 2 * 18 are 64."""

_LEVELS = 3
_SHUFFLE = 2
MULTIPLE = _SHUFFLE * 2 ** (_LEVELS - 1)
"""What the side of the window is a multiple of."""

_FACE = 32  # side of the whole face, scaled down, as the latent's encoder sees it


class WindowUnet(nn.Module):
    """Window -> U-Net -> pasted into the given image."""

    def __init__(self, window: int, width: int, latent_dim: int, blocks: int = 1) -> None:
        """Builds the layers.

        Args:
            window: side in pixels, a multiple of `MULTIPLE`.
            width: channels of the first level; they double with each of the others.
            latent_dim: length of the latent vector of the whole face.
            blocks: residual blocks of each level, on the way down and up.
        """
        super().__init__()
        self.window = window
        widths = [width * 2**level for level in range(_LEVELS)]
        self.latent = nn.Sequential(
            nn.PixelUnshuffle(_SHUFFLE),
            *_half(4 * _SHUFFLE**2, widths[0]),
            *_half(widths[0], widths[1]),
            nn.Flatten(),
            nn.Linear(widths[1] * (_FACE // 4 // _SHUFFLE) ** 2, latent_dim),
            nn.SiLU(inplace=True),
            nn.Linear(latent_dim, widths[-1]),
        )
        self.enter = nn.Sequential(nn.PixelUnshuffle(_SHUFFLE), nn.Conv2d(6 * _SHUFFLE**2, width, 3, padding=1))
        self.down = nn.ModuleList(_blocks(wide, blocks) for wide in widths)
        self.coarser = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.middle = _blocks(widths[-1], blocks)
        self.finer = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.join = nn.ModuleList(nn.Conv2d(2 * wide, wide, 1) for wide in widths[:-1])
        self.up = nn.ModuleList(_blocks(wide, blocks) for wide in widths[:-1])
        self.leave = nn.Sequential(
            nn.SiLU(inplace=True), nn.Conv2d(width, 3 * _SHUFFLE**2, 3, padding=1), nn.PixelShuffle(_SHUFFLE)
        )

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:
        """(N, 3, S, S) in [0, 1], (N, 1, S, S) -> (N, 3, S, S) float32 in [0, 1]; as given outside the window.

        In evaluation the mean of the image and its mirror image is returned.
        """
        if self.training:
            return self._restore(given, mask)
        mirrored = self._restore(given.flip(3), mask.flip(3)).flip(3)
        return (self._restore(given, mask) + mirrored) / 2

    def _restore(self, given: Tensor, mask: Tensor) -> Tensor:
        centre, scale = _around(mask, self.window)
        frame = torch.cat([given, 1 - mask], 1)
        grid = _grid(centre, scale, self.window)
        seen = F.grid_sample(frame, grid, align_corners=False)
        known = seen[:, 3:]
        # A pixel that a scaled-down window sees half in the hole has the colour of its known half.
        colours = seen[:, :3] / known.clamp_min(1e-3) * (known > 0.5)
        known = (known > 0.5).float()
        mean = (colours * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp_min(1)
        drawn = self._unet(
            torch.cat([(colours - mean) * known, known, grid.permute(0, 3, 1, 2)], 1), self._face(given, mask)
        )
        drawn = (drawn.float() + mean).clamp(0, 1)
        back = F.grid_sample(drawn, _back(centre, scale, given.shape[-1]), padding_mode="border", align_corners=False)
        return torch.where(_inside(centre, scale, given.shape[-1]), back, given)

    def _face(self, given: Tensor, mask: Tensor) -> Tensor:
        """What the whole face says: (N, widths[-1], 1, 1)."""
        small = F.adaptive_avg_pool2d(torch.cat([given - 0.5 * (1 - mask), mask], 1), _FACE)
        latent: Tensor = self.latent(small)
        return latent[:, :, None, None]

    def _unet(self, window: Tensor, face: Tensor) -> Tensor:
        features = self.enter(window)
        skipped = []
        for level, block in enumerate(self.down):
            features = block(features)
            if level < len(self.coarser):
                skipped.append(features)
                features = self.coarser[level](features)
        features = self.middle(features + face)
        for level in reversed(range(len(self.up))):
            features = self.join[level](torch.cat([self.finer[level](features), skipped[level]], 1))
            features = self.up[level](features)
        drawn: Tensor = self.leave(features)
        return drawn


class _Block(nn.Module):
    """Adds what two convolutions find."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)  # at first a block changes nothing (Zhang et al., 2019): deep without normalisation

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, h, w) -> the same."""
        added: Tensor = features + self.layers(features)
        return added


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))


def _half(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.SiLU(inplace=True)


def _around(mask: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Where to look: a window of a size in which the hole has its margin, inside the frame.

    Returns:
        Centre (N, 2), x and y, and scale (N,), both in units where the frame goes from -1 to 1.
    """
    size = mask.shape[-1]
    top, bottom, left, right = bounds(mask)
    longest = torch.maximum(right - left, bottom - top) + 2 * MARGIN
    side = longest.clamp(min=min(window, size), max=size)
    corner = torch.stack([left + right - side, top + bottom - side], 1) // 2
    corner = torch.minimum(corner.clamp_min(0), (size - side)[:, None])
    scale = side / size
    return corner * 2 / size + scale[:, None] - 1, scale


def _grid(centre: Tensor, scale: Tensor, side: int) -> Tensor:
    """(N, side, side, 2): where in the frame each pixel of the window is."""
    steps = _steps(side, scale)
    x = (centre[:, :1] + steps * scale[:, None])[:, None, :].expand(-1, side, -1)
    y = (centre[:, 1:] + steps * scale[:, None])[:, :, None].expand(-1, -1, side)
    return torch.stack([x, y], 3)


def _back(centre: Tensor, scale: Tensor, side: int) -> Tensor:
    """(N, side, side, 2): where in the window each pixel of the frame is."""
    return _grid(-centre / scale[:, None], 1 / scale, side)


def _inside(centre: Tensor, scale: Tensor, side: int) -> Tensor:
    """(N, 1, side, side) bool: which pixels of the frame are in the window."""
    steps = _steps(side, scale)
    x = (steps - centre[:, :1]).abs() < scale[:, None]
    y = (steps - centre[:, 1:]).abs() < scale[:, None]
    return (y[:, :, None] & x[:, None, :])[:, None]


def _steps(side: int, like: Tensor) -> Tensor:
    """(side,): the centres of so many pixels, from -1 to 1."""
    return (2 * torch.arange(side, device=like.device, dtype=like.dtype) + 1) / side - 1
