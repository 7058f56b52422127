"""A small U-Net that continues a picture into thin and small holes, at the scale of the picture's own details.

It sees what is near and knows nothing of faces, as Telea's method or biharmonic inpainting, whose place it takes:
scratches, and holes so small that the face says nothing about them. Its weights come with faceae. They were trained on
drawn pictures (`pretrain/`), not on photographs, so they bring no photograph's licence along.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import safetensors.torch
import torch
from torch import Tensor

from faceae.models.layers import SHUFFLE, Unet
from faceae.models.membrane import extend
from faceae.models.plate import bend

WEIGHTS = "local.safetensors"
"""Its weights, float16, in this package."""

WIDTHS = (32, 56, 96)

MULTIPLE = SHUFFLE * 2 ** (len(WIDTHS) - 1)
"""The sides of what it is given must be multiples of this."""

_LEAST_CONTRAST = 0.02


class LocalUnet(Unet):
    """Mixes two smooth continuations of the known pixels and draws what to add, in units of their contrast.

    A thin plate goes on with shades exactly, and overshoots in large holes; a membrane never does. How much of each is
    good, the network says for each pixel.
    """

    def __init__(self) -> None:
        """Builds the layers; at first they add little."""
        super().__init__()
        self._build(7, 4, WIDTHS, 1)
        with torch.no_grad():
            for last in self.leave[1].parameters():
                last.mul_(0.1)

    def forward(self, colours: Tensor, known: Tensor) -> Tensor:
        """Fills the unknown pixels of a batch of images.

        Args:
            colours: (N, 3, H, W) float in [0, 1], 0 where unknown; H and W are multiples of `MULTIPLE`.
            known: (N, 1, H, W) float, 1 where the colour is known and 0 elsewhere.

        Returns:
            (N, 3, H, W) float32 in [0, 1]; the given colours where they are known.
        """
        flat, pixels = extend(colours, known), known.sum((2, 3), True).clamp_min(1)
        mean = (colours * known).sum((2, 3), True) / pixels
        variance = ((colours - mean).square() * known).sum((1, 2, 3), True) / (3 * pixels)
        contrast = variance.sqrt().clamp_min(_LEAST_CONTRAST)
        bent = bend(colours, known) - flat
        drawn = self._unet(torch.cat([(flat - mean) / contrast, bent / contrast, known], 1)).float()
        smooth = flat + drawn[:, 3:].sigmoid() * bent
        return torch.where(known > 0, colours, (smooth + contrast * drawn[:, :3]).clamp(0, 1))


@cache
def load_local(device: torch.device) -> LocalUnet:
    """Returns the network with the weights that come with faceae, in evaluation mode."""
    network = LocalUnet()
    saved = safetensors.torch.load(resources.files(__package__).joinpath(WEIGHTS).read_bytes())
    network.load_state_dict({name: value.float() for name, value in saved.items()})
    return network.to(device).eval().requires_grad_(False)
