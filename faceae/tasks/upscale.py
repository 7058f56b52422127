"""Upscaling: images are made smaller, and the large ones are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from faceae.tasks.base import Damaged, Fill, WholeFrame, as_bytes, everywhere

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Upscale(WholeFrame):
    """Makes images smaller, and then as large as they were without their details.

    Both by bicubic interpolation, with antialiasing on the way down, as in the benchmarks of super-resolution; the
    small image is rounded to 8 bits, as in a file.

    Attributes:
        factor: how many times smaller each side is.
        image_size: side of an image in pixels.
    """

    factor: int
    image_size: int
    baselines: ClassVar[dict[str, Fill]] = {"bicubic": lambda given, mask: given}

    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """See `Task.damage`; `given` is the small image, scaled up."""
        from torch.nn.functional import interpolate

        side = self.image_size // self.factor
        small = as_bytes(interpolate(original, (side, side), mode="bicubic", antialias=True))
        given = interpolate(small, (self.image_size, self.image_size), mode="bicubic")
        return Damaged(as_bytes(given), everywhere(original))
