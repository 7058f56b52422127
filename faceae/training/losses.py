"""The training losses, by their names in `--train.loss`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(output, original, mask) -> scalar, the mean over the batch; see `faceae.training.transfer.DeviceBatch`."""

HOLE_FRAME_WEIGHT = 0.1
"""Weight of the full-frame error in the loss `hole`; the error inside the hole has weight 1."""

_PSNR_ERROR = 1e-4
"""Squared error of 40 dB, below which the loss `psnr` no longer grows with the logarithm."""

SUSPICION_WEIGHT = 0.05
"""Weight of the cross-entropy of --task repair beside the squared error, which is about a hundredth of it."""


def hole_loss(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean squared error inside each image's hole, plus a tenth of that over the full frame."""
    # One weight for each pixel saves passes over the frames (with gradients, 5.6 ms for 64 of 128x128 instead of 7.2).
    weight = mask / (len(mask) * 3 * mask.sum((1, 2, 3), keepdim=True)) + HOLE_FRAME_WEIGHT / output.numel()
    return ((output - original).square() * weight).sum()


def psnr_loss(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Returns by how many dB the PSNR of what is asked for falls short of 40, the mean over the images; at least 0.

    An image's error counts as a share of itself (as in NAFNet, Chen et al., 2022, arxiv.org/abs/2204.04676), so what is
    easy, such as little noise, is learned beside what is hard, such as colours. Not so below the error of 40 dB: else a
    photograph without colours would outweigh all others.
    """
    error = ((output - original).square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return 10 * (1 + error / _PSNR_ERROR).log10().mean()


def bce_loss(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Returns the binary cross-entropy over the full frame; NaN if the network has diverged."""
    if output.device.type == "cpu":  # the copies of `guarded_bce` cost as much as the loss
        with contextlib.suppress(RuntimeError):
            return F.binary_cross_entropy(output, original)
    return guarded_bce(output, original)


def guarded_bce(output: Tensor, original: Tensor) -> Tensor:
    """Returns the same without looking at the values first.

    For an output outside [0, 1], torch raises an error on a CPU and aborts the kernel on a GPU, which this process then
    cannot use any more. So NaN is left out and added again. Interpolation may exceed 1 by a rounding error.
    """
    inside = output.nan_to_num(nan=0.0).clamp(0, 1)
    return F.binary_cross_entropy(inside, original) + 0 * output.detach().sum()


def suspicion_loss(logits: Tensor, given: Tensor, original: Tensor) -> Tensor:
    """Returns how badly a network of --task repair says where images were changed: a weighted cross-entropy.

    Args:
        logits: (N, 1, S, S), see `faceae.models.repair.RepairUnet`.
        given: (N, 3, S, S), the images as they were given.
        original: (N, 3, S, S), the images as they were.
    """
    changed = (given != original).any(1, keepdim=True).to(logits.dtype)
    share = changed.mean().clamp(1e-3, 1 - 1e-3)
    balance = changed / (2 * share) + (1 - changed) / (2 * (1 - share))
    return SUSPICION_WEIGHT * F.binary_cross_entropy_with_logits(logits, changed, balance)


LOSSES: dict[str, Loss] = {
    "mse": lambda output, original, mask: F.mse_loss(output, original),
    "bce": bce_loss,
    "l1": lambda output, original, mask: F.l1_loss(output, original),
    "hole": hole_loss,
    "psnr": psnr_loss,
}
