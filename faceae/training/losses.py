"""The training losses, by their names in `--train.loss`."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(output, original, mask) -> scalar, the mean over the batch; see `faceae.training.transfer.DeviceBatch`."""

HOLE_FRAME_WEIGHT = 0.1
"""Weight of the full-frame error in the loss `hole`; the error inside the hole has weight 1."""


def hole_loss(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean squared error inside each image's hole, plus a tenth of that over the full frame."""
    squared = (output - original).square()
    holes = (squared * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return holes.mean() + HOLE_FRAME_WEIGHT * squared.mean()


LOSSES: dict[str, Loss] = {
    "mse": lambda output, original, mask: F.mse_loss(output, original),
    "bce": lambda output, original, mask: F.binary_cross_entropy(output, original),
    "l1": lambda output, original, mask: F.l1_loss(output, original),
    "hole": hole_loss,
}
