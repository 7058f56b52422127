"""Reductions over the ranks of a run. Without a process group each is the identity."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


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
def average_buffers(network: nn.Module) -> None:
    """Averages batch norm statistics over ranks, so that all of them hold the same network.

    Called after every step: then neither the moment of a checkpoint nor a resume changes the statistics, not even in
    their last digits, which validation in bfloat16 would turn into differences of 1e-5. On GPUs SyncBatchNorm already
    has the same statistics on all ranks.
    """
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point() and not buffer.is_cuda]
    if not buffers or world_size() == 1:
        return
    mean = all_reduce(torch.cat([buffer.flatten() for buffer in buffers])) / world_size()
    for buffer, part in zip(buffers, mean.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(part.view_as(buffer))
