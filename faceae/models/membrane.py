"""Continues known values smoothly into a hole, as a membrane does that is fixed at the hole's edge.

A membrane without load satisfies Laplace's equation: each value in the hole is the mean of its neighbours. It is
computed from coarse to fine (the pull-push of Gortler et al., The Lumigraph, 1996, with a few Jacobi iterations at each
level), which is nearly exact, and costs the same whatever the hole is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_COARSEST = 2
"""Side in pixels at which the hole is filled with the mean of what is known."""

_AT_A_TIME = 2**20
"""Values in the images that a CPU continues together: with more of them, memory is what it waits for."""


@torch.no_grad()
def extend(values: Tensor, known: Tensor, iterations: int = 4) -> Tensor:
    """Continues values into the unknown pixels of a batch of images.

    Args:
        values: (N, C, H, W) float, anything where unknown.
        known: (N, 1, H, W) float, 1 where the value is known and 0 elsewhere. Where nothing is known, the result is 0.
        iterations: Jacobi iterations at each level.

    Returns:
        (N, C, H, W) float: the values where they are known, a smooth continuation elsewhere.
    """
    values = (values * known).contiguous()  # channels_last takes up to twice as long
    if values.device.type != "cpu" or torch.compiler.is_exporting():
        return _extend(values, known, iterations)
    images = max(1, _AT_A_TIME // values.shape[1:].numel())
    parts = zip(values.split(images), known.split(images), strict=True)
    return torch.cat([_extend(*part, iterations) for part in parts])


def _extend(values: Tensor, known: Tensor, iterations: int) -> Tensor:
    height, width = values.shape[-2:]
    if min(height, width) <= _COARSEST:
        return torch.where(known > 0, values, values.sum((2, 3), True) / known.sum((2, 3), True).clamp_min(1))
    if height % 2 or width % 2:
        even = (0, width % 2, 0, height % 2)
        return _extend(F.pad(values, even), F.pad(known, even), iterations)[..., :height, :width]
    share = F.avg_pool2d(known, 2)
    coarse = _extend(F.avg_pool2d(values, 2) / share.clamp_min(1 / 8), (share > 0).to(share.dtype), iterations)
    filled = torch.where(known > 0, values, F.interpolate(coarse, scale_factor=2, mode="bilinear"))
    neighbours = _sum_around(torch.ones_like(filled[:1, :1]))
    for _ in range(iterations):
        filled = torch.where(known > 0, values, _sum_around(filled) / neighbours)
    return filled


def _sum_around(values: Tensor) -> Tensor:
    """Adds up the 3x3 values around each place; on a CPU in half the time of `F.avg_pool2d`."""
    rows = F.pad(values, (0, 0, 1, 1))
    rows = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    padded = F.pad(rows, (1, 1))
    return padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
