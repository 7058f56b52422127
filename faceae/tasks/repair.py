"""Repair: a patch of an image is replaced by what does not belong there, and the network is not told where.

What is left of an image when the network has had it, differs from the image where something is wrong: so a network of
this task finds anomalies, too, see `faceae.evaluation.anomaly`. That a network learns this from images with patches of
their own pixels is the idea of CutPaste (Li et al., 2021) and of DRAEM (Zavrtanik et al., 2021); here it draws the
image without the patch, so that one sees what it misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from faceae.corruption import masks
from faceae.tasks.base import Damaged, Fill, Task, as_bytes, everywhere
from faceae.tasks.denoise import bank

if TYPE_CHECKING:
    from torch import Tensor

LEAST, MOST = 1 / 12, 3 / 8
"""Sides of a patch, as shares of the image's."""

_ROUND = 0.4  # share of the patches that are ellipses; the others are rectangles
_UNTOUCHED = 0.15  # share of the images without a patch, so that the network learns to leave a face alone
_NUMBERS = 16  # drawn for each image


@dataclass(frozen=True)
class Repair(Task):
    """Replaces a patch.

    Attributes:
        image_size: side of an image in pixels.
    """

    image_size: int
    baselines: ClassVar[dict[str, Fill]] = {"damaged": lambda given, mask: given}

    @property
    def row_bytes(self) -> int:
        """Float32 numbers in [0, 1], which `damage` makes a patch of."""
        return 4 * _NUMBERS

    def draw(self, image_ids: Sequence[str], seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Task.draw`."""
        shapes = masks.uniform(image_ids, seed=seed, epoch=epoch, count=_NUMBERS // 2)
        contents = masks.uniform(
            [f"{image_id}/content" for image_id in image_ids], seed=seed, epoch=epoch, count=_NUMBERS // 2
        )
        return np.concatenate([shapes, contents], 1).astype(np.float32).view(np.uint8)

    def damage(self, original: Tensor, drawn: Tensor) -> Damaged:
        """See `Task.damage`."""
        import torch

        shapes, contents = drawn.contiguous().view(torch.float32).split(_NUMBERS // 2, 1)
        patch, centre = _patch(shapes, self.image_size)
        kind = ((contents[:, 0] - _UNTOUCHED) / (1 - _UNTOUCHED) * len(_CONTENTS)).clamp_max(len(_CONTENTS) - 1).floor()
        given = original.clone()
        for number, content in enumerate(_CONTENTS):
            mine = (kind == number).nonzero()[:, 0]
            if len(mine):
                foreign = content(original[mine], contents[mine], centre[mine])
                given[mine] = torch.where(patch[mine], foreign, original[mine])
        return Damaged(as_bytes(given), everywhere(original))


def _patch(numbers: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Returns (N, 1, S, S) bool, True in the patch, and its centre in pixels, (N, 2), y and x."""
    import torch

    sides = ((LEAST + numbers[:, :2] * (MOST - LEAST)) * size).round()
    corners = (numbers[:, 2:4] * (size - sides + 1)).floor().minimum(size - sides)
    centre = corners + sides / 2
    pixels = torch.arange(size, device=numbers.device) + 0.5
    y, x = ((pixels - centre[:, axis, None]).abs() / sides[:, axis, None] * 2 for axis in (0, 1))
    y, x = y[:, None, :, None], x[:, None, None, :]
    is_round = numbers[:, 4, None, None, None] < _ROUND
    return torch.where(is_round, y.square() + x.square(), y.maximum(x)) < 1, centre


def _elsewhere(images: Tensor, numbers: Tensor, centre: Tensor) -> Tensor:
    """Returns other pixels of the image, perhaps upside down."""
    size = images.shape[-1]
    shift = ((numbers[:, 1:3] - 0.5) * size).round()
    return _moved(images, centre, shift, upside_down=numbers[:, 3] < 0.25, mirrored=numbers[:, 4] < 0.25)


def _turned(images: Tensor, numbers: Tensor, centre: Tensor) -> Tensor:
    """Returns the image upside down about the patch's centre, mirrored or both."""
    upside_down = numbers[:, 1] < 0.75
    return _moved(images, centre, 0 * centre, upside_down, mirrored=~upside_down | (numbers[:, 2] < 0.5))


def _moved(images: Tensor, centre: Tensor, shift: Tensor, upside_down: Tensor, mirrored: Tensor) -> Tensor:
    """Returns for each pixel another one of the image; beyond its edges it is continued as in a mirror."""
    import torch

    size = images.shape[-1]
    pixels = torch.arange(size, device=images.device)
    places = []
    for axis, flipped in enumerate((upside_down, mirrored)):
        turned = (2 * centre[:, axis, None] - 1).round() - pixels
        place = torch.where(flipped[:, None], turned, pixels) + shift[:, axis, None]
        place = place.long() % (2 * size)
        places.append(place.minimum(2 * size - 1 - place))
    rows, columns = places
    number = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, 3)[number, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


def _blurred(images: Tensor, numbers: Tensor, centre: Tensor) -> Tensor:
    from torch.nn.functional import avg_pool2d, interpolate

    return interpolate(avg_pool2d(images, 4), images.shape[2:], mode="bilinear")


def _noisy(images: Tensor, numbers: Tensor, centre: Tensor) -> Tensor:
    values = images[0].numel()
    numbers_of = bank(values, images.device)
    noise = numbers_of[(numbers[:, 1] * (len(numbers_of) - 1)).long()].reshape(images.shape)
    return images + (10 + 40 * numbers[:, 2, None, None, None]) / 255 * noise


def _flat(images: Tensor, numbers: Tensor, centre: Tensor) -> Tensor:
    return numbers[:, 1:4, None, None].expand_as(images)


def _tinted(images: Tensor, numbers: Tensor, centre: Tensor) -> Tensor:
    return images * (0.6 + 0.8 * numbers[:, 1:4, None, None])


_CONTENTS = (_elsewhere, _elsewhere, _turned, _blurred, _noisy, _flat, _tinted)
"""What is put into a patch: (N, 3, S, S), (N, 8) numbers in [0, 1], (N, 2) centres -> (N, 3, S, S)."""
