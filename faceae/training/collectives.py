"""Reductions over the ranks of a run. Without a process group each is the identity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


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
