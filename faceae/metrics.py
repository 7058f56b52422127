"""Metrics of a reconstruction, one value for each image, and their exact means.

Pixels are in [0, 1]. A mean is a sum over images divided once by their count, so it does not depend on how
the images were batched or shared among workers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

NAMES = (
    "mse",
    "psnr_db",
    "hole_mse",
    "hole_psnr_db",
    "composite_mse",
    "composite_psnr_db",
    "composite_ssim",
    "rgb_argmax_accuracy",
)
_SSIM_REACH = 5  # pixels on each side that the 11-pixel window of the similarity sees
_PSNR_FLOOR = 1e-10  # an exact image has 100 dB, not infinity: one would hide all others in a mean


def composite(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """The output inside the hole, pasted into the known pixels around it."""
    return torch.where(mask > 0, output, original)


def bounds(mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The box around the hole of each image of a batch of masks (N, 1, S, S): top, bottom, left, right, (N,) int64.

    The ends are one past the last pixel. Without a hole they are 0, and top and left are S.
    """
    index = torch.arange(mask.shape[-1], device=mask.device)
    found = []
    for there in (mask[:, 0].amax(2) > 0, mask[:, 0].amax(1) > 0):  # rows, columns with a hole
        found += [torch.where(there, index, len(index)).amin(1), torch.where(there, index, -1).amax(1) + 1]
    top, bottom, left, right = found
    return top, bottom, left, right


def per_example(output: Tensor, original: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """All metrics of each image of a batch.

    Args:
        output: (N, 3, S, S) float in [0, 1], the network's raw output.
        original: (N, 3, S, S) float in [0, 1].
        mask: (N, 1, S, S) float, 1 inside the hole; no image without a hole.

    Returns:
        For each of `NAMES`, (N,) float32: `mse` and `psnr_db` over the full frame of the raw output; `hole_*`
        inside the hole; `composite_*` after pasting into the known pixels, SSIM with the usual 11-pixel
        Gaussian window (Wang et al., 2004); `rgb_argmax_accuracy`, the share of pixels whose largest colour
        channel is right (Keras' `accuracy` on an image, which the article reports).
    """
    squared = (output - original).square().mean(1, keepdim=True)
    mse = squared.mean((1, 2, 3))
    in_hole = (squared * mask).sum((1, 2, 3))
    hole_mse = in_hole / mask.sum((1, 2, 3))
    composite_mse = in_hole / squared[0].numel()
    same_channel = output.argmax(1) == original.argmax(1)
    values = (
        mse,
        psnr_db(mse),
        hole_mse,
        psnr_db(hole_mse),
        composite_mse,
        psnr_db(composite_mse),
        _composite_ssim(output, original, mask),
        same_channel.float().mean((1, 2)),
    )
    return dict(zip(NAMES, values, strict=True))


def _composite_ssim(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """The mean over each image, computed around its hole only: elsewhere the two images are one, and similarity is 1.

    Over whole frames it took as long as the network does.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # half a second, not before training

    size = mask.shape[-1]
    top, bottom, left, right = bounds(mask)
    longest = torch.maximum(bottom - top, right - left).max()
    side = min(size, int(longest) + 4 * _SSIM_REACH)
    index = torch.arange(side, device=mask.device)
    rows, columns = ((first - 2 * _SSIM_REACH).clamp(0, size - side)[:, None] + index for first in (top, left))
    places = torch.arange(len(mask), device=mask.device)[:, None, None], rows[:, :, None], columns[:, None, :]
    pasted, known = (
        image.permute(0, 2, 3, 1)[places].permute(0, 3, 1, 2) for image in (composite(output, original, mask), original)
    )
    ssim = structural_similarity_index_measure(pasted, known, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)
    return 1 - (1 - ssim.reshape(-1)) * (side / size) ** 2


def psnr_db(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of a mean squared error of pixels in [0, 1]; at most 100 dB."""
    return -10 * torch.log10(mse.clamp_min(_PSNR_FLOOR))


class Sums:
    """Sums of per-example metrics and the number of images, to be added over batches and workers."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.totals = torch.zeros(len(NAMES) + 1, dtype=torch.float64, device=device)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds a batch of `per_example`."""
        rows = torch.stack([values[name] for name in NAMES]).double()
        self.totals[:-1] += rows.sum(1)
        self.totals[-1] += rows.shape[1]

    def merge(self, other: Sums) -> None:
        """Adds the sums of other images."""
        self.totals += other.totals

    @property
    def count(self) -> int:
        """Images added."""
        return int(self.totals[-1])

    def means(self) -> dict[str, float]:
        """The mean of each metric over all images added."""
        *sums, count = self.totals.tolist()
        return {name: value / count for name, value in zip(NAMES, sums, strict=True)}
