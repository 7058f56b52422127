"""Colouring: the colours of images are taken away and asked for; how light each pixel is, is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from faceae.tasks.base import Damaged, Fill, WholeFrame, as_bytes, everywhere

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = (0.299, 0.587, 0.114)
"""The shares of red, green and blue in the luminance (ITU-R BT.601, as in JPEG)."""


@dataclass(frozen=True)
class Colorize(WholeFrame):
    """Makes images grey.

    Attributes:
        image_size: side of an image in pixels.
    """

    image_size: int
    baselines: ClassVar[dict[str, Fill]] = {"grey": lambda given, mask: given}

    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """See `Task.damage`; the three channels of `given` are the luminance, rounded to 8 bits."""
        return Damaged(as_bytes(luminance(original)).expand_as(original), everywhere(original))


def luminance(images: Tensor) -> Tensor:
    """Returns the luminance, (N, 1, S, S), of images, (N, 3, S, S)."""
    weights = images.new_tensor(WEIGHTS)[:, None, None]
    return (images * weights).sum(1, keepdim=True)
