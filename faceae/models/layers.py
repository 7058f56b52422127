"""The layers that the U-Nets have in common."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SHUFFLE = 2
"""Side in pixels of the squares that are one position to the finest convolutions."""


class Unet(nn.Module):
    """A U-Net (Ronneberger et al., 2015) with residual blocks (He et al., 2016) and without normalisation.

    A pixel shuffle (Shi et al., 2016) lies between pixels and features, because convolutions at full resolution took
    most of the time and gave little.
    """

    def _build(self, inputs: int, outputs: int, widths: Sequence[int], blocks: int) -> None:
        """Builds the layers.

        Args:
            inputs: channels of the input, at full resolution.
            outputs: channels of the output.
            widths: channels of each level, from fine to coarse.
            blocks: residual blocks at each level, on the way down and on the way up.
        """
        self.enter = nn.Sequential(nn.PixelUnshuffle(SHUFFLE), nn.Conv2d(inputs * SHUFFLE**2, widths[0], 3, padding=1))
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
            nn.SiLU(inplace=True), nn.Conv2d(widths[0], outputs * SHUFFLE**2, 3, padding=1), nn.PixelShuffle(SHUFFLE)
        )

    def _unet(self, pixels: Tensor, face: Tensor | float = 0.0) -> Tensor:
        """Maps (N, inputs, h, w) to (N, outputs, h, w); adds `face`, (N, widths[-1], 1, 1), at the coarsest level."""
        features = self.enter(pixels)
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
    """A residual block: adds the output of two convolutions to its input."""

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
        # A new block changes nothing: so a deep network trains without normalisation (Zhang et al., 2019).
        nn.init.zeros_(last.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, width, h, w) to the same shape."""
        added: Tensor = features + self.layers(features)
        return added


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))
