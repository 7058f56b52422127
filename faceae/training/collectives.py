"""Reductions over the ranks of a run. Without a process group each is the identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor


def rank() -> int:
    """Returns this process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Returns the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce(tensor: Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Reduces a tensor over all ranks, in place, and returns it."""
    if dist.is_initialized():
        dist.all_reduce(tensor, op)
    return tensor


def any_rank(flag: bool, device: torch.device) -> bool:
    """Returns whether the flag is set on any rank, for decisions that all ranks must take together."""
    return bool(all_reduce(torch.tensor(float(flag), device=device), dist.ReduceOp.MAX))


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replaces float tensors by their mean over all ranks, in one reduction."""
    if not tensors or world_size() == 1:
        return
    mean = all_reduce(torch.cat([tensor.flatten() for tensor in tensors])) / world_size()
    for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


class RowExchange:
    """Exchanges rows of bytes between the ranks, in a process group of its own.

    So a thread can call it while the training step exchanges gradients in the default group. Gloo takes the rows from
    and to main memory, whatever device the ranks train on.
    """

    def __init__(self) -> None:
        """Creates the process group; all ranks call this together."""
        self.group = dist.new_group(backend="gloo")

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401
        """Returns the values of all ranks."""
        values = [None] * world_size()
        dist.all_gather_object(values, value, self.group)
        return values

    def __call__(self, rows: NDArray[np.uint8], sent: list[int], received: list[int]) -> NDArray[np.uint8]:
        """Exchanges rows, see `faceae.data.loader.Exchange`."""
        arrived = torch.empty((sum(received), rows.shape[1]), dtype=torch.uint8)
        dist.all_to_all_single(arrived, torch.from_numpy(rows), received, sent, group=self.group)
        return arrived.numpy()
