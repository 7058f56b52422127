"""Metrics of a reconstruction, one value per image, and their exact means.

Pixels are in [0, 1]. A mean is a sum over all images, divided once by their number, so it does not depend on how the
images were batched or shared among workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
DIVERGENCE = "kl_nats"
"""A metric of variational autoencoders only: the divergence of an image's latent vector from a normal distribution."""

_SSIM_REACH = 5  # pixels on each side of the centre of the 11-pixel window of the similarity
_PSNR_FLOOR = 1e-10  # a perfect image has 100 dB, not infinity, which would be the mean of any set that contains it


@contextmanager
def full_fp32() -> Iterator[None]:
    """A context in which float32 is computed in full, also inside autocast; it restores what was set before.

    By default torch lets a GPU's convolutions round float32 to TF32, with 10 bits of mantissa. SSIM subtracts means of
    squares that are nearly equal: there the rounding would be larger than what models differ by.
    """
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cublas.allow_tf32
    cudnn.allow_tf32 = cublas.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        cudnn.allow_tf32, cublas.allow_tf32 = before


def composite(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Returns the composite: the output inside the hole, the original outside it.

    Args:
        output: (N, 3, S, S), the network's output.
        original: (N, 3, S, S).
        mask: (N, 1, S, S), 1 inside the hole.

    Returns:
        (N, 3, S, S).
    """
    return torch.where(mask > 0, output, original)


def bounds(mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the bounding box of the hole in each mask of a batch.

    Args:
        mask: (N, 1, S, S), greater than 0 inside the hole.

    Returns:
        top, bottom, left and right, each (N,) int64 in pixels; bottom and right are one past the hole's last pixel. For
        a mask without a hole, top and left are S, bottom and right are 0.
    """
    index = torch.arange(mask.shape[-1], device=mask.device)
    found = []
    for there in (mask[:, 0].amax(2) > 0, mask[:, 0].amax(1) > 0):  # rows, columns with a hole
        found += [torch.where(there, index, len(index)).amin(1), torch.where(there, index, -1).amax(1) + 1]
    top, bottom, left, right = found
    return top, bottom, left, right


@full_fp32()
def per_example(output: Tensor, original: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Computes all metrics for each image of a batch.

    Args:
        output: (N, 3, S, S) float in [0, 1], the network's raw output.
        original: (N, 3, S, S) float in [0, 1].
        mask: (N, 1, S, S) float, 1 inside the hole; every image must have a hole.

    Returns:
        For each of `NAMES`, (N,) float32. `mse` and `psnr_db` are over the full frame of the raw output; `hole_*` are
        inside the hole; `composite_*` are of the composite, the output pasted into the known pixels, with SSIM in the
        usual 11-pixel Gaussian window (Wang et al., 2004); `rgb_argmax_accuracy` is the share of pixels whose largest
        colour channel is right (Keras' `accuracy` on an image, which the article reports).
    """
    squared = (output - original).square().mean(1, keepdim=True)
    mse = squared.mean((1, 2, 3))
    in_hole = (squared * mask).sum((1, 2, 3))
    hole_mse = in_hole / mask.sum((1, 2, 3))
    composite_mse = in_hole / squared[0].numel()
    same_channel = _largest_channel(output) == _largest_channel(original)
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


def _largest_channel(image: Tensor) -> Tensor:
    """Returns (N, S, S), the first of the largest channels of (N, 3, S, S): `argmax`, which takes 20 times as long."""
    red, green, blue = image.unbind(1)
    return torch.where(red >= torch.maximum(green, blue), 0, torch.where(green >= blue, 1, 2))


def _composite_ssim(output: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean SSIM of each composite, (N,), computed only around the hole.

    Elsewhere the two images are equal, so the similarity there is 1. Over whole frames, SSIM took as long as the
    network does.
    """
    # Imported here, because it takes half a second that the start of training should not wait for.
    from torchmetrics.functional.image import structural_similarity_index_measure

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
    """Returns the peak signal-to-noise ratio in dB, at most 100, of a mean squared error of pixels in [0, 1]."""
    return -10 * torch.log10(mse.clamp_min(_PSNR_FLOOR))


def bits_per_value(mse: float, divergence: float, values: int) -> float:
    """Returns the bits that a variational autoencoder needs for a value of 8 bits: an upper bound.

    Args:
        mse: its mean squared error, taken as the variance of a normal distribution around what it returns.
        divergence: in nats an image.
        values: the number of values of an image, 3 * S * S.
    """
    nats = 0.5 * math.log(2 * math.pi * math.e * max(mse, _PSNR_FLOOR)) + divergence / values
    return nats / math.log(2) + math.log2(255)


class Sums:
    """Sums of the metrics and the number of images, to be added up over batches and workers.

    Attributes:
        names: the names of the metrics.
        totals: (len(names) + 1,) float64: the sum of each metric in the order of `names`, then the number of images.
    """

    def __init__(self, device: torch.device | str = "cpu", names: tuple[str, ...] = NAMES) -> None:
        self.names = names
        self.totals = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds a batch of metrics, as `per_example` returns them."""
        rows = torch.stack([values[name] for name in self.names]).double()
        self.totals[:-1] += rows.sum(1)
        self.totals[-1] += rows.shape[1]

    def merge(self, other: Sums) -> None:
        """Adds the sums of other images."""
        self.totals += other.totals

    @property
    def count(self) -> int:
        """The number of images added."""
        return int(self.totals[-1])

    def means(self) -> dict[str, float]:
        """Returns the mean of each metric over all images added."""
        *sums, count = self.totals.tolist()
        return {name: value / count for name, value in zip(self.names, sums, strict=True)}
